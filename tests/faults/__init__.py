"""Faults of replication, and what must be true after each: points, what strikes there, invariants."""

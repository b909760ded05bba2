"""Seeded bugs that lose data or trust: the unit tests must catch every one. `python -m tests.mutants`."""

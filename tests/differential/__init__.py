"""The real sanoid as an oracle: what it would take and destroy, and what we would, on the same worlds."""

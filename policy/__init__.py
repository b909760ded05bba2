"""Pure: which snapshots a dataset gets and keeps, and why."""

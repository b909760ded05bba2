"""What things cost, beside what others do the same work with. `python -m tests.bench [--quick] [--only NAME]`."""

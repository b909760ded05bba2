"""What root of a source tries against a vault, with the real keys. Runs inside a guest; does without the lab."""

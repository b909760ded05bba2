"""What to send where (pure), and the shells that move the streams."""

"""What the console and its API read of a running service, and do to it."""

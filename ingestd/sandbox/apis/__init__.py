"""The event APIs of the sandbox."""

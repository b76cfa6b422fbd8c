"""A local stand-in for the remote APIs, with faults to order."""

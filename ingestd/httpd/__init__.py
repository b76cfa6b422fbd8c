"""The HTTP server, apart from what it serves."""

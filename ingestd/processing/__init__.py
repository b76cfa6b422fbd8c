"""Deduplicate, validate, route: pure and synchronous, no I/O."""

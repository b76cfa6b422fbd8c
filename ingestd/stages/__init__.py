"""Dedup, validate, batch: pure and synchronous, no I/O."""

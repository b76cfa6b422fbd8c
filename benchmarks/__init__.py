"""Benchmarks: whole processes against a receiver on loopback. ``python -m benchmarks.run`` starts all."""

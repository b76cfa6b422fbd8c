"""Log, metrics, audit file, health: what the process tells of itself."""

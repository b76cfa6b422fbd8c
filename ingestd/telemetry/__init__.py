"""Log, metrics, audit file, health: what the process reports about itself."""

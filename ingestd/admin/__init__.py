"""The admin address: metrics, health, status."""

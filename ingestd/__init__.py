"""ingestd: gets every event to where it belongs, once."""

__version__ = "0.1.0"

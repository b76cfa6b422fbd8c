"""Use cases of dead letters: list, export, retry, purge."""

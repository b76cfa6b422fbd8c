"""Files that live: written, rotated and dropped in directories that ``ingestd run`` watches."""

"""The kinds of Genesys Cloud that are plain: an object at a path."""

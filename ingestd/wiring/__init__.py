"""Builds the pipeline from the settings. ``pipeline.py`` is the map: read it first."""

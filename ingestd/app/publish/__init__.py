"""Sending one event by hand."""

"""A local fake of the event APIs, with fault injection."""

"""A replay by several processes: each has its part of the events, and a state directory."""

"""The HTTP source: the wire (``server``, ``connection``), what it carries (``request``), what that means."""

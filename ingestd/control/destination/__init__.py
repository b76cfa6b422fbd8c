"""Kind ``destination``."""

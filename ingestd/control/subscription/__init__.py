"""Kind ``subscription``."""

"""Kind ``trigger``."""

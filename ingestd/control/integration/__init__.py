"""Kind ``integration``."""

"""Kind ``target``."""

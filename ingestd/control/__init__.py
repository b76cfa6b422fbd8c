"""The remote control plane as resources: read them, compare them with what is wanted, make it so."""

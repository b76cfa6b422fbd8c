"""What sources have in common that read from a broker."""

"""What edges and workers do, and the commands beside them."""

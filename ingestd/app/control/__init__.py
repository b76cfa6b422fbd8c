"""Use cases of the control plane: session, plans, resources."""

"""The engine of the control plane: documents, plans, apply, state. It knows no kind of resource."""

"""The control plane of the sandbox."""

"""Principal components, rotations and angles between subspaces."""

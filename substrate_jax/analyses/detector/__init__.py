"""Which domain an image is from, and whether it is from none."""

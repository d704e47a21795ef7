"""Nearest neighbors, and measures made of them."""

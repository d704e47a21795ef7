"""Heads that tell classes apart from a few labeled rows, fitted to all episodes at once."""

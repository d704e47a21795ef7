"""Domains against each other by the substrates of one panel, with controls."""

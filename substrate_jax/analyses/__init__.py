"""Analyses of a panel's features: one folder each, computation and page side by side."""

"""Launchers: `python -m experiments.NAME` from a checkout."""

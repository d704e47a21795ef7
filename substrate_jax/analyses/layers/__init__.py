"""Layers of encoders against each other."""

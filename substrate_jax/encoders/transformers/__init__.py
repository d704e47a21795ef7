"""Checkpoints in transformers' format: configurations, keys, options, files."""

"""Scores of transferability: one number for an encoder and a target."""

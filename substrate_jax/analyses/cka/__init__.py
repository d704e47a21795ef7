"""Encoders against each other on one domain: CKA, calibration, neighbors, separation."""

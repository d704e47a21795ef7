"""Centered kernel alignment: exact, streaming, weighted, of Gaussian kernels."""

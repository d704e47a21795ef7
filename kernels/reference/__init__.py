"""For tests: float64 definitions to hold the kernels against, in plain NumPy."""

"""Float64 definitions that tests hold the kernels against; plain NumPy, not for use."""

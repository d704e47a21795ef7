"""The installed command, substrate-jax: one entry for all launchers."""

"""Every sharded program compiled for TPU pods, by the compiler that drives them, on any host."""

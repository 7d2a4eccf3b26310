"""Single kernels as targets, each beside its reference."""

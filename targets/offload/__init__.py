"""Offload runtimes as targets: what they move away must come back bit-equal."""

"""The parts of a compiler as targets: frontends, passes and code generators, each beside its reference."""

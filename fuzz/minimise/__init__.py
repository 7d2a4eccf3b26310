"""The minimiser: the smallest case that fails for the same reason."""

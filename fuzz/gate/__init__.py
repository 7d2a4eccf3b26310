"""The gate: a change is compared with what it is based on; what only the change does wrong blocks a merge."""

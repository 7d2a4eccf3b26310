"""Judge observations: pass, fail, unknown or infra, never a boolean."""

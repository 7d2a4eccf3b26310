"""Pages for a browser: one file for a campaign and one for a bug, whole in itself."""

"""Reports for a project's tracker, which a person reads and files."""

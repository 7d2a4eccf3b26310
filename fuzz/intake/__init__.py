"""Files that people hand over, read in a process of their own: what they compile, as cases."""

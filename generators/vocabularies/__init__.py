"""What to propose next, one module per vocabulary."""

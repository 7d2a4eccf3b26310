"""What every other room of ``fuzz`` may use: the values that flow between them, and small pieces."""

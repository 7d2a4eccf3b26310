"""What a case is, what it means, and where cases, rules and bugs are kept."""

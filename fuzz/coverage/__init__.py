"""What a case reaches for the first time of the software under test: sources of coverage, and what they report."""

"""Which parts of the software under test a case reaches for the first time: sources of coverage, and what they report."""

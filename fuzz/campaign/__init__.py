"""Campaigns: where jobs come from, what becomes of their answers, and findings until they are bugs."""

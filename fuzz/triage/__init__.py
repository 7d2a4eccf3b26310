"""Triage: what happens to a finding once it is minimised."""

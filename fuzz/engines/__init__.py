"""Fuzzing engines of others, which decide what a campaign runs next."""

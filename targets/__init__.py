"""Run cases: the things under test, each behind the same protocol."""

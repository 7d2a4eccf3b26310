"""The plugin for pytest: stored cases replayed as tests."""

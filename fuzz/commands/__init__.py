"""The commands of ``shakeout``: what each takes, and what it calls."""

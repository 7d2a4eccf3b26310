"""A package with a compiler (``compiler.py``) that Shakeout does not know; nothing heavy is imported here."""

"""``python -m shakeout`` is the command ``shakeout``."""

from shakeout.fuzz.cli import main

if __name__ == "__main__":
    raise SystemExit(main())

"""``python -m shakeout`` is the command ``shakeout``."""

import sys

if __name__ == "__main__":
    # -m puts the working directory first, where a folder torch/ or a file random.py would take the place of what is
    # installed. Nothing else is imported before.
    if not sys.flags.safe_path:
        del sys.path[0]
    from shakeout.fuzz.cli import main

    raise SystemExit(main())

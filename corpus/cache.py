"""Where Shakeout keeps what it can make again: below SHAKEOUT_CACHE, or in the user's cache directory."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["directory"]


def directory() -> Path:
    """The directory; it need not exist."""
    if root := os.environ.get("SHAKEOUT_CACHE"):
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shakeout"

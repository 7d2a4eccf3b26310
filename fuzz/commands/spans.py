"""Spans of time as people write them on the command line."""

from __future__ import annotations

import argparse
import re

__all__ = ["seconds"]

_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|min|m|s)", re.ASCII)
_SPAN = re.compile(rf"(?:{_PART.pattern})+", re.ASCII)


def seconds(text: str) -> float:
    """A span of time such as ``8h``, ``90m`` or ``1h30m``, in seconds; for argparse."""
    fits = _SPAN.fullmatch(text) is not None
    found = sum(float(count) * _UNITS[unit] for count, unit in _PART.findall(text)) if fits else 0.0
    if not found > 0:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 10m or 1h30m, found {text!r}")
    return found

"""Counts what could not be looked at while learning: an error costs its own call, and not the operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["Errors"]

#: Characters of an error's first line that are kept.
LONGEST = 200


class Errors:
    """How many calls met which error.

    Attributes:
        counts: number of calls by the error's class and first line.
    """

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self.counts = Counter(known or {})

    def __call__(self, error: Exception) -> None:
        """Count an error."""
        line = (str(error).splitlines() or [""])[0][:LONGEST]
        self.counts[f"{type(error).__name__}: {line}"] += 1

"""What goes wrong while learning: an error costs its own call and is counted; what a person can put right is said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from shakeout.fuzz.ground.exits import Exit

__all__ = ["CannotLearn", "Errors"]

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


class CannotLearn(Exception):
    """What somebody can put right: one line, and the status to exit with."""

    def __init__(self, text: str, status: Exit = Exit.USAGE) -> None:
        super().__init__(text)
        self.status = status

"""Choices: the only source of randomness, whoever makes them.

Everything that is drawn goes through ``Choices.integer``; the rest is derived from it, so a byte string or Hypothesis
can stand in for the seeded generator. Low answers should be the simple ones: a string of zeros then draws the
simplest case, and shrinking towards it means something.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["BytesChoices", "Choices", "RecordedChoices", "SeededChoices"]

T = TypeVar("T")

_RESOLUTION = 1 << 16


class Choices(ABC):
    """A stream of decisions. The same stream on the same versions gives the same case."""

    @abstractmethod
    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included.

        Raises:
            ValueError: the range is empty.
        """

    def fraction(self) -> float:
        """A number in [0, 1), a multiple of 2**-16."""
        return self.integer(0, _RESOLUTION - 1) / _RESOLUTION

    def boolean(self, probability: float) -> bool:
        """True with this probability; certain answers draw nothing."""
        if probability <= 0:
            return False
        if probability >= 1:
            return True
        # Large fractions mean True, so that a string of zeros answers No.
        return self.fraction() >= 1 - probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each as likely."""
        if not items:
            raise ValueError("nothing to pick from")
        return items[self.integer(0, len(items) - 1)]

    def weighted(self, pairs: Sequence[tuple[T, float]]) -> T:
        """One of the items, as likely as its weight says."""
        sums = []
        total = 0.0
        for _, weight in pairs:
            total += weight
            sums.append(total)
        if not total > 0:
            raise ValueError("no item has a positive weight")
        return pairs[min(bisect_right(sums, self.fraction() * total), len(pairs) - 1)][0]


class SeededChoices(Choices):
    """Decisions of a generator with a seed; only ``random.Random.random`` is used, which Python keeps stable."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        if low > high:
            raise ValueError(f"no whole number lies between {low} and {high}")
        return low + int(self._random() * (high - low + 1))

    def fraction(self) -> float:
        """A number in [0, 1)."""
        return self._random()

    def boolean(self, probability: float) -> bool:
        """True with this probability; certain answers draw nothing."""
        return probability > 0 and (probability >= 1 or self._random() >= 1 - probability)

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, each as likely."""
        if not items:
            raise ValueError("nothing to pick from")
        return items[int(self._random() * len(items))]


class BytesChoices(Choices):
    """Decisions that are read from bytes; where they end, everything is as simple as it can be.

    A number takes as many bytes as its range needs, the least significant first, and none where there is nothing to
    decide. So all bytes mean something, and a byte that is changed changes one decision.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        count = _bytes_for(low, high)
        read = self._data[self._place : self._place + count]
        self._place += count
        return low + int.from_bytes(read, "little") % (high - low + 1)


class RecordedChoices(Choices):
    """Decisions of others, and the bytes from which ``BytesChoices`` reads the same ones."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._bytes = bytearray()

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        count = _bytes_for(low, high)
        chosen = self._choices.integer(low, high)
        self._bytes += (chosen - low).to_bytes(count, "little")
        return chosen

    @property
    def data(self) -> bytes:
        """What was decided so far, without what is as simple as it can be at the end."""
        return bytes(self._bytes).rstrip(b"\0")


def _bytes_for(low: int, high: int) -> int:
    if low > high:
        raise ValueError(f"no whole number lies between {low} and {high}")
    return ((high - low).bit_length() + 7) // 8

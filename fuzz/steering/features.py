"""What a case added, as numbers: all that steering knows of sources of coverage."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from shakeout.fuzz.coverage.hits import Hits, by_source

__all__ = ["Added", "added", "packed", "unpacked"]

#: The source that tells what a case is made of, by the case alone.
SPACE = "space"


@dataclass(frozen=True, slots=True)
class Added:
    """What no case before had shown.

    Attributes:
        counts: how many features, by source.
        keys: the features, each a number below 2**64 that is the same in every process; not those of the space of
            cases, which every case tells whole and by name.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    keys: frozenset[int] = frozenset()

    @property
    def reward(self) -> float:
        """How much that is worth: the doublings of each source.

        A case that compiles something for the first time reaches ten thousand blocks at once, most of them because of
        the first; by their number it would outweigh for hours whatever is found behind it, and a source that tells
        blocks would outweigh one that tells operators.
        """
        return sum(math.log2(1 + count) for count in self.counts.values())


def added(new: Iterable[Hits]) -> Added:
    """What hits say that are new to the campaign."""
    every = [hits for hits in new if hits.keys]
    return Added(by_source(every), frozenset(key for hits in every if hits.source != SPACE for key in hits.features()))


def packed(keys: Collection[int]) -> bytes:
    """Numbers below 2**64 as bytes, eight for each, ascending."""
    return array("Q", sorted(keys)).tobytes()


def unpacked(data: bytes) -> frozenset[int]:
    """Read what ``packed`` wrote.

    Raises:
        ValueError: it is nothing of the kind.
    """
    return frozenset(array("Q", data))

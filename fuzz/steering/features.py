"""What a case added, as numbers: all that steering knows of sources of coverage."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from shakeout.fuzz.coverage.hits import Hits, by_source

__all__ = ["SPACE", "Added", "added", "packed", "unpacked"]

#: The source that tells what a case is made of, by the case alone.
SPACE = "space"


#: Kinds of features that say nothing of the case that is told them: the blocks of a function are watched once some case
#: has entered it, and the next one that does is told them, whatever it is. To be credited for them made it pay to run
#: the same again.
LATE = frozenset({"blocks"})


@dataclass(frozen=True, slots=True)
class Added:
    """What no case before had shown.

    Attributes:
        counts: how many features, by source.
        keys: the features, each a number below 2**64 that is the same in every process; not those of the space of
            cases, which every case tells whole and by name.
        reward: how much that is worth: the square root of their number, for each source, without what comes ``LATE``. A
            case that compiles something for the first time reaches thousands of functions at once, most of them because
            of the first, and a source that tells lines outnumbers one that tells operators.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    keys: frozenset[int] = frozenset()
    reward: float = 0.0


def added(new: Iterable[Hits]) -> Added:
    """What hits say that are new to the campaign."""
    every = [hits for hits in new if hits.keys]
    credited = by_source(hits for hits in every if hits.kind not in LATE)
    keys = frozenset(key for hits in every if hits.source != SPACE for key in hits.features())
    return Added(by_source(every), keys, sum(map(math.sqrt, credited.values())))


def packed(keys: Collection[int]) -> bytes:
    """Numbers below 2**64 as bytes, eight for each, ascending."""
    return array("Q", sorted(keys)).tobytes()


def unpacked(data: bytes) -> frozenset[int]:
    """Read what ``packed`` wrote.

    Raises:
        ValueError: it is nothing of the kind.
    """
    return frozenset(array("Q", data))

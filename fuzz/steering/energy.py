"""How often an interesting case is gone on from, and which of many are enough."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from shakeout.fuzz.steering.store import Entry

__all__ = ["covering", "energy", "features_of"]

T = TypeVar("T")

#: Seconds that any case costs, beside its own.
OVERHEAD = 0.05

#: The rarest features of a case that count. A long program has more features than a short one, of which most are
#: common; its energy should not grow with its length.
RAREST = 8


def energy(entry: Entry, counts: Mapping[str, int]) -> float:
    """Weight of an entry among others: how rare what it shows is, and how much came of it, for a second.

    The rarity of a feature is one divided by how many cases had it, as in Entropic (Böhme, Manès and Cha, ESEC/FSE
    2020), so that what few cases have shown is gone on from until it is no longer rare. What was chosen often and
    yielded little loses its energy.

    Args:
        entry: with the features of its case.
        counts: in how many cases of the campaign each feature was seen.
    """
    rarities = sorted((1 / max(counts.get(word, 1), 1) for word in entry.words), reverse=True)[:RAREST]
    rarity = sum(rarities) + entry.reward / 10
    worn = (1 + entry.yielded) / (1 + entry.chosen)
    return rarity * worn / (entry.seconds + OVERHEAD)


def features_of(entry: Entry) -> frozenset[int]:
    """What an entry is known to show: all of it in the space of cases, and what it was the first to reach elsewhere.

    What else it reaches in code that another case had reached before, nobody was told; so an entry that was the first
    somewhere is in every covering set.
    """
    return entry.keys | {_number(word) for word in entry.words}


def _number(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")


def covering(entries: Sequence[T], features: Callable[[T], frozenset[int]], cost: Callable[[T], float]) -> list[T]:
    """Few and quick entries that together have every feature that all have: no one of them can be left out.

    The greedy answer to set cover: that with most new features for a second comes next. Then each that the later ones
    have made superfluous goes.

    Args:
        entries: of them.
        features: what one has.
        cost: of one, in seconds.
    """
    left = set().union(*map(features, entries)) if entries else set()
    waiting, found = list(entries), []
    while left and waiting:
        best = max(waiting, key=lambda one: len(features(one) & left) / (cost(one) + OVERHEAD))
        waiting.remove(best)
        if not (new := features(best) & left):
            break
        left -= new
        found.append(best)
    for one in list(found):
        others = set().union(*(features(other) for other in found if other is not one))
        if features(one) <= others:
            found.remove(one)
    return found

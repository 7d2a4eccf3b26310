"""What compilers decided: passes that changed something, patterns that fired, as the targets' witnesses tell it."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.source import Armed

if TYPE_CHECKING:
    from shakeout.corpus.case import Case
    from shakeout.targets.target import Witness

__all__ = ["PassSource"]

#: Characters of a word that are kept: what a pass did to a large graph may be a long list.
_LONGEST = 240


class PassSource:
    """Listens to the compilers of one process, and of those that it forks.

    Args:
        witnesses: each ``MODULE:NAME`` of a ``shakeout.targets.target.Witness``.
    """

    name = "passes"

    def __init__(self, witnesses: Sequence[str]) -> None:
        self._witnesses = tuple(dict.fromkeys(witnesses))
        self._armed = False
        self._after: list[Callable[[], None]] = []
        #: By compiler, kind and word: whether it happened, or only could have.
        self._fresh: dict[tuple[str, str, str], bool] = {}
        self._told: dict[tuple[str, str, str], bool] = {}
        self._known: dict[tuple[str, str, str], bool] = {}
        self._exist: set[tuple[str, str, str]] = set()

    def arm(self) -> tuple[Armed, ...]:
        """Have every compiler tell."""
        if self._armed:
            return ()
        self._armed = True
        return tuple(map(self._call, self._witnesses))

    def _call(self, witness: str) -> Armed:
        began = time.monotonic()
        module, _, unit = witness.partition(":")

        def tell(kind: str, word: str, happened: bool = True, /) -> None:
            key = unit, kind, word if len(word) <= _LONGEST else word[:_LONGEST] + "…"
            if not happened:
                self._exist.add(key)
            if not self._told.get(key, False) and (happened or key not in self._told):
                self._told[key] = self._fresh[key] = happened

        try:
            called: Witness = getattr(importlib.import_module(module), unit)
            after = called(tell)
        except Exception as error:
            return Armed(f"passes of {unit}", reason=f"{type(error).__name__}: {error}")
        if after is not None:
            self._after.append(after)
        return Armed(f"passes of {unit}", seconds=time.monotonic() - began)

    def begin(self, case: Case) -> None:
        """Nothing: they tell by themselves."""

    def end(self, case: Case, status: str) -> None:
        """Ask for what is only known now."""
        for after in self._after:
            after()

    def take(self) -> tuple[Hits, ...]:
        """What happened for the first time in this process since the last call, and what could have."""
        fresh, self._fresh = self._fresh, {}
        places: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
        for key, happened in sorted(fresh.items()):
            known = self._known.get(key)
            if known is None or (happened and not known):
                unit, kind, word = key
                keys, exist = places.setdefault((unit, kind), ([], []))
                (keys if happened else exist).append(word)
        return tuple(
            Hits(self.name, unit, unit, kind, tuple(keys), exist=tuple(exist))
            for (unit, kind), (keys, exist) in places.items()
        )

    def rearm(self, keys: Collection[int]) -> frozenset[int]:
        """None: what was told is not told again."""
        return frozenset()

    def look_closer(self, seconds: float) -> None:
        """Nothing."""

    def before_fork(self, known: Sequence[Hits]) -> None:
        """What happened in this process did not in a case; what could have is worth telling all the same."""
        for after in self._after:
            after()
        for hits in known:
            if hits.source == self.name:
                self._known.update(dict.fromkeys(((hits.unit, hits.kind, word) for word in hits.exist), False))
                self._known.update(dict.fromkeys(((hits.unit, hits.kind, str(word)) for word in hits.keys), True))
        self._told = dict.fromkeys(self._exist, False)
        self._fresh = {key: False for key in self._told if key not in self._known}

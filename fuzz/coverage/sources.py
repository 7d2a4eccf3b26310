"""All sources of coverage of one process together. None of them may end a case: one that raises is gone on without."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shakeout.fuzz.coverage.log import Follower
from shakeout.fuzz.coverage.source import Armed, Source

if TYPE_CHECKING:
    from shakeout.corpus.case import Case
    from shakeout.fuzz.coverage.hits import Hits

__all__ = ["Sources", "Wanted", "sources"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be watched.

    Attributes:
        libraries: shared libraries, by names of files, patterns of them like ``libtvm*.so``, or paths.
        modules: Python packages or modules, by names like ``torch._inductor``.
        traced: whether those modules are traced to the line and arc, for a report, which is dear.
        witnesses: of what compilers decide, each ``MODULE:NAME`` of a ``shakeout.targets.target.Witness``.
        space: operators, edges, dtypes and the like of the cases themselves.
    """

    libraries: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    traced: bool = False
    witnesses: tuple[str, ...] = ()
    space: bool = False

    def __bool__(self) -> bool:
        return self != Wanted()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wanted:
        """Read what ``to_json`` wrote."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return cls(**values)


def sources(wanted: Wanted, log: Path | None = None) -> Sources:
    """The sources that tell what is wanted; ``log``: where what the campaign has hit stands, as ``Sources`` has it."""
    # Each is loaded only where it is asked for.
    every: list[Source] = []
    if wanted.space:
        from shakeout.fuzz.coverage.space import SpaceSource

        every.append(SpaceSource())
    if wanted.witnesses:
        from shakeout.fuzz.coverage.passes import PassSource

        every.append(PassSource(wanted.witnesses))
    if wanted.libraries:
        from shakeout.fuzz.coverage.native import NativeSource

        every.append(NativeSource(wanted.libraries))
    if wanted.modules and wanted.traced:
        from shakeout.fuzz.coverage.traced import TracedSource

        every.append(TracedSource(wanted.modules))
    elif wanted.modules:
        from shakeout.fuzz.coverage.python import PythonSource

        every.append(PythonSource(wanted.modules))
    return Sources(every, log)


class Sources:
    """Sources of coverage, armed, begun and asked together.

    Args:
        every: the sources; the last begun is the first ended, so what measures most closely comes last.
        log: file with what the campaign has hit (``shakeout.fuzz.coverage.log``), or None.
    """

    def __init__(self, every: Sequence[Source] = (), log: Path | None = None) -> None:
        self._every = list(every)
        self._follower = None if log is None else Follower(log)
        self._gone: list[Armed] = []
        self._again: frozenset[int] = frozenset()

    def arm(self) -> Iterator[Armed]:
        """Arm what can be armed by now, and tell of each."""
        for source in tuple(self._every):
            yield from self._of(source, source.arm) or ()
            yield from self.gone()

    def begin(self, case: Case) -> None:
        """A case is about to run."""
        for source in tuple(self._every):
            self._of(source, partial(source.begin, case))

    def end(self, case: Case, status: str) -> None:
        """It has run, with that status."""
        for source in reversed(tuple(self._every)):
            self._of(source, partial(source.end, case, status))

    def take(self) -> tuple[Hits, ...]:
        """What was hit for the first time in this process since the last call."""
        return tuple(hits for source in tuple(self._every) for hits in self._of(source, source.take) or ())

    def rearm(self, keys: Collection[int]) -> None:
        """Have these told again if the next case hits them, where that can be done; ``showed`` then says how many."""
        every = [self._of(source, partial(source.rearm, keys)) or frozenset() for source in tuple(self._every)]
        self._again = frozenset().union(*every)

    def showed(self, every: Sequence[Hits]) -> tuple[int, int]:
        """How many were armed again since the last call, and how many of those are among the hits."""
        again, self._again = self._again, frozenset()
        return len(again), len(again.intersection(one for hits in every for one in hits.features())) if again else 0

    def look_closer(self, seconds: float) -> None:
        """Between two cases: each may look closer for so long."""
        for source in tuple(self._every):
            self._of(source, partial(source.look_closer, seconds))

    def before_fork(self) -> None:
        """Children tell what this process hit itself, but not what the campaign knows by now."""
        known = () if self._follower is None or not self._every else tuple(self._follower.rows())
        for source in tuple(self._every):
            self._of(source, partial(source.before_fork, known))

    def gone(self) -> tuple[Armed, ...]:
        """Sources that failed since the last call, and why."""
        gone, self._gone = tuple(self._gone), []
        return gone

    def _of(self, source: Source, work: Callable[[], _T]) -> _T | None:
        """Something of one source, which goes if it fails."""
        try:
            return work()
        except Exception as error:
            traceback.print_exc()
            self._every.remove(source)
            self._gone.append(Armed(source.name, reason=f"{type(error).__name__}: {error}"))
            return None

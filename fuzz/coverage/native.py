"""Native coverage: functions and basic blocks of shared libraries as they are installed, stripped or not.

Every function is armed at once, its blocks when it was first hit. What was hit costs a trap of some microseconds and
nothing ever after, so a campaign's steady state runs at full speed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fnmatch
import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shakeout.corpus import cache
from shakeout.fuzz.coverage.blocks import BlockLists, available
from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.image import Functions, Image, functions, loaded
from shakeout.fuzz.coverage.source import Armed
from shakeout.fuzz.coverage.traps import Places, Traps, Unavailable, traps

if TYPE_CHECKING:
    import numpy.typing as npt

    from shakeout.corpus.case import Case

__all__ = ["NativeSource"]

#: They run with all signals blocked while they start threads and processes; a breakpoint there ends the process.
_NEVER = ("libc.so*", "libc-*.so", "ld-linux*", "ld-*.so*", "libpthread*")

#: Seconds that a process which forks workers looks closer at what the campaign hit, before each fork.
_LOOK = 2.0

#: Functions that are looked at between two looks at the clock: some milliseconds.
_AT_ONCE = 32


@dataclass(slots=True, eq=False)
class _Library:
    """A library that is armed.

    Attributes:
        image: the library.
        functions: that were armed.
        areas: numbers of its segments.
        lists: where its blocks are found; None without a disassembler.
        known: places that the campaign has hit, which are not armed.
        waiting: functions that were hit and not looked at closer yet.
        looked: functions whose blocks are armed.
    """

    image: Image
    functions: Functions
    areas: list[int]
    lists: BlockLists | None
    known: set[int]
    waiting: deque[int] = field(default_factory=deque)
    looked: set[int] = field(default_factory=set)


class NativeSource:
    """Watches shared libraries of one process, and of those that it forks.

    Args:
        libraries: names of files, or patterns of them like ``libtvm*.so``, or paths.
        blocks: whether to watch basic blocks as well as functions.
    """

    name = "native"

    def __init__(self, libraries: Sequence[str], *, blocks: bool = True) -> None:
        self._patterns = tuple(libraries)
        self._blocks = blocks
        self._known: dict[str, set[int]] = {}
        self._libraries: list[_Library] = []
        self._owners: dict[int, _Library] = {}
        self._done: set[str] = set()  # paths of what is armed, or never will be
        self._broken = False
        self._loads = -1
        self._traps: Traps | None = None

    # --- arming -----------------------------------------------------------------------------------------------------

    def arm(self) -> tuple[Armed, ...]:
        """Arm what is loaded by now and wanted; what became of each, and nothing the next time."""
        if self._broken or not self._patterns:
            return ()
        told: list[Armed] = []
        try:
            if self._traps is None:
                self._traps = traps()
                if self._blocks and (why := available()):
                    self._blocks = False
                    told.append(Armed("blocks", reason=why))
            self._loads = self._traps.loads()
            self._traps.keep_open()
            for image in list(loaded(self._wanted)):
                self._done.add(image.path)
                told.append(self._arm(self._traps, image))
            self._traps.handle()
        except Unavailable as error:
            self._broken = True
            told.append(Armed(self.name, reason=str(error)))
        return tuple(told)

    def _wanted(self, path: str) -> bool:
        if path in self._done:
            return False
        if not (named := self._named(path)):
            self._done.add(path)
        return named

    def _named(self, path: str) -> bool:
        name = Path(path).name
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in _NEVER):
            return False
        return any(
            os.path.realpath(pattern) == os.path.realpath(path)
            if "/" in pattern
            else fnmatch.fnmatchcase(name, pattern)
            for pattern in self._patterns
        )

    def _arm(self, traps: Traps, image: Image) -> Armed:
        began = time.monotonic()
        try:
            found = functions(image)
            # What is armed must stay where it is.
            with contextlib.suppress(OSError):
                ctypes.CDLL(image.path, os.RTLD_NOLOAD | os.RTLD_NODELETE | os.RTLD_NOW)
            areas = [traps.add(image.bias, one.start, one.length, image.path, one.offset) for one in image.segments]
            lists = BlockLists(cache.directory() / "coverage", found.identity) if self._blocks else None
        except Unavailable as error:
            return Armed(image.name, reason=str(error))
        if lists is not None:
            lists.prune()
            lists.follow()
        library = _Library(image, found, areas, lists, self._known.setdefault(found.identity, set()))
        self._libraries.append(library)
        self._owners.update(dict.fromkeys(areas, library))
        traps.handle()
        for index, area in enumerate(areas):
            traps.arm(area, found.starts[found.segment == index])
        if library.known:
            self._meet(traps, library, library.known)
        return Armed(image.name, len(found.starts), seconds=time.monotonic() - began)

    # --- what was hit -----------------------------------------------------------------------------------------------

    def begin(self, case: Case) -> None:
        """Nothing: what is armed is armed."""

    def end(self, case: Case, status: str) -> None:
        """Nothing."""

    def take(self) -> tuple[Hits, ...]:
        """What was hit for the first time in this process since the last call."""
        hits = []
        for library, places in self._taken():
            inside = library.functions.begin(places)
            entered = places[inside].tolist()
            library.waiting.extend(entered)
            identity, name = library.functions.identity, library.image.name
            if entered:
                of = len(library.functions.starts)
                hits.append(Hits(self.name, identity, name, "functions", tuple(entered), of))
            if blocks := places[~inside].tolist():
                hits.append(Hits(self.name, identity, name, "blocks", tuple(blocks)))
        return tuple(hits)

    def rearm(self, keys: Collection[int]) -> frozenset[int]:
        """Arm places again that were hit, of libraries that are armed; what is no place of them is left alone."""
        found: set[int] = set()
        if self._traps is None or self._broken:
            return frozenset()
        for library in self._libraries:
            functions = library.functions
            for kind in ("functions", "blocks"):
                one = Hits(self.name, functions.identity, library.image.name, kind)
                places = np.array(one.numbers_among(keys), np.uint32)
                # They come from a file: a breakpoint that is not where an instruction begins would change the program.
                sure = functions.begin(places) if kind == "functions" else self._blocks_among(library, places)
                for area, some in _by_area(library, places[sure]):
                    self._traps.arm(area, some)
                    found.update(replace(one, keys=tuple(some.tolist())).features())
        return frozenset(found)

    def _blocks_among(self, library: _Library, places: Places) -> npt.NDArray[np.bool_]:
        """Of each place, whether a block of a function begins there for certain."""
        functions, lists, traps = library.functions, library.lists, self._traps
        sure = np.zeros(len(places), bool)
        if lists is None or traps is None or not len(places):
            return sure
        within = np.searchsorted(functions.starts, places, "right") - 1
        for index in np.unique(within[within >= 0]).tolist():
            start, size = int(functions.starts[index]), int(functions.sizes[index])
            area = library.areas[int(functions.segment[index])]
            sure |= (within == index) & np.isin(places, lists.of(start, traps.original(area, start, size)))
        return sure

    def look_closer(self, seconds: float) -> None:
        """Arm the blocks of functions that were hit, and what was loaded meanwhile."""
        if self._traps is None or self._broken:
            return
        try:
            self._traps.handle()
        except Unavailable:
            self._broken = True
            return
        if self._traps.loads() != self._loads:
            self.arm()
        self._look(self._traps, time.monotonic() + seconds)

    def before_fork(self, known: Sequence[Hits]) -> None:
        """Arm again what this process hit itself, and arm no more what the campaign has hit by now."""
        if self._traps is None or self._broken:
            return
        for library, places in self._taken():
            fresh = [place for place in places.tolist() if place not in library.known]
            for area, some in _by_area(library, fresh):
                self._traps.arm(area, some)
        for library in self._libraries:
            if library.lists is not None:
                library.lists.follow()
        for row in known:
            if row.source == self.name:
                met = [key for key in row.keys if isinstance(key, int)]
                self._known.setdefault(row.unit, set()).update(met)
                for library in self._libraries:
                    if library.functions.identity == row.unit:
                        self._meet(self._traps, library, met)
        self._look(self._traps, time.monotonic() + _LOOK)

    def _meet(self, traps: Traps, library: _Library, places: Iterable[int]) -> None:
        """The campaign knows these places: they are not armed, and functions among them are looked at closer."""
        every = np.unique(np.fromiter(places, np.uint32))
        for area, some in _by_area(library, every):
            traps.disarm(area, some)
        entered = every[library.functions.begin(every)]
        library.waiting.extend(entered.tolist())

    def _taken(self) -> Iterator[tuple[_Library, Places]]:
        """What was hit, by library."""
        if self._traps is None:
            return
        found: dict[int, list[Places]] = {}
        for area, places in self._traps.take().items():
            found.setdefault(self._libraries.index(self._owners[area]), []).append(places)
        for index, parts in sorted(found.items()):
            yield self._libraries[index], np.unique(np.concatenate(parts))

    def _look(self, traps: Traps, until: float) -> None:
        """Arm the blocks of functions that wait for it, as long as there is time."""
        for library in self._libraries:
            if library.lists is None or not library.waiting:
                continue
            functions = library.functions
            found: dict[int, list[int]] = {}
            while library.waiting and time.monotonic() < until:
                some = [library.waiting.popleft() for _ in range(min(len(library.waiting), _AT_ONCE))]
                fresh = np.array([one for one in some if one not in library.looked], np.uint32)
                library.looked.update(some)
                index = functions.index(fresh)
                for start, size, segment in zip(
                    fresh.tolist(), functions.sizes[index].tolist(), functions.segment[index].tolist(), strict=True
                ):
                    area = library.areas[segment]
                    blocks = library.lists.of(start, traps.original(area, start, size))
                    found.setdefault(area, []).extend(one for one in blocks if one not in library.known)
            for area, places in found.items():
                traps.arm(area, places)
            library.lists.keep()


def _by_area(library: _Library, places: Sequence[int] | Places) -> Iterator[tuple[int, Places]]:
    """Places by the segment in which they lie."""
    every = np.asarray(places, np.uint32)
    for area, one in zip(library.areas, library.image.segments, strict=True):
        inside = every[(every >= one.start) & (every < one.start + one.length)]
        if inside.size:
            yield area, inside

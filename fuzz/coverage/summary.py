"""How much a campaign reached, by source and over time, and what it never did: for a person, and as JSON."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shakeout.fuzz.coverage.log import NAME, Book, rows

__all__ = ["Coverage", "Reach", "read_coverage"]

#: Units of a source that a person is shown one by one, and words of what was never reached.
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Reach:
    """How much was reached of one kind, in one thing that is watched.

    Attributes:
        source: that told it.
        name: of the unit; empty where a source has one only.
        kind: of what was reached.
        found: how much that is.
        of: how much there is; 0 where nobody knows.
        never: what was not, where it has names.
    """

    source: str
    name: str
    kind: str
    found: int
    of: int = 0
    never: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """``18,977 of 206,666 functions``."""
        return f"{self.found:,} of {self.of:,} {self.kind}" if self.of else f"{self.found:,} {self.kind}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much a campaign reached.

    Attributes:
        reached: by source, unit and kind, in the order in which they were first reached.
        curve: seconds of fuzzing, and keys reached by then, by source; for each case that added something.
    """

    reached: tuple[Reach, ...] = ()
    curve: tuple[tuple[float, Mapping[str, int]], ...] = ()

    def lines(self, asked: Sequence[str] = ()) -> tuple[str, ...]:
        """For a person: each source, what it watches, what was never reached, and how it came; nothing if none was.

        Args:
            asked: libraries and modules that a person named; of those that no case reached it is said.
        """
        said: list[str] = []
        for source in dict.fromkeys(one.source for one in self.reached):
            own = [one for one in self.reached if one.source == source]
            said.append(f"coverage, {source}: {_texts(_summed(own))}")
            units = sorted({one.name for one in own}, key=lambda name: -sum(o.found for o in own if o.name == name))
            if len(units) > 1:
                said += [f"  {name}: {_texts(o for o in own if o.name == name)}" for name in units[:_SHOWN]]
                if len(units) > _SHOWN:
                    said.append(f"  and {len(units) - _SHOWN} more, which status --json lists")
            said += [f"  never: {_some(one)}" for one in own if one.never]
        reached = {one.name for one in self.reached}
        for name in asked:
            if not any(_is(one, name) for one in reached):
                said.append(f"{name}: no case reached anything of it; was it loaded?")
        return (*said, *self._course())

    def _course(self) -> tuple[str, ...]:
        """How much there was after quarters of the time, where that says something."""
        total = self.curve[-1][0] if self.curve else 0.0
        if total < 4:
            return ()
        said = []
        for source in self.curve[-1][1]:
            quarters = []
            for quarter in (1, 2, 3, 4):
                by = [row[1].get(source, 0) for row in self.curve if row[0] <= total * quarter / 4] or [0]
                quarters.append(f"{total * quarter / 4:.0f} s {by[-1]:,}")
            said.append(f"{source}, over time: {', '.join(quarters)}")
        return tuple(said)

    def to_json(self) -> dict[str, object]:
        """As JSON values, the curve thinned to at most a hundred points and the last."""
        step = max(1, -(-len(self.curve) // 100))
        points = [*self.curve[:-1:step], *self.curve[-1:]]
        sources: dict[str, dict[str, dict[str, object]]] = {}
        for one in self.reached:
            row = {"reached": one.found, "of": one.of or None, **({"never": list(one.never)} if one.never else {})}
            sources.setdefault(one.source, {}).setdefault(one.name, {})[one.kind] = row
        return {"sources": sources, "curve": [{"seconds": at, **dict(by)} for at, by in points]}


def read_coverage(directory: Path) -> Coverage:
    """How much a campaign has hit; nothing where it was not watched."""
    book, curve = Book(), []
    total: dict[str, int] = {}
    for hits, row in rows(directory / NAME):
        new = len(book.add(hits))
        if not new:
            continue
        total = {**total, hits.source: total.get(hits.source, 0) + new}
        with contextlib.suppress(TypeError, ValueError):
            curve.append((float(row.get("seconds", 0.0)), total))
    units: dict[tuple[str, str], str] = {}
    reached = []
    for (source, unit, kind), seen in book.seen.items():
        # Of two builds of one library, those of a campaign that went on with another release, each has a row.
        other = units.setdefault((source, seen.name), unit) != unit
        name = f"{seen.name} ({unit[:8]})" if other else seen.name
        never = tuple(sorted(seen.exist - seen.keys))
        of = seen.of or len(seen.exist | seen.keys if seen.exist else ())
        reached.append(Reach(source, name, kind, len(seen.keys), of, never))
    return Coverage(tuple(reached), tuple(curve))


def _is(reached: str, asked: str) -> bool:
    """Whether what was reached is what a person named: a library by name, pattern or path, a module or one inside."""
    return fnmatch.fnmatchcase(reached, Path(asked).name) or reached.startswith(f"{asked}.")


def _summed(every: Iterable[Reach]) -> list[Reach]:
    kinds: dict[str, Reach] = {}
    for one in every:
        sofar = kinds.get(one.kind, Reach(one.source, "", one.kind, 0))
        kinds[one.kind] = Reach(one.source, "", one.kind, sofar.found + one.found, sofar.of + one.of)
    return list(kinds.values())


def _texts(every: Iterable[Reach]) -> str:
    return ", ".join(one.text for one in every)


def _some(one: Reach) -> str:
    more = len(one.never) - _SHOWN
    named = f"{one.name}, " if one.name else ""
    rest = f" and {more:,} more, which status --json lists" if more > 0 else ""
    return f"{named}{len(one.never):,} {one.kind}: {', '.join(one.never[:_SHOWN])}{rest}"

"""How a campaign went on: what was compared, what was reached and which bugs were opened, over the time of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

from shakeout.fuzz.ground.events import LOG, read_log

__all__ = ["Course", "Span", "course"]

#: Spans at most, of equal length, and seconds that the first ones last: with fewer cases in each a drawing shows noise.
SPANS = 60
LEAST = 5.0

#: The source of coverage that a campaign means which names none.
_NATIVE = "native code"

#: The year 5138: a time behind it is a damaged line.
_LATEST = 1e11


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time.

    Attributes:
        began: seconds of work before it.
        finished: cases that came to an end in it, by target.
        compared: those of them that were compared, by target.
        opened: bugs that were opened in it.
        reached: by source of coverage, how much was reached in it for the first time.
    """

    began: float
    finished: Mapping[str, int]
    compared: Mapping[str, int]
    opened: int
    reached: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """A campaign over time. Time is counted while it is at work, its cold start included; pauses are left out.

    Attributes:
        seconds: of work.
        step: seconds that each span lasts.
        spans: in order, without a gap.
        resumed: seconds of work after which it was stopped and went on later.
    """

    seconds: float
    step: float
    spans: tuple[Span, ...]
    resumed: tuple[float, ...]

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets of which a case came to an end."""
        return tuple(sorted({target for span in self.spans for target in span.finished}))

    def rates(self, target: str) -> Iterator[float]:
        """Cases of one target that were compared in a minute, span by span."""
        for span in self.spans:
            # The last one ends with the campaign, and of a moment nothing follows.
            lasted = max(min(self.step, self.seconds - span.began), self.step / 2)
            yield 60 * span.compared.get(target, 0) / lasted

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of coverage that told anything."""
        return tuple(sorted({source for span in self.spans for source in span.reached}))

    def coverage(self, source: str) -> Iterator[int]:
        """How much was reached until the end of each span, as one source tells it."""
        reached = 0
        for span in self.spans:
            reached += span.reached.get(source, 0)
            yield reached

    def bugs(self) -> Iterator[int]:
        """Bugs that were opened until the end of each span."""
        opened = 0
        for span in self.spans:
            opened += span.opened
            yield opened


def course(directory: Path) -> Course:
    """The course of the campaign in a directory, from its log; empty if it has none."""
    path = directory / LOG
    return _course(read_log(path)) if path.exists() else Course(0.0, LEAST, (), ())


def _course(events: Iterable[Mapping[str, Any]]) -> Course:
    tallies = [_Tally()]
    resumed: list[float] = []
    seconds = began = before = 0.0
    step = LEAST
    for event in events:
        when = event.get("time")
        if not isinstance(when, int | float) or not 0 < when < _LATEST:
            continue
        if event.get("event") == "Started":
            began, before = float(when), seconds
            resumed += [seconds] if seconds else []
        # Clocks are set back, and nothing ends before it begins.
        seconds = max(seconds, before + float(when) - began) if began else 0.0
        while seconds >= step * SPANS:
            step *= 2
            tallies = [one + other for one, other in zip_longest(tallies[::2], tallies[1::2], fillvalue=_Tally())]
        while len(tallies) <= seconds / step:
            tallies.append(_Tally())
        tallies[int(seconds / step)].note(event)
    spans = (
        Span(place * step, one.finished, one.compared, one.opened, one.reached) for place, one in enumerate(tallies)
    )
    return Course(seconds, step, tuple(spans) if seconds else (), tuple(resumed))


@dataclass(slots=True)
class _Tally:
    """What happened in a stretch of time, as far as the log was read."""

    finished: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    reached: Counter[str] = field(default_factory=Counter)

    def note(self, event: Mapping[str, Any]) -> None:
        match event.get("event"):
            case "CaseDone":
                target = str(event.get("target", ""))
                self.finished[target] += 1
                self.compared[target] += event.get("status") == "compared"
                self.reached.update(_reached(event))
            case "BugOpened":
                self.opened += 1

    def __add__(self, later: _Tally) -> _Tally:
        return _Tally(
            self.finished + later.finished,
            self.compared + later.compared,
            self.opened + later.opened,
            self.reached + later.reached,
        )


def _reached(event: Mapping[str, Any]) -> dict[str, int]:
    """What a case reached for the first time, by source of coverage; a number alone is of native code."""
    told = event.get("reached", 0)
    by = told if isinstance(told, dict) else {_NATIVE: told}
    return {str(source): count for source, count in by.items() if isinstance(count, int) and count > 0}

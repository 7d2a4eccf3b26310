"""What a bisection finds out, fact by fact, and how it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shakeout.corpus.case import Scalar
from shakeout.fuzz.bisect.search import Verdict

__all__ = ["Bisection", "Culprit", "Cures", "Fact", "Knobs", "Note", "Releases", "Rung"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a ladder from eager to the whole compiler: ``verdict`` tells whether the failure is there already."""

    name: str
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.name:<28} {self.verdict}"


@dataclass(frozen=True, slots=True)
class Knobs:
    """The knobs off their default without which it does not fail; empty if it fails under default settings."""

    needed: tuple[tuple[str, Scalar], ...]

    def __str__(self) -> str:
        return "fails with " + (
            ", ".join(f"{name}={value!r}" for name, value in self.needed) if self.needed else "default settings"
        )


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first of the things of one kind with which it fails.

    Attributes:
        kind: ``pattern``, ``lowering``, ``optimiser``, ``stage``.
        names: of the thing, or of several that cannot be told apart.
        number: its place among all, counted from 1; 0 where nothing was counted.
        of: how many there are.
        alone: whether leaving it out, and nothing else, cures the case; None if that was not tried or told nothing.
        confidence: that none of the answers on the way was a failure that did not show.
    """

    kind: str
    names: tuple[str, ...]
    number: int = 0
    of: int = 0
    alone: bool | None = None
    confidence: float = 1.0

    def __str__(self) -> str:
        place = f" (number {self.number} of {self.of})" if self.of else ""
        cure = {True: "; cured without it", False: "; not cured without it alone", None: ""}[self.alone]
        return f"{self.kind} {' or '.join(self.names)}{place}{cure}; confidence {self.confidence:.2f}"


@dataclass(frozen=True, slots=True)
class Cures:
    """Knobs that cure the case when they alone are set to another value."""

    found: tuple[tuple[str, Scalar], ...]
    tried: int

    def __str__(self) -> str:
        if not self.found:
            return f"none of {self.tried} switches cures it"
        return "cured by " + ", ".join(f"{name}={value!r}" for name, value in self.found)


@dataclass(frozen=True, slots=True)
class Releases:
    """What a list of releases or environments said.

    Attributes:
        steps: name and verdict of those that were tested, from the oldest.
        first_bad: the first release with the failure; None if it is older than the list or cannot be told.
        suspects: the releases of which one is the first bad one, where it cannot be told.
        last_good: the release before.
        first_fixed: the first release without it afterwards, where the newest one has it no more.
        newest: the newest release that was found, where somebody asked; empty otherwise.
        newest_verdict: what it said.
        confidence: that none of the answers on the way was a failure that did not show.
    """

    steps: tuple[tuple[str, Verdict], ...]
    first_bad: str | None = None
    suspects: tuple[str, ...] = ()
    last_good: str | None = None
    first_fixed: str | None = None
    newest: str = ""
    newest_verdict: Verdict | None = None
    confidence: float = 1.0

    def __str__(self) -> str:
        lines = [f"{name:<36} {verdict}" for name, verdict in self.steps]
        if self.first_bad is not None:
            before = f", {self.last_good} is good" if self.last_good else ", the oldest of the list"
            lines.append(f"first bad {self.first_bad}{before}; confidence {self.confidence:.2f}")
        elif self.suspects:
            lines.append(f"first bad: one of {', '.join(self.suspects)}, the others could not be judged")
        elif self.steps:
            lines.append("none of them fails")
        if self.first_fixed is not None:
            lines.append(f"first fixed {self.first_fixed}")
        newest = f"{self.newest}: {self.newest_verdict}" if self.newest else "NOT checked"
        lines.append(f"newest release {newest}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know, in words."""

    text: str

    def __str__(self) -> str:
        return self.text


Fact = Rung | Knobs | Culprit | Cures | Releases | Note

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Rung, Knobs, Culprit, Cures, Releases, Note)}


@dataclass(frozen=True, slots=True)
class Bisection:
    """All that is known of one case.

    Attributes:
        case: its id.
        target: what failed.
        failure: why, in words.
        reliability: ``5 of 5``.
        facts: in the order in which they were found.
        packages: versions of what was bisected.
        trials: runs that it took.
        seconds: that it took.
        complete: whether everything was tried; False where somebody, or a budget, ended it.
    """

    case: str
    target: str
    failure: str = ""
    reliability: str = ""
    facts: tuple[Fact, ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    trials: int = 0
    seconds: float = 0.0
    complete: bool = True

    @property
    def culprit(self) -> Culprit | None:
        """The finest culprit, which is the one that was found last."""
        return next((fact for fact in reversed(self.facts) if isinstance(fact, Culprit)), None)

    @property
    def releases(self) -> Releases | None:
        """What the releases said, if any were asked."""
        return next((fact for fact in reversed(self.facts) if isinstance(fact, Releases)), None)

    def lines(self) -> Iterator[str]:
        """For a person, one line for each thing that is worth to know of a bug."""
        if (culprit := self.culprit) is not None:
            yield f"culprit   {culprit}"
        yield from (f"setting   {fact}" for fact in self.facts if isinstance(fact, Cures) and fact.found)
        releases = self.releases
        if releases is not None:
            yield from (f"releases  {line}" for line in str(releases).splitlines()[len(releases.steps) :])

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        facts = [{"fact": type(fact).__name__, **dataclasses.asdict(fact)} for fact in self.facts]
        return {"format": FORMAT, **dataclasses.asdict(self), "facts": facts, "packages": dict(self.packages)}

    @classmethod
    def from_json(cls, data: Any) -> Bisection:
        """Read what ``to_json`` wrote; raises ValueError if it is something else."""
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}, expected {FORMAT}")
            facts = tuple(_fact(dict(one)) for one in data["facts"])
            kept = {field.name: data[field.name] for field in dataclasses.fields(cls)}
            return cls(**{**kept, "facts": facts, "packages": tuple(data["packages"].items())})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a bisection: {error}") from None


def _fact(data: dict[str, Any]) -> Fact:
    kind = _KINDS[data.pop("fact")]
    return kind(**{name: _frozen(value) for name, value in data.items()})  # type: ignore[no-any-return]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value

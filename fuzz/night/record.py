"""What a night leaves for the next one: how its bugs stood in the end, and what it did, as values and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from shakeout.corpus.rows import Totals

__all__ = ["FORMAT", "BugState", "Night", "Replay", "Shipped", "Standing"]

#: Version of the record; raise it whenever an older Shakeout could not compare with it.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class BugState:
    """How one bug stood.

    Attributes:
        id: of the bug.
        title: in words.
        group: where it stands, of ``shakeout.fuzz.reporting.bug_list.GROUPS``.
        targets: on which it was seen.
        severity: its class in the order of bugs, and ``reason`` why it is of that class.
        fresh: in how many of how many fresh processes it failed, ``3/3``; ``-`` if it was not tried.
        seen: cases that showed it.
        life: 2 if it came back after it was fixed, and so on.
        culprit: what bisecting blames; empty if that is not known.
    """

    id: str
    title: str
    group: str
    targets: tuple[str, ...] = ()
    severity: str = ""
    reason: str = ""
    fresh: str = "-"
    seen: int = 0
    life: int = 1
    culprit: str = ""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What a case that ships with Shakeout, or a known bug, did when it ran last.

    Attributes:
        kind: ``regression`` or ``known``.
        title: one line.
        state: ``fails`` or ``fixed``; a night on which it could not run, or did now this and now that, changes nothing.
        expected: what it should do with the versions of that night; empty if nobody has tried it with them.
    """

    kind: str
    title: str
    state: str
    expected: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stood in a campaign's directory at one moment.

    Attributes:
        bugs: all of them, those first that somebody should act on, the worst of them first.
        joined: where bugs went that turned out to be another one, by id.
        waiting: findings that triage has not come to.
        shipped: by name what last ran of what ships.
        totals: how far the cases came, by target, since the campaign began.
        operators: with how many operators a case was compared, by target.
        seconds: of fuzzing, since the campaign began.
        reached: what coverage counts, by its source; empty where none was watched.
    """

    bugs: tuple[BugState, ...] = ()
    joined: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0
    shipped: Mapping[str, Shipped] = field(default_factory=dict)
    totals: Mapping[str, Totals] = field(default_factory=dict)
    operators: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    reached: Mapping[str, int] = field(default_factory=dict)

    @property
    def open(self) -> tuple[BugState, ...]:
        """The bugs that somebody should act on, the worst first."""
        return tuple(bug for bug in self.bugs if bug.group == "bug")


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a stored or shipped case that ran again: kind, id, title, verdict and perhaps a note."""

    kind: str
    id: str
    title: str
    verdict: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Night:
    """One night, from its beginning to its end.

    Attributes:
        name: the date and a letter, ``2026-11-30a``.
        began: seconds since 1970.
        ended: seconds since 1970.
        budget: seconds that it had.
        versions: of all that could matter, by name; of a user's own target a fingerprint of its module's source.
        standing: how things stood in its end.
        replays: what ran again.
        bisected: what was said of bugs that were bisected, by id.
        rates: cases that were compared in a minute of fuzzing, by target.
        notes: what a person should know of how it went.
    """

    name: str
    began: float
    ended: float
    budget: float
    versions: Mapping[str, str] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)
    replays: tuple[Replay, ...] = ()
    bisected: Mapping[str, str] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> Night:
        """Read what ``to_json`` wrote; what stands beside that is passed over.

        Raises:
            ValueError: it is something else, or of another version.
        """
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}, expected {FORMAT}")
            return cls(
                name=str(data["name"]),
                began=float(data["began"]),
                ended=float(data["ended"]),
                budget=float(data["budget"]),
                versions={str(name): str(version) for name, version in data["versions"].items()},
                standing=_standing(data["standing"]),
                replays=tuple(Replay(**row) for row in data["replays"]),
                bisected={str(bug): str(said) for bug, said in data["bisected"].items()},
                rates={str(target): float(rate) for target, rate in data["rates"].items()},
                notes=tuple(map(str, data["notes"])),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the record of a night: {type(error).__name__}: {error}") from None


def _standing(data: Mapping[str, Any]) -> Standing:
    return Standing(
        bugs=tuple(BugState(**{**row, "targets": tuple(row["targets"])}) for row in data["bugs"]),
        joined={str(bug): str(into) for bug, into in data["joined"].items()},
        waiting=int(data["waiting"]),
        shipped={str(name): Shipped(**row) for name, row in data["shipped"].items()},
        totals={str(target): Totals(**row) for target, row in data["totals"].items()},
        operators={str(target): int(count) for target, count in data["operators"].items()},
        seconds=float(data["seconds"]),
        reached={str(source): int(count) for source, count in data.get("reached", {}).items()},
    )

"""What has changed between two nights: two records in, and what a person wants to know in the morning out.

It is told by how things stood, and by no memory of what was told: however often a night was killed and begun again,
each bug is new in the record of one night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from shakeout.corpus.rows import Totals
from shakeout.fuzz.night.record import BugState, Night, Standing

__all__ = ["Difference", "Move", "Reached", "TargetNight", "VersionChange", "between"]

#: Where a bug stood before somebody had to act on it: nowhere, in the queue, or not sure to be there.
_BEFORE = ("", "waiting", "flaky")

#: What of a night makes it slow: fewer cases a minute than this share of last night's. One night differs from the next
#: by a tenth or two, as other cases are drawn.
SLOW = 0.6

#: Seconds of fuzzing below which a rate says little: how long single cases take differs a thousandfold.
LEAST = 600.0


@dataclass(frozen=True, slots=True)
class Move:
    """A case that ships, or a known bug, that does something else than last night: ``state`` and what it was before."""

    id: str
    kind: str
    title: str
    before: str
    state: str


@dataclass(frozen=True, slots=True)
class VersionChange:
    """Another version is installed than last night; ``None`` stands for none."""

    name: str
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Reached:
    """What one source of coverage has counted since the campaign began, and how much of it since last night."""

    source: str
    total: int
    new: int


@dataclass(frozen=True, slots=True)
class TargetNight:
    """What one target did since last night.

    Attributes:
        target: its name.
        totals: how far its cases came.
        seconds: of fuzzing, all targets together.
        rate: cases that were compared in a minute of fuzzing.
        rate_before: the same of last night; None if there was none.
        operators: with how many operators a case was compared so far.
        operators_new: how many of them for the first time.
    """

    target: str
    totals: Totals
    seconds: float
    rate: float
    rate_before: float | None
    operators: int
    operators_new: int

    @property
    def remark(self) -> str:
        """What a person should look at; empty if there is nothing."""
        if self.totals.generated and not self.totals.nontrivial:
            return "nothing was compared: its silence means nothing"
        if self.rate_before and self.seconds >= LEAST and self.rate < SLOW * self.rate_before:
            return f"{1 - self.rate / self.rate_before:.0%} slower than last night"
        return ""


@dataclass(frozen=True, slots=True)
class Difference:
    """What has changed since last night.

    Attributes:
        against: name of the night it is compared with; empty if there is none.
        new: bugs to act on that were none before, the worst first.
        reopened: bugs that were fixed and fail again.
        fixed: bugs that do not fail any more.
        flaky: what was found and fails now and then only, and bugs that now fail in some runs only.
        changed: bugs that fail otherwise than they did, with how they fail now, by id.
        joined: bugs that turned out to be another one, by id.
        unable: bugs that could not run tonight, with the reason, by id.
        again: what ships and fails again, or fails where it should not.
        gone: what ships and fails no more.
        still: how many bugs to act on were there last night as well.
        internal: new defects of Shakeout's own.
        versions: what is installed in another version.
        targets: what each target did.
        seconds: of fuzzing.
        reached: by source of coverage, where one was watched.
    """

    against: str
    new: tuple[BugState, ...]
    reopened: tuple[BugState, ...]
    fixed: tuple[BugState, ...]
    flaky: tuple[BugState, ...]
    changed: Mapping[str, str]
    joined: Mapping[str, str]
    unable: Mapping[str, str]
    again: tuple[Move, ...]
    gone: tuple[Move, ...]
    still: int
    internal: tuple[BugState, ...]
    versions: tuple[VersionChange, ...]
    targets: tuple[TargetNight, ...]
    seconds: float
    reached: tuple[Reached, ...] = ()

    @property
    def bad(self) -> int:
        """How many things are worse than last night: new bugs, bugs that are back, shipped cases that fail again."""
        return len(self.new) + len(self.reopened) + len(self.again)

    @property
    def vacuous(self) -> bool:
        """Whether nothing was compared on something that could have differed."""
        return not any(one.totals.nontrivial for one in self.targets)


def between(last: Night, night: Night) -> Difference:
    """What has changed from one night to the next.

    Args:
        last: the night before, or how things stood before the first one; its name is empty then.
        night: that is over now.
    """
    before, now = last.standing, night.standing
    was = {bug.id: bug for bug in before.bugs}

    def group(bug: BugState) -> str:
        return was[bug.id].group if bug.id in was else ""

    def life(bug: BugState) -> int:
        return was[bug.id].life if bug.id in was else 1

    reopened = tuple(bug for bug in now.open if bug.life > life(bug))
    new = tuple(bug for bug in now.open if group(bug) in _BEFORE and bug not in reopened)
    told = {(row.id, row.verdict, row.note) for row in last.replays}
    rows = [row for row in night.replays if row.kind == "bug"]
    unsteady = {row.id for row in rows if row.verdict == "flaky"} - {
        id_ for id_, verdict, _ in told if verdict == "flaky"
    }
    again, gone = _shipped(before, now)
    return Difference(
        against=last.name,
        new=new,
        reopened=reopened,
        fixed=tuple(bug for bug in now.bugs if bug.group == "fixed" and group(bug) != "fixed"),
        flaky=tuple(
            bug
            for bug in now.bugs
            if (bug.group == "flaky" and group(bug) != "flaky") or (bug.group == "bug" and bug.id in unsteady)
        ),
        changed={
            row.id: row.note for row in rows if row.verdict == "changed" and (row.id, row.verdict, row.note) not in told
        },
        joined={bug: into for bug, into in now.joined.items() if before.joined.get(bug) != into and bug in was},
        unable={row.id: row.note for row in rows if row.verdict == "cannot run"},
        again=again,
        gone=gone,
        still=len(now.open) - len(new) - len(reopened),
        internal=tuple(bug for bug in now.bugs if bug.group == "internal" and group(bug) != "internal"),
        versions=_versions(last, night) if last.name else (),
        targets=_targets(last, night),
        seconds=_seconds(last, night),
        reached=tuple(
            Reached(source, count, max(count - before.reached.get(source, 0), 0))
            for source, count in now.reached.items()
        ),
    )


def _shipped(before: Standing, now: Standing) -> tuple[tuple[Move, ...], tuple[Move, ...]]:
    again, gone = [], []
    for id_, row in now.shipped.items():
        was = (
            before.shipped[id_].state
            if id_ in before.shipped
            else {"fails": "fails", "fixed": "fixed"}.get(row.expected, "")
        )
        move = Move(id_, row.kind, row.title, was, row.state)
        if was == "fixed" and row.state == "fails":
            again.append(move)
        if was == "fails" and row.state == "fixed":
            gone.append(move)
    return tuple(again), tuple(gone)


def _versions(last: Night, night: Night) -> tuple[VersionChange, ...]:
    names = sorted({*last.versions, *night.versions})
    pairs = ((name, last.versions.get(name), night.versions.get(name)) for name in names)
    return tuple(VersionChange(name, one, other) for name, one, other in pairs if one != other)


def _seconds(last: Night, night: Night) -> float:
    return max(night.standing.seconds - last.standing.seconds, 0.0)


def _targets(last: Night, night: Night) -> tuple[TargetNight, ...]:
    seconds, found = _seconds(last, night), []
    for target, totals in night.standing.totals.items():
        since = _less(totals, last.standing.totals.get(target, Totals()))
        known = last.standing.operators.get(target, 0)
        operators = night.standing.operators.get(target, 0)
        rate = 60 * since.compared / seconds if seconds else 0.0
        before = last.rates.get(target)
        found.append(TargetNight(target, since, seconds, rate, before, operators, max(operators - known, 0)))
    return tuple(found)


def _less(totals: Totals, other: Totals) -> Totals:
    return Totals(*(getattr(totals, one.name) - getattr(other, one.name) for one in fields(Totals)))

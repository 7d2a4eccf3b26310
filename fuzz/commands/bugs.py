"""The command ``shakeout bugs``: which bugs a campaign has, what one looks like, and what people decided about them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shakeout.corpus import codec
from shakeout.corpus.database import Database
from shakeout.corpus.rows import Bug, Decision
from shakeout.fuzz.reporting.bug_list import BugList, ReportedBug, bug_list, reported
from shakeout.fuzz.reporting.plain import bug_lines, bug_row, said

__all__ = ["Wanted", "described", "lines", "listed", "row", "shown", "top", "top_described", "whole"]

#: What stands above the rows of ``bug_row``.
_HEAD = f"{'bug':<9} {'state':<9} {'fresh':>5} {'seen':>5}  {'targets':<11}  what  -- why it stands here"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which bugs are listed; what is empty asks nothing.

    Attributes:
        targets: names of targets.
        states: how sure it is that the bug is there, of ``shakeout.corpus.rows.STATES``.
        statuses: what a person said of it, of ``STATUSES``.
        text: stands in title or symptom, small and capital letters alike.
    """

    targets: Sequence[str] = ()
    states: Sequence[str] = ()
    statuses: Sequence[str] = ()
    text: str = ""

    def takes(self, row: ReportedBug) -> bool:
        """Whether a bug is one of those that are wanted."""
        return (
            (not self.targets or not set(self.targets).isdisjoint(row.targets))
            and (not self.states or row.bug.state in self.states)
            and (not self.statuses or _status(row.decision) in self.statuses)
            and self.text.casefold() in f"{row.title}\n{row.bug.title}\n{row.bug.symptom}".casefold()
        )


def listed(directory: Path, database: Database, wanted: Wanted) -> BugList:
    """The bugs that are wanted, the worst first."""
    found = bug_list(directory, database)

    def taken(rows: Sequence[ReportedBug]) -> tuple[ReportedBug, ...]:
        return tuple(row for row in rows if wanted.takes(row))

    apart = {group: rows for group, members in found.apart.items() if (rows := taken(members))}
    return replace(found, ranked=taken(found.ranked), apart=apart)


def lines(bugs: BugList, *, every: bool = False, campaign: str = "") -> Iterator[str]:
    """A line for each bug, the worst first, and one for all that triage has not come to, or for each if wanted.

    ``campaign`` is how a command names the campaign, if it is not the newest.
    """
    if bugs.ranked:
        yield _HEAD
    yield from map(bug_row, bugs.ranked)
    if bugs.waiting:
        what = "finding waits" if bugs.waiting == 1 else "findings wait"
        yield f"{bugs.waiting:,} {what} for triage; `shakeout triage{campaign}` works them off"
    for group, rows in bugs.apart.items():
        if group != "waiting" or every:
            yield f"{group}:"
            yield from map(bug_row, rows)


def row(database: Database, bug: Bug) -> str:
    """One bug in one line."""
    return bug_row(reported(database.path.parent, database, bug))


def top(bugs: Sequence[ReportedBug]) -> Iterator[str]:
    """Bugs for a person who has time for a few: each whole, with its short script."""
    from shakeout.fuzz.reporting.short_scripts import short_scripts

    scripts = short_scripts([row.alone for row in bugs if row.alone is not None])
    for place, row in enumerate(bugs, 1):
        first, *rest = bug_lines(row)
        yield f"{place}. {first}"
        yield from rest
        if row.alone is not None and (text := scripts.get(row.alone.id)) is not None:
            yield f"  script    `shakeout report {row.bug.id}` runs it, and says whether it shows the bug"
            yield ""
            yield from ("    " + line if line else "" for line in text.splitlines())
        yield ""


def top_described(bugs: Sequence[ReportedBug]) -> list[dict[str, Any]]:
    """The same for a program."""
    from shakeout.fuzz.reporting.short_scripts import short_scripts

    scripts = short_scripts([row.alone for row in bugs if row.alone is not None])
    return [
        {
            **described(row),
            "case": None if row.case is None else codec.to_json(row.case),
            "result": None if row.result is None else row.result.to_json(),
            "script": None if row.alone is None else scripts.get(row.alone.id),
        }
        for row in bugs
    ]


def shown(directory: Path, database: Database, bug: Bug) -> Iterator[str]:
    """One bug for a person, with all that was said of it."""
    from shakeout.fuzz.reporting.bug_report import bug_report

    report = bug_report(directory, database, bug)
    row, minimal = report.shown, report.shown.minimal
    yield from bug_lines(row)
    for decision in report.decisions:
        yield f"  said      {_when(decision.decided)}: {said(decision)}"
    if report.signature:
        yield f"  signature {report.signature}" + (f" ({minimal.note})" if minimal is not None and minimal.note else "")
    for other in report.similar:
        yield f"  similar   {other.bug}: {other.why}"
    if row.life > 1:
        yield f"  life      {row.life}: it was fixed, and is back"
    for replay in report.replays:
        yield f"  replayed  {_when(replay.replayed)}: {replay.verdict}{': ' + replay.note if replay.note else ''}"
    # The culprit stands above.
    yield from (f"  {line}" for line in report.bisection if not line.startswith("culprit"))
    if report.copies:
        yield f"  copies    {', '.join(report.copies)}"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def described(row: ReportedBug) -> dict[str, Any]:
    """One bug for a program."""
    return {
        **asdict(row.bug),
        "title": row.title,
        "group": row.group,
        "rank": {"severity": row.rank.severity.name.lower(), "reason": row.rank.reason},
        "targets": list(row.targets),
        "sightings": [asdict(one) for one in row.sightings],
        "seen": row.findings,
        "culprit": row.culprit,
        "status": _status(row.decision),
        "duplicate_of": row.decision.other if row.decision else "",
    }


def whole(database: Database, bug: Bug) -> dict[str, Any]:
    """One bug for a program: its findings, its smallest case, the history of what was said and of its replays."""
    from shakeout.fuzz.triage.similar import suggestions

    row = reported(database.path.parent, database, bug)
    minimal = row.minimal
    return {
        **described(row),
        "life": row.life,
        "history": [asdict(decision) for decision in database.decisions() if decision.bug == bug.id],
        "minimal": None if minimal is None else asdict(minimal),
        "similar": [asdict(other) for other in suggestions(database, bug.id)],
        "replays": [asdict(replay) for replay in database.replays(bug.id)],
        "findings": [asdict(finding) for finding in database.findings(bug.id)],
    }


def _status(decision: Decision | None) -> str:
    return "open" if decision is None else decision.status

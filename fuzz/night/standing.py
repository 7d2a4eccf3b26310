"""How things stand in a campaign's directory now, and what is installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from shakeout.corpus import user_objects
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.coverage.summary import read_coverage
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.night.record import BugState, Replay, Shipped, Standing
from shakeout.fuzz.reporting.bug_list import ReportedBug, bug_list
from shakeout.fuzz.reporting.plain import fresh
from shakeout.fuzz.triage.replay_bugs import Row

__all__ = ["replay_of", "standing", "versions"]

#: What matters beside packages.
_FACTS = ("shakeout", "python", "system", "processor", "compiler")

#: What a verdict says of what ships; other verdicts say nothing for certain.
_STATES = {"still failing": "fails", "changed": "fails", "fixed": "fixed"}
_KNOWN = {"still there": "fails", "fixed": "fixed"}


def versions(targets: Iterable[str]) -> dict[str, str]:
    """Versions of all that could matter for targets, by name; nothing is imported."""
    facts = describe()
    found = {name: str(facts[name]) for name in _FACTS if facts[name]}
    found |= facts["packages"]
    sources = {name: user_objects.fingerprint(name) for name in targets if ":" in name}
    return found | {f"source of {name.partition(':')[0]}": text for name, text in sources.items() if text}


def replay_of(row: Row) -> Replay:
    """What became of something that ran again, for the record."""
    return Replay(row.item.kind, row.item.id, row.item.title, row.verdict, row.note)


def standing(directory: Path, before: Mapping[str, Shipped], rows: Iterable[Row] = ()) -> Standing:
    """How things stand in the directory of a campaign, which need not exist yet.

    Args:
        directory: of the campaign.
        before: what was last known of what ships.
        rows: what ran again since.
    """
    shipped = dict(before)
    for row in rows:
        if row.item.kind != "bug" and (state := _STATES.get(row.verdict)):
            shipped[row.item.id] = Shipped(row.item.kind, row.item.title, state, row.item.expected or "")
    if not (directory / NAME).exists():
        return Standing(shipped=shipped)
    with Database.read(directory / NAME) as database:
        for known in database.known():
            if state := _KNOWN.get(known.state):
                shipped[known.id] = Shipped("known", known.title, state)
        bugs = bug_list(directory, database)
        gone = {move.other for move in database.moves() if move.kind == "merge"}
        joined = {bug: into for bug in sorted(gone) if (into := database.bug(bug).id) != bug}
        return Standing(
            bugs=tuple(_state(row) for row in bugs.every),
            joined=joined,
            waiting=bugs.waiting,
            shipped=shipped,
            totals=database.totals(),
            operators=dict(Counter(row.target for row in database.ledger() if row.compared)),
            seconds=float(database.meta("spent", 0.0)),
            reached=_reached(directory),
        )


def _reached(directory: Path) -> dict[str, int]:
    """How much the cases have reached, by source of coverage."""
    curve = read_coverage(directory).curve
    return dict(curve[-1][1]) if curve else {}


def _state(row: ReportedBug) -> BugState:
    return BugState(
        id=row.bug.id,
        title=row.title,
        group=row.group,
        targets=row.targets,
        severity=row.rank.severity.name.lower(),
        reason=row.rank.reason,
        fresh=fresh(row.bug),
        seen=row.findings,
        life=row.life,
        culprit=row.culprit,
    )

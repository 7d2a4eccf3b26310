"""What a campaign had stored and not told yet when it was killed: its next run tells it, once.

An event is logged after the transaction that it tells of, so that nothing is told which a death undoes. A death between
the two leaves a bug that the log does not know, of which nobody would ever hear.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Bug
from shakeout.fuzz.ground import events

__all__ = ["untold"]

#: States of a bug whose ``Confirmed`` has been told, and of one that is opened as something else than a new bug.
_TRIED = ("confirmed", "history", "flaky")
_ASIDE = ("known", "internal")


def untold(directory: Path, database: Database) -> Iterator[events.BugOpened | events.Confirmed]:
    """Bugs of a campaign's database that its log never opens or confirms, as what should have been logged."""
    opened, confirmed = set(), set()
    for event in events.read_log(directory / events.LOG, "FindingSeen", "BugOpened", "Confirmed"):
        # Whoever is told of a bug's findings has been told of the bug; earlier versions said it no other way.
        opened.add(event.get("bug"))
        if event["event"] == "Confirmed":
            confirmed.add(event.get("bug"))
    # What somebody split off is no news.
    moved = {bug for move in database.moves() if move.kind == "split" for bug in (move.bug, move.other)}
    for bug in database.bugs():
        if bug.state in _ASIDE or bug.id in moved:
            continue
        if bug.id not in opened:
            size = _operators(database, bug)
            yield events.BugOpened(bug.id, bug.title, bug.target, bug.symptom, bug.signature, size)
        if bug.state in _TRIED and bug.id not in confirmed:
            folder = str(directory / bug.id)
            yield events.Confirmed(bug.id, bug.k, bug.n, bug.state, bug.title, bug.target, bug.symptom, folder)


def _operators(database: Database, bug: Bug) -> int:
    minimal = database.smallest_cases().get(bug.id)
    results = [minimal.result] if minimal is not None else [one.result for one in database.findings(bug.id)[:1]]
    return len(results[0].get("operators", ())) if results else 0

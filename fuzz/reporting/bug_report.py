"""All that there is to tell of one bug, as values: read from its campaign's database once, for whatever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Bug, Decision
from shakeout.corpus.smallest_cases import Replay
from shakeout.fuzz.bisect.kept import within
from shakeout.fuzz.reporting.bug_list import ReportedBug, reported
from shakeout.fuzz.triage.bug_signature import UNCLASSIFIED, Signature
from shakeout.fuzz.triage.similar import Similar, suggestions
from shakeout.oracles.extent import Extent

__all__ = ["BugReport", "bug_report", "extent_of"]


@dataclass(frozen=True, slots=True)
class BugReport:
    """What there is to report of a bug.

    Attributes:
        shown: the bug by its smallest case.
        decisions: what people said of it, oldest first.
        signature: of its smallest case, in words; empty if nobody looked for one.
        similar: bugs that may be the same one.
        replays: each time it was run again, oldest first.
        bisection: what bisecting found out, a line for each thing, the culprit first.
        copies: ids of the bugs that people call its duplicates.
    """

    shown: ReportedBug
    decisions: tuple[Decision, ...]
    signature: str
    similar: tuple[Similar, ...]
    replays: tuple[Replay, ...]
    bisection: tuple[str, ...]
    copies: tuple[str, ...]


def bug_report(directory: Path, database: Database, bug: Bug) -> BugReport:
    """What there is to report of a bug of the campaign in a directory."""
    shown = reported(directory, database, bug)
    bisection = within(directory / bug.id).read()
    signature = ""
    if (minimal := shown.minimal) is not None:
        signature = Signature.from_json(minimal.signature).text if minimal.signature else UNCLASSIFIED
    return BugReport(
        shown=shown,
        decisions=tuple(decision for decision in database.decisions() if decision.bug == bug.id),
        signature=signature,
        similar=tuple(suggestions(database, bug.id)),
        replays=tuple(database.replays(bug.id)),
        bisection=() if bisection is None else tuple(bisection.lines()),
        copies=tuple(sorted(id_ for id_, decision in database.standing().items() if decision.other == bug.id)),
    )


def extent_of(shown: ReportedBug) -> Extent | None:
    """Where in its tensor a bug lies; None where it is no matter of values, or an earlier version did not look."""
    failure = None if shown.result is None else shown.result.failure
    stored = None if failure is None else failure.evidence.get("extent")
    try:
        return Extent.from_json(stored) if isinstance(stored, dict) else None
    except ValueError:
        return None

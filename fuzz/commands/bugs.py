"""The command ``shakeout bugs``: which bugs a campaign has, what one looks like, and what people decided about them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shakeout.corpus.database import Database
from shakeout.corpus.rows import Bug, Decision

__all__ = ["Wanted", "described", "line", "listed", "shown", "whole"]


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

    def takes(self, bug: Bug, decision: Decision | None) -> bool:
        """Whether a bug is one of those that are wanted."""
        return (
            (not self.targets or bug.target in self.targets)
            and (not self.states or bug.state in self.states)
            and (not self.statuses or _status(decision) in self.statuses)
            and self.text.casefold() in f"{bug.title}\n{bug.symptom}".casefold()
        )


def listed(database: Database, wanted: Wanted) -> list[tuple[Bug, Decision | None]]:
    """The bugs that are wanted, with what was said of each last, in the order in which they were first seen."""
    standing = database.standing()
    rows = [(bug, standing.get(bug.id)) for bug in database.bugs()]
    return [row for row in rows if wanted.takes(*row)]


def line(bug: Bug, decision: Decision | None, lives: Mapping[str, int] | None = None) -> str:
    """One bug in one line; one that came back after it was fixed has the number of its life behind its title."""
    fresh = f"{bug.k}/{bug.n}" if bug.n else "-"
    said = "" if decision is None else f" [{_said(decision)}]"
    life = f" ({lives[bug.id]})" if lives is not None and bug.id in lives else ""
    return f"{bug.id:<9} {bug.state:<10} {fresh:>4}  seen {bug.count:<4} {bug.title[:160]}{life}{said}"


def shown(directory: Path, database: Database, bug: Bug) -> Iterator[str]:
    """One bug for a person, with all that was said of it."""
    from shakeout.fuzz.bisect.kept import within
    from shakeout.fuzz.reporting.plain import bug_lines
    from shakeout.fuzz.reporting.report import reported

    yield from bug_lines(reported(directory, database, bug))
    for decision in database.decisions():
        if decision.bug == bug.id:
            yield f"  said      {time.strftime('%Y-%m-%d %H:%M', time.localtime(decision.decided))}: {_said(decision)}"
    yield from _triaged(database, bug)
    if (bisection := within(directory / bug.id).read()) is not None:
        yield from (f"  {line}" for line in bisection.lines())
    copies = [id_ for id_, decision in database.standing().items() if decision.other == bug.id]
    if copies:
        yield f"  copies    {', '.join(sorted(copies))}"


def _triaged(database: Database, bug: Bug) -> Iterator[str]:
    """The signature of the smallest case, bugs that are near it, and what came of running it again."""
    from shakeout.corpus import codec
    from shakeout.fuzz.reporting.plain import program_lines
    from shakeout.fuzz.triage.bug_signature import UNCLASSIFIED, Signature
    from shakeout.fuzz.triage.similar import suggestions

    if (minimal := database.minimals().get(bug.id)) is not None:
        if minimal.case_json:
            yield from program_lines("smallest", codec.decode(minimal.case_json))
        signature = Signature.from_json(minimal.signature).text if minimal.signature else UNCLASSIFIED
        yield f"  signature {signature}" + (f" ({minimal.note})" if minimal.note else "")
    for row in suggestions(database, bug.id):
        yield f"  similar   {row.bug}: {row.why}"
    if (life := database.lives().get(bug.id, 1)) > 1:
        yield f"  life      {life}: it was fixed, and is back"
    for replay in database.replays(bug.id):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(replay.replayed))
        yield f"  replayed  {when}: {replay.verdict}{': ' + replay.note if replay.note else ''}"


def described(bug: Bug, decision: Decision | None) -> dict[str, Any]:
    """One bug for a program."""
    return {**asdict(bug), "status": _status(decision), "duplicate_of": decision.other if decision else ""}


def whole(database: Database, bug: Bug) -> dict[str, Any]:
    """One bug for a program: its findings, its smallest case, the history of what was said and of its replays."""
    from shakeout.fuzz.triage.similar import suggestions

    minimal = database.minimals().get(bug.id)
    return {
        **described(bug, database.standing().get(bug.id)),
        "life": database.lives().get(bug.id, 1),
        "history": [asdict(decision) for decision in database.decisions() if decision.bug == bug.id],
        "minimal": None if minimal is None else asdict(minimal),
        "similar": [asdict(row) for row in suggestions(database, bug.id)],
        "replays": [asdict(row) for row in database.replays(bug.id)],
        "findings": [asdict(finding) for finding in database.findings(bug.id)],
    }


def _status(decision: Decision | None) -> str:
    return "open" if decision is None else decision.status


def _said(decision: Decision) -> str:
    status = f"duplicate of {decision.other}" if decision.other else decision.status
    return f"{status}: {decision.note}" if decision.note else status

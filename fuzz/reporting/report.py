"""What there is to report of a campaign, as values: read from its database once, for whatever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.rows import Bug, Known, LedgerRow, Totals
from shakeout.fuzz.ground.environment import describe
from shakeout.fuzz.ground.finding_folder import SCRIPT
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.notes import CountedNote, noted

__all__ = ["CampaignReport", "Hindrance", "Reason", "ReportedBug", "TargetTime", "gathered", "reported"]

#: What kept cases from being compared, other than their failing.
Hindrance: TypeAlias = Literal["avoided", "unsupported", "infra"]

_HINDRANCES: tuple[Hindrance, ...] = ("avoided", "unsupported", "infra")


@dataclass(frozen=True, slots=True)
class ReportedBug:
    """A bug with the finding that shows it best: that which failed in most fresh processes, and of these the shortest.

    Attributes:
        bug: its row.
        result: of the worker that ran the finding; None if the database has no finding of it.
        case: what failed; None if there is no finding, or the worker died before there was a case.
        script: the path where the finding's script lies; None if there is none.
    """

    bug: Bug
    result: Result | None
    case: Case | None
    script: Path | None


@dataclass(frozen=True, slots=True)
class TargetTime:
    """Where the time went that workers spent on one target.

    Attributes:
        target: its name.
        phases: seconds by phase; ``waiting`` is for a compiler that works for several cases.
        compared: cases that came to a comparison.
    """

    target: str
    phases: Mapping[str, float]
    compared: int

    @property
    def seconds(self) -> float:
        """All phases together."""
        return sum(self.phases.values())

    @property
    def rate(self) -> float:
        """Cases that were compared in a minute of work, waiting left out; 0 without any work."""
        busy = self.seconds - self.phases.get("waiting", 0.0)
        return 60 * self.compared / busy if busy else 0.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why ``count`` cases of one target came to no comparison."""

    target: str
    text: str
    count: int


@dataclass(frozen=True, slots=True)
class CampaignReport:
    """What there is to report of a campaign.

    Attributes:
        name: of its directory.
        totals: how far the cases came, by target.
        states: number of bugs by state, internal and known ones as well.
        seconds: of fuzzing.
        proven: cases whose every result is exact in any order of summation, by target.
        related: cases that a metamorphic relation changed and that ran again, by relation.
        times: where workers' time went, by target.
        disk: bytes by what they are for (``kept``, ``compilers``, ``headers``); empty if nobody measured.
        bugs: what was found, that which fresh processes bear out first; internal and known ones are left out.
        known: what became of the shipped known bugs.
        notes: what oracles remarked that is no finding, most frequent first.
        reasons: why cases were not compared, by what kept them, most frequent first; only of what kept any.
        operators: rows of the ledger by operator, one for each target.
        environment: of the machine that gathers this, not of the findings.
        packages: versions of what is installed there.
    """

    name: str
    totals: Mapping[str, Totals]
    states: Mapping[str, int]
    seconds: float
    proven: Mapping[str, int]
    related: Mapping[str, int]
    times: tuple[TargetTime, ...]
    disk: Mapping[str, int]
    bugs: tuple[ReportedBug, ...]
    known: tuple[Known, ...]
    notes: tuple[CountedNote, ...]
    reasons: Mapping[Hindrance, tuple[Reason, ...]]
    operators: Mapping[str, tuple[LedgerRow, ...]]
    environment: Mapping[str, str | None]
    packages: Mapping[str, str]

    @property
    def fed(self) -> int:
        """Operators that were also given another operator's result."""
        return sum(any(row.fed for row in rows) for rows in self.operators.values())


def gathered(directory: Path) -> CampaignReport:
    """What there is to report of the campaign in a directory."""
    with Database.read(directory / NAME) as database:
        totals = database.totals()
        bugs = [bug for bug in database.bugs() if bug.state not in ("internal", "known")]
        bugs.sort(key=lambda bug: (bug.state not in ("confirmed", "history"), bug.first_seen))
        reasons = {why: tuple(Reason(*row) for row in database.reasons(why)) for why in _HINDRANCES}
        operators: dict[str, tuple[LedgerRow, ...]] = {}
        for row in database.ledger():
            operators[row.operator] = (*operators.get(row.operator, ()), row)
        facts = describe()
        return CampaignReport(
            name=directory.name,
            totals=totals,
            states=database.states(),
            seconds=float(database.meta("spent", 0.0)),
            proven=database.meta("proven", {}),
            related=database.meta("related", {}),
            times=tuple(
                TargetTime(target, phases, totals.get(target, Totals()).compared)
                for target, phases in database.phases().items()
            ),
            disk=database.meta("disk", {}),
            bugs=tuple(reported(directory, database, bug) for bug in bugs),
            known=tuple(database.known()),
            notes=noted(database),
            reasons={why: rows for why, rows in reasons.items() if rows},
            operators=operators,
            environment={name: value for name, value in facts.items() if name != "packages"},
            packages=facts["packages"],
        )


def reported(directory: Path, database: Database, bug: Bug) -> ReportedBug:
    """A bug of the campaign in a directory, with the finding that shows it best."""
    findings = database.findings(bug.id)
    best = max(findings, key=lambda finding: (finding.k, -len(finding.case_json)), default=None)
    script = directory / bug.id / SCRIPT
    return ReportedBug(
        bug=bug,
        result=None if best is None else Result.from_json(best.result),
        case=None if best is None else _case(best.case_json),
        script=script if script.exists() else None,
    )


def _case(text: str) -> Case | None:
    """A finding's case; what died before there was one has no text of one."""
    try:
        return codec.decode(text)
    except codec.MalformedCase:
        return None

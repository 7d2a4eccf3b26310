"""What there is to report of a campaign, as values: read from its database once, for whatever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from shakeout.corpus.database import NAME, Database
from shakeout.corpus.rows import KnownBugReplay, LedgerRow, Totals
from shakeout.fuzz.coverage.summary import Coverage, read_coverage
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.reporting.bug_list import BugList, bug_list
from shakeout.fuzz.reporting.counted import Counted, counted
from shakeout.fuzz.reporting.notes import CountedNote, noted
from shakeout.fuzz.reporting.rules import CountedRule, forgiving

__all__ = ["CampaignReport", "Hindrance", "Reason", "TargetTime", "gathered"]

#: What kept cases from being compared, other than their failing.
Hindrance: TypeAlias = Literal["avoided", "unsupported", "infra"]

_HINDRANCES: tuple[Hindrance, ...] = ("avoided", "unsupported", "infra")


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
        counted: how far the cases came, of how many programs, and how many bugs there are.
        seconds: of fuzzing.
        proven: cases whose every result is exact in any order of summation, by target.
        related: cases that a metamorphic relation changed and that ran again, by relation.
        times: where workers' time went, by target.
        disk: bytes by what they are for (``kept``, ``compilers``, ``headers``); empty if nobody measured.
        bugs: what was found, the worst first, and apart from them what waits, is settled, or is nobody's business.
        known: what became of the shipped known bugs.
        notes: what oracles remarked that is no finding, most frequent first.
        forgiven: by which rules of the oracles differences were forgiven, most frequent first.
        coverage: what the cases reached.
        reasons: why cases were not compared, by what kept them, most frequent first; only of what kept any.
        operators: rows of the ledger by operator, one for each target.
        environment: of the machine that gathers this, not of the findings.
        packages: versions of what is installed there.
    """

    name: str
    counted: Counted
    seconds: float
    proven: Mapping[str, int]
    related: Mapping[str, int]
    times: tuple[TargetTime, ...]
    disk: Mapping[str, int]
    bugs: BugList
    known: tuple[KnownBugReplay, ...]
    notes: tuple[CountedNote, ...]
    forgiven: tuple[CountedRule, ...]
    coverage: Coverage
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
        reasons = {why: tuple(Reason(*row) for row in database.reasons(why)) for why in _HINDRANCES}
        operators: dict[str, tuple[LedgerRow, ...]] = {}
        for row in database.ledger():
            operators[row.operator] = (*operators.get(row.operator, ()), row)
        facts = describe()
        return CampaignReport(
            name=directory.name,
            counted=counted(database),
            seconds=float(database.meta("spent", 0.0)),
            proven=database.meta("proven", {}),
            related=database.meta("related", {}),
            times=tuple(
                TargetTime(target, phases, totals.get(target, Totals()).compared)
                for target, phases in database.phases().items()
            ),
            disk=database.meta("disk", {}),
            bugs=bug_list(directory, database),
            known=tuple(database.known()),
            notes=noted(database),
            forgiven=forgiving(database),
            coverage=read_coverage(directory),
            reasons={why: rows for why, rows in reasons.items() if rows},
            operators=operators,
            environment={name: value for name, value in facts.items() if name != "packages"},
            packages=facts["packages"],
        )

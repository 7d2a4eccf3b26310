"""A campaign's bugs as values, the worst first, and apart from them what waits, is settled, or is nobody's business."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.database import Database
from shakeout.corpus.rows import Bug, Decision, Sighting
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.fuzz.bisect.kept import within
from shakeout.fuzz.ground.finding_folder import SCRIPT, SMALL_SCRIPT
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import headline
from shakeout.fuzz.triage.rank import Rank, rank

__all__ = ["GROUPS", "BugList", "Group", "ReportedBug", "bug_list", "groups", "reported", "triaged", "waiting"]

#: Where a bug stands: among those that somebody should act on, among those that triage has not come to, or apart:
#: ``settled`` by a person's word, ``fixed`` when it ran last, ``known`` from its public report, ``flaky`` in fresh
#: processes, or ``internal``, Shakeout's own.
Group: TypeAlias = Literal["bug", "waiting", "settled", "fixed", "known", "flaky", "internal"]
GROUPS: tuple[Group, ...] = get_args(Group)

#: States of bugs that stand apart.
_APART: Mapping[str, Group] = {"known": "known", "flaky": "flaky", "internal": "internal"}

#: What a person can say of a bug after which nobody has to look at it.
_SETTLED = ("invalid", "wontfix", "duplicate-of")


@dataclass(frozen=True, slots=True)
class ReportedBug:
    """A bug by its smallest case; where it has none, by the finding that failed in most fresh processes.

    Attributes:
        bug: its row.
        group: where it stands.
        rank: in the order of bugs.
        title: in words, as far as there is a case.
        sightings: on which targets and with which symptoms it was seen, those of its duplicates among them.
        findings: that were counted, with those of its duplicates.
        result: of the case; None if the database has no finding of it.
        case: what failed; None if there is no finding, or the worker died before there was a case.
        minimal: what minimising came to; None if nobody tried.
        decision: what a person said of it last.
        life: 2 if it came back after it was fixed, and so on.
        culprit: what bisecting blames; empty if nobody asked.
        script: the path where the script of its smallest case lies, or that of a finding; None if there is none.
    """

    bug: Bug
    group: Group
    rank: Rank
    title: str
    sightings: tuple[Sighting, ...]
    findings: int
    result: Result | None
    case: Case | None
    minimal: SmallestCase | None
    decision: Decision | None
    life: int
    culprit: str
    script: Path | None

    @property
    def targets(self) -> tuple[str, ...]:
        """On which targets it was seen, its own first."""
        return tuple(dict.fromkeys((self.bug.target, *(seen.target for seen in self.sightings))))

    @property
    def smallest(self) -> bool:
        """Whether its case is the smallest one that is known."""
        return self.minimal is not None and bool(self.minimal.case_json)

    @property
    def alone(self) -> Case | None:
        """The case if it fails by itself; one that fails behind others only is shown by no short script."""
        return None if self.bug.state == "history" else self.case


@dataclass(frozen=True, slots=True)
class BugList:
    """All bugs of a campaign.

    Attributes:
        ranked: those that somebody should act on, the worst first.
        waiting: findings that triage has not come to.
        apart: the others by where they stand; of each group the worst first, or for those that wait in the order in
            which they were seen.
    """

    ranked: tuple[ReportedBug, ...]
    waiting: int
    apart: Mapping[Group, tuple[ReportedBug, ...]]

    @property
    def every(self) -> tuple[ReportedBug, ...]:
        """One after the other."""
        return (*self.ranked, *(row for rows in self.apart.values() for row in rows))


def triaged(bug: Bug, minimal: SmallestCase | None) -> bool:
    """Whether triage has come to a bug: it ran in fresh processes, or somebody looked for its smallest case."""
    return bug.state != "new" or minimal is not None


def groups(database: Database) -> dict[Group, list[Bug]]:
    """The bugs of a campaign by where they stand, each in the order in which it was first seen; no empty group."""
    standing, smallest, fixed = database.standing(), database.smallest_cases(), database.fixed()
    back = database.lives()

    def group(bug: Bug) -> Group:
        if bug.id in standing and standing[bug.id].status in _SETTLED:
            return "settled"
        if bug.state in _APART:
            return _APART[bug.state]
        if bug.id in fixed:
            return "fixed"
        # One that came back was looked at in its life before.
        return "bug" if bug.id in back or triaged(bug, smallest.get(bug.id)) else "waiting"

    found: dict[Group, list[Bug]] = {name: [] for name in GROUPS}
    for bug in database.bugs():
        found[group(bug)].append(bug)
    return {name: bugs for name, bugs in found.items() if bugs}


def waiting(database: Database) -> int:
    """How many findings triage has not come to, those among them of campaigns that did not triage as they went."""
    return database.waiting() + sum(bug.count for bug in groups(database).get("waiting", ()))


def bug_list(directory: Path, database: Database) -> BugList:
    """The bugs of the campaign in a directory. Those that wait may be hundreds: of them no case is looked at."""
    rows = _Rows(directory, database)
    found: dict[Group, tuple[ReportedBug, ...]] = {}
    for group, bugs in groups(database).items():
        members = [rows.of(bug, group, by_case=group != "waiting") for bug in bugs]
        found[group] = tuple(members if group == "waiting" else sorted(members, key=lambda shown: shown.rank.key))
    return BugList(found.pop("bug", ()), waiting(database), found)


def reported(directory: Path, database: Database, bug: Bug) -> ReportedBug:
    """A bug of the campaign in a directory."""
    # By its id: a campaign that goes on counts meanwhile.
    group = next(group for group, bugs in groups(database).items() if bug.id in {one.id for one in bugs})
    return _Rows(directory, database).of(bug, group)


class _Rows:
    """What is asked of the database once for all bugs."""

    def __init__(self, directory: Path, database: Database) -> None:
        self._directory = directory
        self._database = database
        self._smallest = database.smallest_cases()
        self._standing = database.standing()
        self._lives = database.lives()
        self._sightings = database.sightings()
        self._copies = _copies(database.bugs(), self._standing)

    def of(self, bug: Bug, group: Group, *, by_case: bool = True) -> ReportedBug:
        """A bug; without looking at its case if that is not wanted."""
        minimal, decision = self._smallest.get(bug.id), self._standing.get(bug.id)
        case, result = self._shown(bug, minimal) if by_case else (None, None)
        copies = self._copies.get(bug.id, ())
        folder = self._directory / bug.id
        bisection = within(folder).read() if by_case else None
        culprit = None if bisection is None else bisection.culprit
        known = bool(bug.known) or (decision is not None and decision.status == "reported")
        return ReportedBug(
            bug=bug,
            group=group,
            rank=rank(case, result, bug=bug.id, state=bug.state, known=known),
            title=bug.title if case is None or result is None else headline(case, result),
            sightings=_together(seen for one in (bug, *copies) for seen in self._sightings.get(one.id, ())),
            findings=bug.count + sum(copy.count for copy in copies),
            result=result,
            case=case,
            minimal=minimal,
            decision=decision,
            life=self._lives.get(bug.id, 1),
            culprit="" if culprit is None else str(culprit),
            script=next((path for name in (SMALL_SCRIPT, SCRIPT) if (path := folder / name).exists()), None),
        )

    def _shown(self, bug: Bug, minimal: SmallestCase | None) -> tuple[Case | None, Result | None]:
        if minimal is not None and minimal.case_json:
            case, result = _case(minimal.case_json), Result.from_json(minimal.result)
            if case is not None and result.failure is not None:
                return case, result
        findings = self._database.findings(bug.id)
        best = max(findings, key=lambda finding: (finding.k, -len(finding.case_json)), default=None)
        return (None, None) if best is None else (_case(best.case_json), Result.from_json(best.result))


def _copies(bugs: Sequence[Bug], standing: Mapping[str, Decision]) -> dict[str, list[Bug]]:
    """By bug, those that people have called its duplicates, or duplicates of these."""
    found: dict[str, list[Bug]] = {}
    for bug in bugs:
        original = bug.id
        while original in standing and standing[original].other:
            original = standing[original].other
        if original != bug.id:
            found.setdefault(original, []).append(bug)
    return found


def _together(sightings: Iterable[Sighting]) -> tuple[Sighting, ...]:
    """What several bugs were seen with, most often first."""
    counts: Counter[tuple[str, str]] = Counter()
    for seen in sightings:
        counts[seen.target, seen.symptom] += seen.count
    return tuple(Sighting(*where, count) for where, count in counts.most_common())


def _case(text: str) -> Case | None:
    """A finding's case; what died before there was one has no text of one."""
    try:
        return codec.decode(text)
    except codec.MalformedCase:
        return None

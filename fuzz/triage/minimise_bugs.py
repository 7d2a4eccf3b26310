"""Every bug of a campaign to its smallest case, and a signature made of that."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from shakeout.corpus import blobs, codec
from shakeout.corpus.case import Setting
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.rows import Bug, Finding
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise.executors import CandidatePool
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.minimise.sequence import behind, minimise_behind, recorded_before
from shakeout.fuzz.minimise.stored import write_before
from shakeout.fuzz.running.case_file import render
from shakeout.fuzz.triage.bug_signature import Signature
from shakeout.fuzz.triage.scaling import growth
from shakeout.fuzz.triage.shown import Small
from shakeout.fuzz.triage.similar import Similar, signatures, similar
from shakeout.fuzz.triage.store import Store
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.fuzz.workers.zygote_client import ZygoteBroken

__all__ = ["Minimisation", "minimise_all", "minimised", "wanted"]

#: What is flaky would take hours; what is known is small already.
_STATES = ("confirmed", "history", "new")


def wanted(database: Database, *, again: bool = False) -> list[tuple[Bug, Finding]]:
    """The bugs to minimise, each with its best finding, by target: not those that a person has settled.

    Of those with a smallest case the ones are left out of which no pass makes a smaller one.
    """
    standing = database.standing()
    done = {bug for bug, row in database.smallest_cases().items() if row.state != "budget"}
    found = []
    for bug in database.bugs():
        if bug.state not in _STATES or bug.id in standing or (bug.id in done and not again):
            continue
        cases = [finding for finding in database.findings(bug.id) if finding.case_json]
        if cases:
            # The one that was confirmed, or tried and found to need others before it, and of these the shortest.
            found.append((bug, min(cases, key=lambda one: (-one.k, -one.n, len(one.small or one.case_json)))))
    return sorted(found, key=lambda row: row[1].result["target"])


def minimised(
    bug: str,
    finding: Finding,
    executor: CandidatePool,
    budget: Budget,
    folder: Path,
    *,
    width: int = 1,
    tell: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[SmallestCase, Small | None]:
    """Minimise one finding, from its smallest case on if it has one, behind the cases that its folder says it needs.

    Returns:
        A row for the database, and the smallest case, which has no script yet.
    """
    case, failure = codec.decode(finding.case_json), failure_of(Result.from_json(finding.result))
    if finding.small:
        case, failure = codec.decode(finding.small), failure_of(Result.from_json(finding.small_result))
    began = time.monotonic()
    try:
        before = recorded_before(folder, case)
        found = minimise_behind(
            before, case, executor, wanted=failure, budget=budget, width=width, tell=tell, stop=stop
        )
    except NotReproduced as error:
        return SmallestCase(bug, "not reproduced", seconds=time.monotonic() - began, note=str(error)), None
    result = found.outcome.result
    assert result is not None
    larger = "" if stop() else growth(found.case, found.failure, behind(executor, found.before))
    spent = round(found.seconds, 3)
    small = Small(found.case, found.failure, result, "", larger, found.complete, found.tries, spent)
    write_before(folder, found)
    return small.row(bug), small


@dataclass(frozen=True, slots=True)
class Minimisation:
    """What came of minimising a campaign's bugs.

    Attributes:
        wanted: bugs that were to be minimised.
        rows: of those that were, in the order in which that was done; fewer if it was stopped or a target is unusable.
        unusable: why the bugs of a target were left, by target.
        similar: pairs of all the campaign's bugs that may be one, each once; none if it was stopped.
    """

    wanted: int
    rows: tuple[SmallestCase, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)
    similar: tuple[tuple[str, Similar], ...] = ()


@blobs.workshop()
def minimise_all(
    directory: Path,
    *,
    budget: Budget,
    workers: int,
    memory: int,
    again: bool = False,
    tell: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Minimisation:
    """Minimise the bugs of a campaign, one after the other; what is done stays when it is stopped.

    Args:
        directory: of the campaign.
        budget: for each bug.
        workers: that run candidates.
        memory: bytes that a candidate may take.
        again: those too that were minimised before.
        tell: told of each target (``Minimising``, ``Warming``, ``Unusable``), how far each search is (``Shortening``,
            ``Shrinking``), and of each bug once its smallest case is stored (``Minimised``).
        stop: asked now and then whether to end.
    """
    blobs.tell([str(directory.absolute() / blobs.FOLDER)])
    with Database.open(directory / NAME) as database:
        todo = wanted(database, again=again)
        store = Store(database, directory, tell)
        rows: list[SmallestCase] = []
        unusable: dict[str, str] = {}
        groups: dict[tuple[str, WorkerKind], list[tuple[Bug, Finding]]] = {}
        for one in todo:
            groups.setdefault(_kind(one[1]), []).append(one)
        for (target, _), chosen in groups.items():
            tell(events.Minimising(target, len(chosen)))
            try:
                with _pool(_setting(chosen[0][1]), workers, memory, tell, stop) as pool:
                    for bug, finding in chosen:
                        if database.bug(bug.id).id != bug.id:
                            continue  # it turned out to be another one
                        folder = directory / bug.id
                        row, small = minimised(
                            bug.id, finding, pool, budget, folder, width=workers, tell=tell, stop=stop
                        )
                        if stop():
                            break
                        rows.append(row)
                        if small is None:
                            with database.transaction():
                                database.set_smallest(row)
                        else:
                            store.improve(bug.id, replace(small, script=render(small.case)))
                        tell(_event(row, len(finding.result["operators"])))
            except ZygoteBroken as error:
                unusable[target] = (str(error).strip().splitlines() or ["it said nothing"])[-1]
                tell(events.Unusable(target, unusable[target]))
            if stop():
                return Minimisation(len(todo), tuple(rows), unusable)
        return Minimisation(len(todo), tuple(rows), unusable, tuple(_pairs(database)))


def _setting(finding: Finding) -> Setting:
    return codec.decode(finding.case_json).setting


def _kind(finding: Finding) -> tuple[str, WorkerKind]:
    """Which pool a finding needs."""
    setting = _setting(finding)
    return setting.target, WorkerKind.of(setting)


@contextlib.contextmanager
def _pool(
    setting: Setting, workers: int, memory: int, tell: events.Listener, stop: Callable[[], bool]
) -> Iterator[CandidatePool]:
    with (
        tempfile.TemporaryDirectory(prefix="shakeout-") as scratch,
        CandidatePool(Path(scratch), setting, workers, memory=memory, tell=tell, stop=stop) as pool,
    ):
        yield pool


def _event(row: SmallestCase, before: int) -> events.Minimised:
    """What became of one bug."""
    after = len(codec.decode(row.case_json).program.operators()) if row.case_json else None
    signature = Signature.from_json(row.signature).text if row.signature else ""
    return events.Minimised(row.bug, row.state, before, after, row.tries, row.seconds, signature, row.note)


def _pairs(database: Database) -> Iterator[tuple[str, Similar]]:
    """Bugs that may be one, each pair once."""
    known = signatures(database)
    for bug in sorted(known):
        yield from ((bug, row) for row in similar(known, bug) if bug < row.bug)

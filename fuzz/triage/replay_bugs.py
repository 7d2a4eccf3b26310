"""Stored bugs, shipped regressions and known bugs run again: what became of each."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shakeout.corpus import blobs, codec, known, regressions
from shakeout.corpus.case import Case
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.smallest_cases import Replayed
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import result_of
from shakeout.fuzz.ground.failure import Failure, failure_of, remembered
from shakeout.fuzz.ground.finding_folder import SHORTEST, read_sequence
from shakeout.fuzz.ground.jobs import Job, Run
from shakeout.fuzz.ground.makers import RUNS_ONLY
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.fuzz.workers.timing import LEAST, TimeLimits
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.fuzz.workers.zygote_client import Interrupted, ZygoteBroken
from shakeout.targets.accelerators import missing
from shakeout.targets.registry import target
from shakeout.targets.target import UnknownTarget

__all__ = ["RUNS", "Item", "Replays", "Row", "job_of", "replay", "replay_all", "shipped", "stored", "unable"]

#: Each case runs so often, each time in a fresh worker: if it fails in some runs only, it is flaky.
RUNS = 2

Kind = Literal["bug", "regression", "known"]


@dataclass(frozen=True, slots=True)
class Item:
    """Something that runs again.

    Attributes:
        kind: a campaign's ``bug``, a shipped ``regression``, or a shipped ``known`` bug.
        id: of the bug, or name of the file.
        title: one line.
        case: what runs; None if there is none.
        failure: how it failed; None if any failure is the one.
        before: texts of cases that have to run before it in the same worker.
        expected: of a regression, what it does with the installed versions.
    """

    kind: Kind
    id: str
    title: str
    case: Case | None
    failure: Failure | None = None
    before: tuple[str, ...] = ()
    expected: regressions.Status | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """What became of it.

    Attributes:
        item: what ran.
        verdict: one of ``shakeout.corpus.smallest_cases.REPLAYED``.
        note: how it fails instead, or why it cannot run.
        failed: runs in which it failed, as before or otherwise.
        runs: how often it ran.
        results: of each run.
        script: of a run that failed; empty if none did, or its worker died.
    """

    item: Item
    verdict: Replayed
    note: str = ""
    failed: int = 0
    runs: int = 0
    results: tuple[Result, ...] = ()
    script: str = ""

    @property
    def surprising(self) -> bool:
        """Whether a regression does something else than it should with these versions."""
        expected = {None: None, "fails": "still failing", "fixed": "fixed"}[self.item.expected]
        return expected is not None and self.verdict not in (expected, "cannot run")

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        item = self.item
        named = {"kind": item.kind, "id": item.id, "title": item.title, "expected": item.expected}
        on = item.case.setting.target if item.case is not None else None
        told = {"verdict": self.verdict, "note": self.note, "failed": self.failed, "runs": self.runs}
        return {**named, "target": on, **told}


def stored(directory: Path, database: Database) -> list[Item]:
    """The bugs of a campaign, each by its smallest case if it has one; known and internal ones are left out."""
    smallest, found = database.smallest_cases(), []
    for bug in database.bugs():
        if bug.state in ("known", "internal"):
            continue
        minimal = smallest.get(bug.id)
        findings = [finding for finding in database.findings(bug.id) if finding.case_json]
        best = min(findings, key=lambda one: (-one.k, len(one.case_json)), default=None)
        if minimal is not None and minimal.case_json:
            case, failure = codec.decode(minimal.case_json), failure_of(Result.from_json(minimal.result))
        elif best is not None:
            case, failure = codec.decode(best.case_json), failure_of(Result.from_json(best.result))
        else:
            found.append(Item("bug", bug.id, bug.title, None))
            continue
        before: tuple[str, ...] = ()
        if bug.state == "history":
            folder = directory / bug.id
            before = (read_sequence(folder, SHORTEST) or read_sequence(folder))[:-1]
        found.append(Item("bug", bug.id, bug.title, case, failure, before))
    return found


def shipped(versions: Mapping[str, str]) -> list[Item]:
    """The regressions and known bugs that come with Shakeout."""
    found = []
    for one in regressions.load_all():
        failure = Failure(one.case.setting.target, **one.failure)
        found.append(Item("regression", one.id, one.title, one.case, failure, expected=one.expected(versions)))
    return found + [Item("known", bug.id, bug.title, bug.case) for bug in known.load_all()]


def replay(
    items: Sequence[Item],
    *,
    workers: int,
    memory: int,
    runs: int = RUNS,
    ready: Collection[str] = (),
    tell: Callable[[Row], None] = lambda row: None,
    warming: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Row]:
    """Run items again in isolated workers.

    Args:
        items: what to run.
        workers: side by side.
        memory: bytes that a case may take.
        runs: of each case, each in a fresh worker.
        ready: targets of which somebody has seen that they can be used here. What a user wrote is imported for the
            others, and torch with it, which takes as long as many runs.
        tell: told of each item as it is settled.
        warming: told while targets are loaded.
        stop: asked now and then whether to give up.

    Returns:
        A row for each item, in the order in which they were settled; fewer if it was stopped.
    """
    rows: list[Row] = []

    def settled(row: Row) -> None:
        rows.append(row)
        tell(row)

    able: list[Item] = []
    for item in items:
        if why := unable(item, ready):
            settled(Row(item, "cannot run", why))
        else:
            able.append(item)
    for kind in dict.fromkeys(WorkerKind.of(_case(item).setting) for item in able):
        chosen = [item for item in able if WorkerKind.of(_case(item).setting) == kind]
        try:
            for row in _on(kind, chosen, workers, memory, runs, warming, stop):
                settled(row)
        except Interrupted:  # while a target was loaded
            break
    return rows


def _case(item: Item) -> Case:
    assert item.case is not None
    return item.case


def unable(item: Item, ready: Collection[str] = ()) -> str:
    """Why an item cannot run here; empty if it can. What a user wrote is imported to find out, unless it is ready."""
    if item.case is None:
        return "it crashed while it was grown, and has no case"
    if why := missing(item.case.setting.device):
        return why
    if item.case.setting.target in (vocabulary(item.case.program.vocabulary).REFERENCE, *ready):
        return ""
    try:
        return target(item.case.setting.target).unavailable() or ""
    except UnknownTarget as error:
        return str(error)


def _on(
    kind: WorkerKind,
    items: Sequence[Item],
    workers: int,
    memory: int,
    runs: int,
    warming: events.Listener,
    stop: Callable[[], bool],
) -> Iterator[Row]:
    """Run items on one kind of worker, one target after the other as it is warm."""
    names = tuple(dict.fromkeys(_case(item).setting.target for item in items))
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        pool = WorkerPool(Path(scratch), names, workers, tell=warming, maker=RUNS_ONLY, kind=kind)
        try:
            pool.start(stop, complete=False)
            for name in pool.in_order(names):
                chosen = [item for item in items if _case(item).setting.target == name]
                try:
                    broken = pool.warm([name]).get(name, "")
                except ZygoteBroken as error:
                    broken = str(error) or "it could not be loaded"
                if broken:
                    said = (broken.strip().splitlines() or ["it said nothing"])[-1][:200]
                    yield from (Row(item, "cannot run", said) for item in chosen)
                    continue
                yield from _run(pool, chosen, memory, runs, stop)
        finally:
            pool.stop()


def _run(pool: WorkerPool, items: Sequence[Item], memory: int, runs: int, stop: Callable[[], bool]) -> Iterator[Row]:
    times = TimeLimits()
    jobs = [(number, job_of(item)) for number, item in enumerate(items) for _ in range(runs)]
    of = {id(job): number for number, job in jobs}
    seen: dict[int, list[Result]] = {number: [] for number in range(len(items))}
    scripts: dict[int, str] = {}

    def limits(job: Job) -> Limits:
        return Limits(_seconds(items[of[id(job)]], times) * (1 + len(job.before)), memory)

    for answer in pool.answers([job for _, job in jobs], limits, stop):
        number = of[id(answer.job)]
        seen[number].append(result_of(answer))
        scripts[number] = answer.reply.script or scripts.get(number, "")
        if len(seen[number]) == runs:
            row = _judged(items[number], seen[number])
            yield replace(row, results=tuple(seen[number]), script=scripts[number])


def _seconds(item: Item, times: TimeLimits) -> float:
    """How long an item may run. What is known to hang is not waited for as long as what may only be slow.

    A compiler may be that slow, and is warm only once it has compiled something; what a user wrote runs as it is.
    """
    name = _case(item).setting.target
    hangs = item.failure is not None and item.failure.oracle == "hang"
    return LEAST if hangs and ":" in name else times.limit(name)


def job_of(item: Item) -> Run:
    """What runs an item once, in a fresh worker."""
    case = _case(item)
    name, device = case.setting.target, case.setting.device
    before = tuple(Run(target=name, case=text) for text in item.before)
    return Run(target=name, case=case.text, device=device, before=before, fresh=True)


def _judged(item: Item, results: Sequence[Result]) -> Row:
    """The verdict on some runs."""
    failures = [failure_of(result) for result in results]
    failed, runs = sum(failure is not None for failure in failures), len(results)
    stuck = next((result for result in results if result.status in ("infra", "unsupported", "invalid")), None)
    if stuck is not None:
        return Row(item, "cannot run", f"{stuck.status}: {stuck.reason}"[:200], failed, runs)
    if not failed:
        return Row(item, "fixed", "", failed, runs)
    if failed < runs:
        return Row(item, "flaky", f"fails in {failed} of {runs} runs", failed, runs)
    other = next(
        (failure for failure in failures if failure is not None and not remembered(failure, item.failure)), None
    )
    if other is not None:
        return Row(item, "changed", f"now {other}", failed, runs)
    return Row(item, "still failing", "", failed, runs)


# --- all of them ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replays:
    """What became of everything that ran again.

    Attributes:
        versions: of the installed packages.
        rows: one for each item, in the order in which they were settled; fewer if it was stopped.
        seconds: that it took.
        left: how many items did not run because it was stopped.
    """

    versions: Mapping[str, str]
    rows: tuple[Row, ...]
    seconds: float
    left: int = 0

    @property
    def counts(self) -> dict[Replayed, int]:
        """Number of items by verdict, in the order in which the verdicts were first given."""
        return dict(Counter(row.verdict for row in self.rows))

    @property
    def surprising(self) -> int:
        """Regressions that do something else than they should with these versions."""
        return sum(row.surprising for row in self.rows)

    @property
    def failing(self) -> tuple[Row, ...]:
        """The campaign's own bugs that are not fixed."""
        return tuple(row for row in self.rows if row.item.kind == "bug" and row.verdict not in ("fixed", "cannot run"))


def replay_all(
    directory: Path | None,
    *,
    workers: int,
    memory: int,
    runs: int = RUNS,
    wanted: Callable[[Item], bool] = lambda item: True,
    tell: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Replays:
    """Run everything again, and remember what became of a campaign's own bugs.

    Args:
        directory: of a campaign; None for what is shipped alone.
        workers: side by side.
        memory: bytes that a case may take.
        runs: of each case.
        wanted: says which of them run.
        tell: told while targets are loaded (``Warming``), and of each item once it is settled and remembered
            (``Replayed``).
        stop: asked now and then whether to give up.

    Raises:
        ZygoteBroken: torch could not be loaded.
    """
    versions: dict[str, str] = describe()["packages"]
    items = shipped(versions)
    lives: dict[str, int] = {}
    if directory is not None:
        blobs.tell([str(directory.absolute() / blobs.FOLDER)])
        with Database.read(directory / NAME) as database:
            items = stored(directory, database) + items
    items = [item for item in items if wanted(item)]
    began = time.monotonic()
    rows: list[Row] = []

    def settled(row: Row) -> None:
        if directory is not None and row.item.kind == "bug":
            row = _remembered(directory / NAME, row, versions, lives)
        rows.append(row)
        tell(_event(row, lives.get(row.item.id, 1)))

    replay(items, workers=workers, memory=memory, runs=runs, tell=settled, warming=tell, stop=stop)
    return Replays(versions, tuple(rows), time.monotonic() - began, len(items) - len(rows))


def _remembered(path: Path, row: Row, versions: Mapping[str, str], lives: dict[str, int]) -> Row:
    """Store what became of a campaign's bug; one that was fixed and fails again is in its next life."""
    with Database.open(path) as database, database.transaction():
        if row.verdict in ("still failing", "changed") and row.item.id in database.fixed():
            row = replace(row, verdict="back")
            database.reopen(row.item.id)
        database.add_replay(row.item.id, row.verdict, row.note, versions)
        lives.update(database.lives())
    return row


def _event(row: Row, life: int) -> events.Replayed:
    item = row.item
    return events.Replayed(
        item.kind, item.id, item.title, row.verdict, row.note, item.expected, surprising=row.surprising, life=life
    )

"""``shakeout minimise --all``: every bug of a campaign to its smallest case, and a signature made of that."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.corpus import blobs, codec
from shakeout.corpus.case import Setting
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.minimals import Minimal
from shakeout.corpus.rows import Bug, Finding
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.finding_folder import CASE
from shakeout.fuzz.ground.progress import interruptible
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise.command import Shown, write_minimal
from shakeout.fuzz.minimise.executors import Crewed
from shakeout.fuzz.minimise.predicate import Executor, NotReproduced
from shakeout.fuzz.minimise.search import Budget, Minimised, Progress, minimise
from shakeout.fuzz.triage.bug_signature import UNCLASSIFIED, Signature, signature_of
from shakeout.fuzz.triage.scaling import growth
from shakeout.fuzz.triage.similar import signatures, similar
from shakeout.fuzz.workers.nursery import ZygoteBroken
from shakeout.fuzz.workers.place import Place

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["minimise_all", "minimised", "wanted"]

#: A bug that fails only behind other cases is minimised by shortening their sequence, which this is not; what is flaky
#: would take hours; what is known is small already.
_STATES = ("confirmed", "new")


def wanted(database: Database, *, again: bool = False) -> list[tuple[Bug, Finding]]:
    """The bugs to minimise, each with its best finding, by target: those that nobody has settled or minimised."""
    standing, done = database.standing(), database.minimals()
    found = []
    for bug in database.bugs():
        if bug.state not in _STATES or bug.id in standing or (bug.id in done and not again):
            continue
        cases = [finding for finding in database.findings(bug.id) if finding.case_json]
        if cases:
            # The one that was confirmed, and of these the shortest.
            found.append((bug, min(cases, key=lambda one: (-one.k, len(one.case_json)))))
    return sorted(found, key=lambda row: row[1].result["target"])


def minimised(
    bug: str,
    finding: Finding,
    executor: Executor,
    budget: Budget,
    *,
    width: int = 1,
    tell: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Minimal, Minimised | None]:
    """Minimise one finding, as a row for the database."""
    case, failure = codec.decode(finding.case_json), failure_of(Result.from_json(finding.result))
    began = time.monotonic()
    try:
        found = minimise(case, executor, wanted=failure, budget=budget, width=width, tell=tell, stop=stop)
    except NotReproduced as error:
        return Minimal(bug, "not reproduced", seconds=time.monotonic() - began, note=str(error)), None
    result = found.outcome.result
    assert result is not None
    larger = "" if stop() else growth(found.case, found.failure, executor)
    signature = signature_of(found.case, result, larger)
    row = Minimal(
        bug,
        "complete" if found.complete else "budget",
        found.case.text,
        result.to_json(),
        {} if signature is None else signature.to_json(),
        found.tries,
        round(found.seconds, 3),
    )
    return row, found


@blobs.workshop()
def minimise_all(
    directory: Path,
    *,
    budget: Budget,
    workers: int,
    memory: int,
    plain: bool,
    console: Console,
    again: bool = False,
) -> int:
    """Minimise the bugs of a campaign, one after the other; what is done stays when it is interrupted.

    Args:
        directory: of the campaign.
        budget: for each bug.
        workers: that run candidates.
        memory: bytes that a candidate may take.
        plain: lines instead of a live display.
        console: where to show it.
        again: those too that were minimised before.

    Returns:
        The exit status.
    """
    blobs.tell([str(directory.absolute() / blobs.FOLDER)])
    with Database.open(directory / NAME) as database, interruptible() as stop:
        todo = wanted(database, again=again)
        if not todo:
            console.print(f"{directory}: no bug is left to minimise", soft_wrap=True)
            return Exit.OK
        groups: dict[tuple[str, Place], list[tuple[Bug, Finding]]] = {}
        for one in todo:
            groups.setdefault(_place(one[1]), []).append(one)
        for (target, _), chosen in groups.items():
            try:
                with _crew(_setting(chosen[0][1]), workers, memory, plain, console, stop) as (crew, tell):
                    for bug, finding in chosen:
                        row, found = minimised(bug.id, finding, crew, budget, width=workers, tell=tell, stop=stop)
                        if stop():
                            break
                        _store(directory, database, row, found)
                        console.print(_line(row, len(finding.result["operators"])), soft_wrap=True, markup=False)
            except ZygoteBroken as error:
                said = (str(error).strip().splitlines() or ["it said nothing"])[-1]
                console.print(f"{target} cannot be used, and its bugs are left: {said}", soft_wrap=True, markup=False)
            if stop():
                return Exit.INTERRUPTED
        for text in _groups(database):
            console.print(text, soft_wrap=True, markup=False)
    return Exit.OK


def _setting(finding: Finding) -> Setting:
    return codec.decode(finding.case_json).setting


def _place(finding: Finding) -> tuple[str, Place]:
    """Which crew a finding needs."""
    setting = _setting(finding)
    return setting.target, Place.of(setting)


@contextlib.contextmanager
def _crew(
    setting: Setting,
    workers: int,
    memory: int,
    plain: bool,
    console: Console,
    stop: Callable[[], bool],
) -> Iterator[tuple[Crewed, Shown]]:
    tell = Shown(console, live=console.is_terminal and not plain)
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        warming: events.Listener = tell.warming
        crew = Crewed(Path(scratch), setting, workers, memory=memory, tell=warming, stop=stop)
        with tell, crew:
            yield crew, tell


def _store(directory: Path, database: Database, row: Minimal, found: Minimised | None) -> None:
    if found is not None:
        folder = directory / row.bug
        folder.mkdir(exist_ok=True)
        write_minimal(folder / CASE, found)
    with database.transaction():
        database.set_minimal(row)


def _line(row: Minimal, before: int) -> str:
    """What became of one bug."""
    if row.state == "not reproduced":
        return f"{row.bug:<9} not reproduced: {row.note}"
    after = len(codec.decode(row.case_json).program.operators())
    said = Signature.from_json(row.signature).text if row.signature else UNCLASSIFIED
    more = "" if row.state == "complete" else ", the budget is used up"
    return f"{row.bug:<9} operators {before} -> {after}, {row.tries} tries in {row.seconds:.0f} s{more}: {said}"


def _groups(database: Database) -> Iterator[str]:
    """Bugs that may be one, each pair once."""
    known = signatures(database)
    told = False
    for bug in sorted(known):
        for row in similar(known, bug):
            if bug < row.bug:
                if not told:
                    yield "similar (shakeout bugs set ID duplicate-of OTHER merges, and 'set ID open' takes it back):"
                told = True
                yield f"  {bug} {row.bug}: {row.why}"

"""A stored case and the smallest one that fails for the same reason, written beside it with its script."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shakeout.corpus import blobs
from shakeout.corpus.case import Case
from shakeout.corpus.files import write_whole
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.finding_folder import CASE, SHORTEST, read_result, write_sequence
from shakeout.fuzz.minimise.executors import CandidatePool
from shakeout.fuzz.minimise.search import Budget, Minimised
from shakeout.fuzz.minimise.sequence import minimise_behind, recorded_before
from shakeout.fuzz.running.case_file import read_case, render

__all__ = ["Written", "case_file", "minimise_stored", "write_before", "write_minimal"]


@dataclass(frozen=True, slots=True)
class Written:
    """The smallest case of a stored one.

    Attributes:
        original: the stored case.
        found: what came of the search.
        case: file of the smallest case.
        script: file of its script.
        others: files of cases that failed for other reasons on the way, and those reasons.
        recorded: cases that ran before the stored one in its worker; those that are left stand in ``sequence``.
    """

    original: Case
    found: Minimised
    case: Path
    script: Path
    others: tuple[tuple[Path, Failure], ...]
    recorded: int = 0

    @property
    def sequence(self) -> Path | None:
        """The file of the shortened sequence; None if the smallest case fails by itself."""
        return self.case.parent / SHORTEST if self.found.before else None


def case_file(path: Path) -> Path:
    """The file of a case: in a finding's folder, or the path itself."""
    return path / CASE if path.is_dir() else path


def minimise_stored(
    path: Path,
    *,
    budget: Budget,
    workers: int,
    memory: int,
    tell: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> Written:
    """Minimise one case; told to stop, it ends with the best so far.

    Args:
        path: a case's file, or a finding's folder, which also says how it has to fail.
        budget: of the search.
        workers: that run candidates.
        memory: bytes that a candidate may take.
        tell: told while the target is loaded (``Warming``) and how far the search is (``Shrinking``).
        stop: asked now and then whether to end.

    Raises:
        MalformedCase: the file holds no case.
        NotReproduced: the case does not fail as it should; nothing is written.
        ZygoteBroken: the target could not be loaded.
    """
    shown = read_result(path) if path.is_dir() else None
    wanted = None if shown is None else failure_of(shown)
    file = case_file(path)
    case = read_case(file, None)
    before = recorded_before(path, case) if path.is_dir() else ()
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        pool = CandidatePool(Path(scratch), case.setting, workers, memory=memory, tell=tell, stop=stop)
        with pool:
            found = minimise_behind(
                before, case, pool, wanted=wanted, budget=budget, width=workers, tell=tell, stop=stop
            )
    target, text = write_minimal(file, found)
    others = []
    for number, (failure, other) in enumerate(found.others, 1):
        beside = file.with_suffix(f".other{number}.json")
        blobs.copy(other, beside.parent)
        write_whole(beside, other.text + "\n")
        others.append((beside, failure))
    return Written(case, found, target, text, tuple(others), len(before))


def write_minimal(file: Path, found: Minimised) -> tuple[Path, Path]:
    """Write the smallest case and its script beside the file of the original, and what runs before; their paths."""
    target, text = file.with_suffix(".min.json"), file.with_suffix(".min.py")
    for case in (*found.before, found.case):
        blobs.copy(case, file.parent)
    write_whole(target, found.case.text + "\n")
    write_whole(text, render(found.case))
    if file.name == CASE:
        write_before(file.parent, found)
    return target, text


def write_before(folder: Path, found: Minimised) -> None:
    """Write what has to run before a finding's smallest case, and it at the end, if anything has to."""
    if found.before:
        write_sequence(folder, [case.text for case in (*found.before, found.case)], SHORTEST)
    else:
        (folder / SHORTEST).unlink(missing_ok=True)

"""A stored case and which part of a compiler is to blame for it: found out fact by fact, and kept beside the case."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shakeout.corpus.case import Case
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Bisection, Fact, Releases
from shakeout.fuzz.bisect.kept import Kept, Memory, beside, within
from shakeout.fuzz.bisect.ladders import bisected
from shakeout.fuzz.bisect.trials import TrialPool
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.finding_folder import CASE, MINIMISED, RESULT, read_result
from shakeout.fuzz.ground.progress import Stop
from shakeout.fuzz.ground.versions import describe
from shakeout.fuzz.running.case_file import read_case
from shakeout.targets.registry import facts_of

__all__ = ["MINIMISED", "Answer", "Job", "bisect_stored", "chosen"]


@dataclass(slots=True)
class Job:
    """What is bisected.

    Attributes:
        file: of the case.
        case: the case.
        folder: of the finding; None for a lone case.
        wanted: the failure that the finding tells; None for what the case shows.
    """

    file: Path
    case: Case
    folder: Path | None = None
    wanted: Failure | None = None

    @property
    def kept(self) -> Kept:
        """Where the answer is kept."""
        return within(self.folder) if self.folder is not None else beside(self.file, self.case.id)

    def known(self) -> Bisection | None:
        """What is known of it: of a finding also where it was found of a larger case of it."""
        found = self.kept.read()
        return found if found is not None and (self.folder is not None or found.case == self.case.id) else None


def chosen(path: Path) -> Job:
    """What a path means: of a finding's folder the minimised case, if there is one. A file in such a folder is of the
    finding as well.

    Raises:
        MalformedCase: the file holds no case.
    """
    if path.is_dir():
        folder, small = path, path / MINIMISED
        file = small if small.exists() else path / CASE
    else:
        folder, file = path.parent, path
        if path.name not in (CASE, MINIMISED) or not (folder / RESULT).exists():
            return Job(path, read_case(path, None))
    shown = read_result(folder)
    return Job(file, read_case(file, None), folder, None if shown is None else failure_of(shown))


@dataclass(slots=True)
class _Progress:
    """What is known so far."""

    job: Job
    began: float = field(default_factory=time.monotonic)
    facts: list[Fact] = field(default_factory=list)
    ablation: Ablation | None = None
    before: Bisection | None = None
    releases: Releases | None = None
    unkept: str = ""

    def bisection(self, *, complete: bool) -> Bisection:
        """All of it, with what releases said before: they were not asked again."""
        asked, before = self.ablation, self.before
        facts: Sequence[Fact] = self.facts
        if before is not None and not complete:
            # What is only told once more must not take the place of all that is known.
            facts = max(facts, [fact for fact in before.facts if not isinstance(fact, Releases)], key=len)
        return Bisection(
            case=self.job.case.id,
            target=self.job.case.setting.target,
            failure=str(asked.wanted) if asked else "",
            reliability=str(asked.reliability) if asked else "",
            facts=(*facts, *([self.releases] if self.releases is not None else [])),
            packages=_packages(self.job.case),
            trials=asked.trials if asked else 0,
            seconds=round((before.seconds if before is not None else 0.0) + time.monotonic() - self.began, 1),
            complete=complete,
        )

    def keep(self, *, complete: bool = False) -> Bisection:
        """Store it, if that can be, and give it."""
        bisection = self.bisection(complete=complete)
        try:
            self.job.kept.write(bisection, self.ablation.memory() if self.ablation is not None else None)
        except OSError as error:
            self.unkept = str(error)
        return bisection


def _packages(case: Case) -> tuple[tuple[str, str], ...]:
    """Versions of what is bisected."""
    versions = describe()["packages"]
    names = dict.fromkeys(("torch", *facts_of(case.setting.target).packages))
    return tuple((one, versions[one]) for one in names if one in versions)


def _remembered(job: Job) -> tuple[Bisection, Memory] | None:
    """What an earlier bisection of the same case on the same versions has left."""
    before, memory = job.kept.read(), job.kept.memory()
    if before is None or memory is None or before.case != job.case.id or before.packages != _packages(job.case):
        return None
    return (before, memory) if job.wanted in (None, memory.wanted) else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a bisection came to.

    Attributes:
        bisection: all that is known.
        before: whether it was known before, and nothing ran.
        unkept: why it could not be stored; empty if it is.
    """

    bisection: Bisection
    before: bool = False
    unkept: str = ""


def bisect_stored(
    job: Job,
    *,
    workers: int,
    memory: int,
    stop: Stop,
    seconds: float | None = None,
    again: bool = False,
    tell: events.Listener = lambda event: None,
) -> Answer:
    """Bisect one case; told to stop, or with its budget used up, it ends with what is known so far.

    Each fact is stored as it is found, with the answers that it rests on; another bisection goes on from there.

    Args:
        job: what is bisected.
        workers: that run it.
        memory: bytes that a run may take.
        stop: asked now and then whether to end; it is given the time at which the budget is used up, unless it has an
            earlier one.
        seconds: of search, from when the target is warm; None for as long as it takes.
        again: forget what was found before.
        tell: told while the target is loaded (``Warming``), what is asked (``Asking``) and of each fact once it is
            stored (``FactFound``).

    Raises:
        NotReproduced: the case does not fail as it should, or it was stopped before that was known; nothing is stored.
        Interrupted: it was stopped while the target was loaded; nothing is stored.
        ZygoteBroken: the target could not be loaded.
    """
    known = None if again else _remembered(job)
    if known is not None and known[0].complete:
        for fact in known[0].facts:
            tell(_event(fact))
        return Answer(known[0], before=True)
    stored = job.kept.read()
    releases = stored.releases if stored is not None and stored.case == job.case.id else None
    progress = _Progress(job, before=None if known is None else known[0], releases=releases)
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        with TrialPool(Path(scratch), job.case.setting, workers, memory=memory, tell=tell, stop=stop) as pool:
            if seconds is not None:
                stop.until = min(time.monotonic() + seconds, math.inf if stop.until is None else stop.until)
            for fact in _facts(job, pool, progress, tell, stop, None if known is None else known[1]):
                progress.facts.append(fact)
                progress.keep()
                tell(_event(fact))
        bisection = progress.keep(complete=not stop())
    return Answer(bisection, unkept=progress.unkept)


def _facts(
    job: Job, pool: TrialPool, progress: _Progress, listener: events.Listener, stop: Stop, memory: Memory | None
) -> Iterator[Fact]:
    def tell(text: str) -> None:
        runs = progress.ablation.trials if progress.ablation else 0
        listener(events.Asking(text, runs, time.monotonic() - progress.began))

    progress.ablation = Ablation(job.case, pool, wanted=job.wanted, tell=tell, stop=stop, memory=memory)
    for fact in bisected(progress.ablation):
        # What was answered while it was told to stop may rest on runs that were cut off.
        if stop():
            return
        yield fact


def _event(fact: Fact) -> events.FactFound:
    name = type(fact).__name__
    return events.FactFound({"Rung": "rung", "Knobs": "setting", "Cures": "setting"}.get(name, name.lower()), str(fact))

"""``shakeout bisect``: finds the case, shows what is found out fact by fact, and keeps it beside the finding."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.corpus import codec
from shakeout.corpus.case import SANITIZE, Case
from shakeout.fuzz.attended import Line, Stop, interruptible
from shakeout.fuzz.environment import describe
from shakeout.fuzz.exits import Exit
from shakeout.fuzz.folder import CASE, RESULT
from shakeout.fuzz.minimise.predicate import Failure, NotReproduced, failure_of
from shakeout.fuzz.replay import read_case
from shakeout.fuzz.triage.bisect.facts import Bisection, Fact, write
from shakeout.fuzz.triage.bisect.inquiry import Inquiry
from shakeout.fuzz.triage.bisect.ladders import bisected
from shakeout.fuzz.triage.bisect.trials import Crewed
from shakeout.targets.sanitizers import process_environment
from shakeout.targets.target import target

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["MINIMISED", "Job", "bisect_command", "chosen"]

#: The smallest case that is known of a finding.
MINIMISED = "case.min.json"


@dataclass(slots=True)
class Job:
    """What is bisected.

    Attributes:
        file: of the case.
        case: the case.
        folder: where the answer is kept; None for a lone case.
        wanted: the failure that the finding tells; None for what the case shows.
    """

    file: Path
    case: Case
    folder: Path | None = None
    wanted: Failure | None = None


def chosen(path: Path) -> Job:
    """What a path means: of a finding's folder the minimised case, if there is one.

    Raises:
        MalformedCase: the file holds no case.
    """
    if not path.is_dir():
        return Job(path, read_case(path, None))
    small = path / MINIMISED
    file = small if small.exists() else path / CASE
    wanted = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        wanted = failure_of(codec.loads((path / RESULT).read_bytes()))
    return Job(file, read_case(file, None), path, wanted)


@dataclass(slots=True)
class _Progress:
    """What is known so far."""

    case: Case
    began: float = field(default_factory=time.monotonic)
    facts: list[Fact] = field(default_factory=list)
    inquiry: Inquiry | None = None

    def bisection(self, *, complete: bool) -> Bisection:
        asked = self.inquiry
        name = self.case.setting.target
        versions = describe()["packages"]
        packages = tuple((one, versions[one]) for one in ("torch", *target(name).packages) if one in versions)
        return Bisection(
            case=self.case.id,
            target=name,
            failure=str(asked.wanted) if asked else "",
            reliability=str(asked.reliability) if asked else "",
            facts=tuple(self.facts),
            packages=packages,
            trials=asked.trials if asked else 0,
            seconds=round(time.monotonic() - self.began, 1),
            complete=complete,
        )


def bisect_command(
    job: Job,
    *,
    workers: int,
    memory: int,
    plain: bool,
    as_json: bool,
    console: Console,
) -> int:
    """Bisect one case, with progress; Ctrl-C ends with what is known so far.

    Args:
        job: what is bisected.
        workers: that run it.
        memory: bytes that a run may take.
        plain: lines instead of a live display.
        as_json: the answer as JSON, on standard output.
        console: where progress and answer are shown.

    Returns:
        The exit status.

    Raises:
        ZygoteBroken: the target could not be loaded.
    """
    progress = _Progress(job.case)
    with interruptible() as stop, tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        line = Line(console, live=console.is_terminal and not plain)
        crew = Crewed(
            Path(scratch),
            job.case.setting.target,
            workers,
            device=job.case.setting.device,
            memory=memory,
            tell=line.warming,
            stop=stop,
            environment=process_environment(job.case.setting.knob(SANITIZE)),
        )
        try:
            with line, crew:
                for fact in _facts(job, crew, progress, line.say, stop):
                    progress.facts.append(fact)
                    if not as_json:
                        console.print(f"{_label(fact):<10}{fact}", soft_wrap=True, markup=False)
        except NotReproduced as error:
            if stop.asked:
                console.print("interrupted before it was reproduced; nothing was written")
                return Exit.INTERRUPTED
            console.print(f"{job.file}: {error}", soft_wrap=True, markup=False)
            return Exit.OK
    return _ended(job, progress.bisection(complete=not stop.asked), as_json, console)


def _facts(job: Job, crew: Crewed, progress: _Progress, say: Callable[[str], None], stop: Stop) -> Iterator[Fact]:
    def tell(text: str) -> None:
        runs = progress.inquiry.trials if progress.inquiry else 0
        say(f"{runs} runs, {time.monotonic() - progress.began:.0f} s  {text}")

    progress.inquiry = Inquiry(job.case, crew, wanted=job.wanted, tell=tell, stop=stop)
    for fact in bisected(progress.inquiry):
        # What was answered while it was told to stop may rest on runs that were cut off.
        if stop.asked:
            return
        yield fact


def _label(fact: Any) -> str:
    return {"Rung": "rung", "Knobs": "setting", "Cures": "setting"}.get(
        type(fact).__name__, type(fact).__name__.lower()
    )


def _ended(job: Job, bisection: Bisection, as_json: bool, console: Console) -> int:
    path = write(job.folder, bisection) if job.folder is not None else None
    if as_json:
        print(json.dumps(bisection.to_json(), indent=1))
    else:
        state = "" if bisection.complete else ", interrupted"
        console.print(f"\nfails     {bisection.reliability}: {bisection.failure}", soft_wrap=True, markup=False)
        culprit = bisection.culprit
        console.print(f"culprit   {culprit or 'not found'}", soft_wrap=True, markup=False)
        console.print(f"{bisection.trials} runs in {bisection.seconds:.0f} s{state}")
        if bisection.releases is None:
            console.print("newest    NOT checked on the newest release (--newest)")
        if path is not None:
            console.print(f"kept      {path}", soft_wrap=True)
    return Exit.OK if bisection.complete else Exit.INTERRUPTED

"""What other releases say of a case: in environments that there are, and in those that pip makes."""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shakeout.corpus import blobs
from shakeout.fuzz.bisect import environments
from shakeout.fuzz.bisect.environments import Environment, Script, searched
from shakeout.fuzz.bisect.facts import Bisection, Note, Releases
from shakeout.fuzz.bisect.search import Certainty
from shakeout.fuzz.bisect.stored import Job
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.progress import Stop
from shakeout.fuzz.ground.versions import version
from shakeout.fuzz.running.case_file import SECONDS, render
from shakeout.targets.registry import facts_of

__all__ = ["Comparison", "compare_releases", "product"]


def product(name: str) -> str:
    """The distribution of which a target's newest release is looked for."""
    return facts_of(name).product


@dataclass(frozen=True, slots=True)
class Comparison:
    """What other releases say of a case.

    Attributes:
        bisection: all that is known of the case now, which is stored.
        found: what the releases say.
        notes: why some of them say nothing.
        seconds: that it took.
    """

    bisection: Bisection
    found: Releases
    notes: tuple[str, ...]
    seconds: float


def compare_releases(
    job: Job,
    *,
    directories: Sequence[Path],
    versions: str,
    newest: bool,
    stop: Stop,
    tell: events.Listener = lambda event: None,
) -> Comparison:
    """Run a case's script in environments and in releases that pip installs, from the oldest to the newest.

    Args:
        job: the case.
        directories: of environments, which come first.
        versions: releases, as ``torch==2.12.0,torch==2.13.0``.
        newest: whether the newest release that pip finds is tried too.
        stop: asked now and then whether to end.
        tell: told what is done (``Comparing``).

    Raises:
        NotAnEnvironment: a directory holds none, or a release is not pinned.
    """
    packages = ("torch", *facts_of(job.case.setting.target).packages)
    chosen = [environments.existing(directory) for directory in directories]
    pinned = environments.requirements(versions) if versions else []
    began = time.monotonic()

    def say(text: str) -> None:
        tell(events.Comparing(text))

    def whisper(text: str) -> None:
        tell(events.Comparing(text, detail=True))

    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        path = Path(scratch) / "repro.py"
        blobs.copy(job.case, path.parent)
        path.write_text(render(job.case), encoding="utf-8")
        script = Script(path, packages, SECONDS)
        makers: list[Callable[[], Environment]] = [functools.partial(_same, one) for one in chosen]
        makers += [functools.partial(environments.installed, one, packages, tell=whisper, stop=stop) for one in pinned]
        names = [*(one.name for one in chosen), *pinned]
        certainty = _certainty(job)
        found, said = searched(makers, names, script, certainty=certainty, tell=say, stop=stop)
        notes = [f"{name}: {said[name]}" for name, verdict in found.steps if verdict in ("skip", "infra")]
        if newest and not stop():
            found, note = _newest(found, job, script, packages, certainty, say, stop)
            notes += [note] if note else []
    seconds = time.monotonic() - began
    bisection = _merged(job, found, notes, seconds, complete=not stop.asked)
    job.kept.write(bisection, job.kept.memory())
    return Comparison(bisection, found, tuple(notes), seconds)


def _same(environment: Environment) -> Environment:
    return environment


def _certainty(job: Job) -> Certainty:
    """How reliably the case fails, where a bisection has measured it."""
    before = job.known()
    failed, _, runs = before.reliability.partition(" of ") if before is not None else ("", "", "")
    return Certainty(int(failed), int(runs)) if failed.isdecimal() and runs.isdecimal() else Certainty(5, 5)


def _newest(
    found: Releases,
    job: Job,
    script: Script,
    packages: Sequence[str],
    certainty: Certainty,
    tell: Callable[[str], None],
    stop: Stop,
) -> tuple[Releases, str]:
    """What the newest release says, added to what is known, and why nothing is known of it."""
    name = product(job.case.setting.target)
    tell(f"asking pip for the newest release of {name}")
    release = environments.newest(name)
    if release is None:
        return found, f"pip finds no release of {name} for this interpreter"
    requirement = f"{name}=={release}"

    def make() -> Environment:
        if (version(name) or "").partition("+")[0] == release.partition("+")[0]:
            return Environment(requirement, Path(sys.executable))
        return environments.installed(requirement, packages, tell=tell, stop=stop)

    newest, said = searched([make], [requirement], script, certainty=certainty, tell=tell, stop=stop)
    if stop() or not newest.steps:
        return found, ""
    verdict = newest.steps[0][1]
    if verdict in ("skip", "infra"):
        return found, f"{requirement} said nothing of the case: {said.get(requirement, '')}"
    return replace(found, newest=requirement, newest_verdict=verdict), ""


def _merged(job: Job, found: Releases, notes: Sequence[str], seconds: float, *, complete: bool) -> Bisection:
    """What was found beside what was known of the same case before; it takes the place of other releases."""
    before = job.known()
    if before is None or before.case != job.case.id:
        before = Bisection(job.case.id, job.case.setting.target, str(job.wanted or ""))
    kept = tuple(fact for fact in before.facts if not isinstance(fact, Releases))
    facts = (*kept, *(Note(note) for note in notes if Note(note) not in kept), found)
    return replace(
        before, facts=facts, seconds=round(before.seconds + seconds, 1), complete=before.complete and complete
    )

"""``shakeout bisect --env``, ``--versions`` and ``--newest``: what other releases say of a case, and what is kept."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.corpus import blobs
from shakeout.fuzz.bisect import environments
from shakeout.fuzz.bisect.command import Job
from shakeout.fuzz.bisect.environments import Environment, Script, searched
from shakeout.fuzz.bisect.facts import Bisection, Note, Releases
from shakeout.fuzz.bisect.search import Certainty
from shakeout.fuzz.ground.environment import version
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.progress import Line, Stop, interruptible
from shakeout.fuzz.running.case_file import SECONDS, render
from shakeout.targets.registry import facts_of

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["product", "releases_command"]


def product(name: str) -> str:
    """The distribution of which a target's newest release is looked for."""
    return facts_of(name).product


def releases_command(
    job: Job,
    *,
    directories: Sequence[Path],
    versions: str,
    newest: bool,
    plain: bool,
    as_json: bool,
    console: Console,
) -> int:
    """Run a case's script in environments and in releases that pip installs, from the oldest to the newest.

    Args:
        job: the case.
        directories: of environments, which come first.
        versions: releases, as ``torch==2.12.0,torch==2.13.0``.
        newest: whether the newest release that pip finds is tried too.
        plain: lines instead of a live display.
        as_json: the answer as JSON, on standard output.
        console: where progress and answer are shown.

    Returns:
        The exit status.

    Raises:
        NotAnEnvironment: a directory holds none, or a release is not pinned.
    """
    packages = ("torch", *facts_of(job.case.setting.target).packages)
    chosen = [environments.existing(directory) for directory in directories]
    pinned = environments.requirements(versions) if versions else []
    began = time.monotonic()
    with interruptible() as stop, tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        line = Line(console, live=console.is_terminal and not plain)
        tell = functools.partial(line.say, force=True)
        path = Path(scratch) / "repro.py"
        blobs.copy(job.case, path.parent)
        path.write_text(render(job.case), encoding="utf-8")
        script = Script(path, packages, SECONDS)
        makers: list[Callable[[], Environment]] = [functools.partial(_same, one) for one in chosen]
        makers += [functools.partial(environments.installed, one, packages, tell=line.say, stop=stop) for one in pinned]
        names = [*(one.name for one in chosen), *pinned]
        certainty = _certainty(job)
        with line:
            found, said = searched(makers, names, script, certainty=certainty, tell=tell, stop=stop)
            notes = [f"{name}: {said[name]}" for name, verdict in found.steps if verdict in ("skip", "infra")]
            if newest and not stop():
                found, note = _newest(found, job, script, packages, certainty, tell, stop)
                notes += [note] if note else []
    bisection = _merged(job, found, notes, time.monotonic() - began, complete=not stop.asked)
    job.kept.write(bisection, job.kept.memory())
    if as_json:
        print(json.dumps(bisection.to_json(), indent=1))
    else:
        for text in (*notes, *str(found).splitlines()):
            console.print(text, soft_wrap=True, markup=False)
        console.print(f"in {time.monotonic() - began:.0f} s{'' if bisection.complete else ', interrupted'}")
    return Exit.OK if bisection.complete else Exit.INTERRUPTED


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

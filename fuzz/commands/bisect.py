"""``shakeout bisect``: shows what is found out fact by fact, and what is known in the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.fuzz.bisect.releases import compare_releases
from shakeout.fuzz.bisect.stored import Answer, Job, bisect_stored
from shakeout.fuzz.commands.line import Line
from shakeout.fuzz.commands.places import print_json
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.progress import interruptible
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.workers.zygote_client import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["bisect_command", "releases_command"]


def bisect_command(
    job: Job,
    *,
    workers: int,
    memory: int,
    plain: bool,
    as_json: bool,
    console: Console,
    seconds: float | None = None,
    again: bool = False,
) -> int:
    """Bisect one case, with progress; Ctrl-C, SIGTERM or the budget ends it with what is known so far.

    Args:
        job: what is bisected.
        workers: that run it.
        memory: bytes that a run may take.
        plain: lines instead of a live display.
        as_json: the answer as JSON, on standard output.
        console: where progress and answer are shown.
        seconds: of search, from when the target is warm; None for as long as it takes.
        again: forget what was found before.

    Returns:
        The exit status.

    Raises:
        ZygoteBroken: the target could not be loaded.
    """
    line = Line(console, live=console.is_terminal and not plain)

    def tell(event: events.Event) -> None:
        match event:
            case events.Warming():
                line.warming(event)
            case events.Asking():
                line.say(f"{event.runs} runs, {event.seconds:.0f} s  {event.doing}")
            case events.FactFound() if not as_json:
                console.print(f"{event.label:<10}{event.fact}", soft_wrap=True, markup=False)

    with interruptible() as stop:
        try:
            with line:
                answer = bisect_stored(
                    job, workers=workers, memory=memory, seconds=seconds, again=again, tell=tell, stop=stop
                )
        except NotReproduced as error:
            if stop():
                why = "interrupted" if stop.asked else "the budget is used up"
                console.print(f"{why} before it was reproduced; nothing was written")
                return Exit.INTERRUPTED if stop.asked else Exit.OK
            console.print(f"{job.file}: {error}", soft_wrap=True, markup=False)
            return Exit.OK
        except Interrupted:
            console.print("interrupted while the target was loaded; nothing was written")
            return Exit.INTERRUPTED
    if answer.before:
        state = "known from before; --again asks anew"
    elif answer.bisection.complete:
        state = ""
    else:
        state = f"{'interrupted' if stop.asked else 'the budget is used up'}; the same command goes on from here"
    if as_json:
        print_json(answer.bisection.to_json())
    else:
        _show(job, answer, state, console)
    return Exit.INTERRUPTED if stop.asked else Exit.OK


def _show(job: Job, answer: Answer, state: str, console: Console) -> None:
    bisection = answer.bisection
    console.print(f"\nfails     {bisection.reliability}: {bisection.failure}", soft_wrap=True, markup=False)
    console.print(f"culprit   {bisection.culprit or 'not found'}", soft_wrap=True, markup=False)
    console.print(f"{bisection.trials} runs in {bisection.seconds:.0f} s{', ' if state else ''}{state}")
    if bisection.releases is None:
        console.print("newest    NOT checked on the newest release (--newest)")
    kept = job.kept.path if not answer.unkept else f"NOT: {answer.unkept}"
    console.print(f"kept      {kept}", soft_wrap=True, markup=False)


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
    """Run a case's script in environments and in releases that pip installs, with progress.

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
    line = Line(console, live=console.is_terminal and not plain)

    def tell(event: events.Event) -> None:
        match event:
            case events.Comparing(doing=doing, detail=detail):
                line.say(doing, force=not detail)

    with interruptible() as stop, line:
        done = compare_releases(job, directories=directories, versions=versions, newest=newest, tell=tell, stop=stop)
    complete = done.bisection.complete
    if as_json:
        print_json(done.bisection.to_json())
    else:
        for text in (*done.notes, *str(done.found).splitlines()):
            console.print(text, soft_wrap=True, markup=False)
        console.print(f"in {done.seconds:.0f} s{'' if complete else ', interrupted'}")
    return Exit.OK if complete else Exit.INTERRUPTED

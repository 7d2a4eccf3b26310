"""``shakeout minimise``: shows how cases shrink, and what is left of them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from shakeout.corpus import blobs, script
from shakeout.fuzz.commands.line import Line
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.progress import interruptible
from shakeout.fuzz.minimise.order import elements
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.minimise.search import FIRST, Budget
from shakeout.fuzz.minimise.stored import Written, case_file, minimise_stored
from shakeout.fuzz.triage.bug_signature import UNCLASSIFIED
from shakeout.fuzz.triage.minimise_bugs import minimise_all

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["minimise_all_command", "minimise_command"]


@blobs.workshop()
def minimise_command(
    path: Path, *, seconds: float, tries: int, workers: int, memory: int, plain: bool, console: Console
) -> int:
    """Minimise one case, with progress; Ctrl-C ends with the best so far.

    Args:
        path: a case's file, or a finding's folder.
        seconds: of search.
        tries: candidates that are run at most.
        workers: that run them.
        memory: bytes that a candidate may take.
        plain: lines instead of a live display.
        console: where to show it.

    Returns:
        The exit status.

    Raises:
        MalformedCase: the file holds no case.
        ZygoteBroken: the target could not be loaded.
    """
    with interruptible() as stop:
        try:
            with _Shown(console, plain=plain) as tell:
                budget = Budget(seconds, tries)
                written = minimise_stored(path, budget=budget, workers=workers, memory=memory, tell=tell, stop=stop)
        except NotReproduced as error:
            if stop.asked:
                console.print("interrupted before it was reproduced; nothing was written")
                return Exit.INTERRUPTED
            console.print(f"{case_file(path)}: {error}", soft_wrap=True)
            return Exit.OK
    _show(written, stop.asked, console)
    return Exit.INTERRUPTED if stop.asked else Exit.OK


def _show(written: Written, stopped: bool, console: Console) -> None:
    original, found = written.original, written.found
    console.print(script.network(found.case.program).rstrip(), soft_wrap=True, markup=False)
    console.print()
    before, after = len(original.program.operators()), len(found.case.program.operators())
    state = "no pass makes it smaller" if found.complete else "stopped" if stopped else "the budget is used up"
    console.print(
        f"operators {before} -> {after}, elements {elements(original)} -> {elements(found.case)}, "
        f"{found.tries} tries in {found.seconds:.0f} s, {state}\n"
        f"fails {found.reliability}: {found.failure}\n"
        f"case     {written.case}\nscript   {written.script}",
        soft_wrap=True,
        markup=False,
    )
    if written.recorded:
        kept = len(found.before)
        where = f"behind {kept} of the {written.recorded} cases that ran before it" if kept else "by itself"
        console.print(f"fails {where}", soft_wrap=True, markup=False)
    if written.sequence is not None:
        console.print(f"sequence {written.sequence}", soft_wrap=True, markup=False)
    for path, failure in written.others:
        console.print(f"other    {path}  {failure}", soft_wrap=True, markup=False)


def minimise_all_command(
    directory: Path,
    *,
    budget: Budget,
    workers: int,
    memory: int,
    plain: bool,
    console: Console,
    again: bool = False,
) -> int:
    """Minimise the bugs of a campaign, with progress; what is done stays when it is interrupted.

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
    with interruptible() as stop, _Shown(console, plain=plain) as tell:
        done = minimise_all(directory, budget=budget, workers=workers, memory=memory, again=again, tell=tell, stop=stop)
    if not done.wanted:
        console.print(f"{directory}: no bug is left to minimise", soft_wrap=True)
        return Exit.OK
    if stop():
        return Exit.INTERRUPTED
    if done.similar:
        head = "similar (shakeout bugs set ID duplicate-of OTHER merges, and 'set ID open' takes it back):"
        console.print(head, soft_wrap=True, markup=False)
    for bug, other in done.similar:
        console.print(f"  {bug} {other.bug}: {other.why}", soft_wrap=True, markup=False)
    return Exit.OK


class _Shown:
    """Tells a person how searches go, each target's on a line of its own; a context manager."""

    def __init__(self, console: Console, *, plain: bool) -> None:
        self._console = console
        self._live = console.is_terminal and not plain
        self._line = Line(console, live=self._live)

    def __enter__(self) -> _Shown:
        self._line.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.__exit__(kind, error, trace)

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Minimising():
                self._line.__exit__()
                self._line = Line(self._console, live=self._live)
                self._line.__enter__()
            case events.Warming():
                self._line.warming(event)
            case events.Shortening():
                said = f"{_behind(event)}, {event.tries} tries, {event.seconds:.0f} s"
                (self._line.note if event.done else self._line.say)(said)
            case events.Shrinking() if event.doing == FIRST and not event.tries:
                self._line.say(f"{_size(event)}: runs for the first time")
            case events.Shrinking() if event.doing == FIRST:
                self._line.note(f"{_size(event)}: one run takes {event.run:.1f} s")
            case events.Shrinking():
                self._line.say(
                    f"{_size(event)}  {event.tries} tries, {event.accepted} steps, {event.seconds:.0f} s  {event.doing}"
                )
            case events.Minimised():
                self._console.print(_line(event), soft_wrap=True, markup=False)
            case events.Merged(bug=bug, other=other, why=why):
                said = f"{other:<9} is {bug}: {why} (shakeout bugs split takes it back)"
                self._console.print(said, soft_wrap=True, markup=False)
            case events.Unusable(target=target, reason=reason):
                said = f"{target} cannot be used, and its bugs are left: {reason}"
                self._console.print(said, soft_wrap=True, markup=False)


def _behind(event: events.Shortening) -> str:
    return f"fails behind {event.cases} of {event.recorded} cases" if event.cases else "fails behind none"


def _size(event: events.Shrinking) -> str:
    return f"{event.operators} operators, {event.elements} elements"


def _line(event: events.Minimised) -> str:
    """What became of one bug."""
    if event.state == "not reproduced":
        return f"{event.bug:<9} not reproduced: {event.note}"
    more = "" if event.state == "complete" else ", the budget is used up"
    return (
        f"{event.bug:<9} operators {event.before} -> {event.after}, {event.tries} tries in {event.seconds:.0f} s"
        f"{more}: {event.signature or UNCLASSIFIED}"
    )

"""``shakeout minimise``: finds the case, shows how it shrinks, and writes the smallest one with its script."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.corpus import blobs
from shakeout.corpus.case import Case
from shakeout.corpus.files import write_whole
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.finding_folder import CASE, read_result
from shakeout.fuzz.ground.progress import Line, interruptible
from shakeout.fuzz.minimise.executors import Crewed
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.fuzz.minimise.search import FIRST, Budget, Minimised, Progress, minimise
from shakeout.fuzz.running.case_file import read_case

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Shown", "minimise_command", "write_minimal"]


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
    shown = read_result(path) if path.is_dir() else None
    wanted = None if shown is None else failure_of(shown)
    file = path / CASE if path.is_dir() else path
    case = read_case(file, None)
    with interruptible() as stop, tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        tell = Shown(console, live=console.is_terminal and not plain)
        crew = Crewed(
            Path(scratch),
            case.setting,
            workers,
            memory=memory,
            tell=tell.warming,
            stop=stop,
        )
        try:
            with tell, crew:
                budget = Budget(seconds, tries)
                found = minimise(case, crew, wanted=wanted, budget=budget, width=workers, tell=tell, stop=stop)
        except NotReproduced as error:
            if stop.asked:
                console.print("interrupted before it was reproduced; nothing was written")
                return Exit.INTERRUPTED
            console.print(f"{file}: {error}", soft_wrap=True)
            return Exit.OK
    return _written(file, case, found, stop.asked, console)


def _written(file: Path, original: Case, found: Minimised, stopped: bool, console: Console) -> int:
    """Write what was found beside the original, and show it."""
    from shakeout.corpus import script
    from shakeout.fuzz.minimise.measure import elements

    target, text = write_minimal(file, found)
    console.print(script.network(found.case.program).rstrip(), soft_wrap=True, markup=False)
    console.print()
    before, after = len(original.program.operators()), len(found.case.program.operators())
    state = "no pass makes it smaller" if found.complete else "stopped" if stopped else "the budget is used up"
    console.print(
        f"operators {before} -> {after}, elements {elements(original)} -> {elements(found.case)}, "
        f"{found.tries} tries in {found.seconds:.0f} s, {state}\n"
        f"fails {found.reliability}: {found.failure}\n"
        f"case     {target}\nscript   {text}",
        soft_wrap=True,
        markup=False,
    )
    for number, (failure, case) in enumerate(found.others, 1):
        path = file.with_suffix(f".other{number}.json")
        blobs.copy(case, path.parent)
        write_whole(path, case.text + "\n")
        console.print(f"other    {path}  {failure}", soft_wrap=True, markup=False)
    return Exit.INTERRUPTED if stopped else Exit.OK


def write_minimal(file: Path, found: Minimised) -> tuple[Path, Path]:
    """Write the smallest case and its script beside the file of the original; their paths."""
    from shakeout.fuzz.running.case_file import render

    target, text = file.with_suffix(".min.json"), file.with_suffix(".min.py")
    blobs.copy(found.case, file.parent)
    write_whole(target, found.case.text + "\n")
    write_whole(text, render(found.case))
    return target, text


class Shown(Line):
    """How a search for the smallest case goes."""

    def __call__(self, progress: Progress) -> None:
        """How far the search is."""
        if progress.doing == FIRST:
            self.note(
                f"{progress.operators} operators, {progress.elements} elements: one run takes {progress.run:.1f} s"
            )
            return
        self.say(
            f"{progress.operators} operators, {progress.elements} elements  {progress.tries} tries, "
            f"{progress.accepted} steps, {progress.seconds:.0f} s  {progress.doing}"
        )

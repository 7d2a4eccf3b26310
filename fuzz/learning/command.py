"""``shakeout learn``: of torch, of a user's kernel from recorded calls, or from what a campaign saw."""

from __future__ import annotations

import argparse
import fnmatch
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.ground.exits import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from shakeout.fuzz.learning.crew import Lost, Progress
    from shakeout.fuzz.learning.store import Files

__all__ = ["CannotLearn", "add_arguments", "learn_command"]

#: Without a live display, a line so often, in seconds.
PLAIN_EVERY = 10.0


class CannotLearn(Exception):
    """What somebody can put right: one line, and the status to exit with."""

    def __init__(self, text: str, status: Exit = Exit.USAGE) -> None:
        super().__init__(text)
        self.status = status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "what", nargs="?", metavar="torch | MODULE:NAME", help="torch's operators, or your own declared kernel"
    )
    parser.add_argument(
        "--examples",
        type=Path,
        metavar="PATH",
        help="tests (a file or a folder, run by pytest) or a script that call it",
    )
    parser.add_argument(
        "--from",
        dest="campaign",
        type=Path,
        metavar="CAMPAIGN",
        help="what the reference took and refused during a campaign, of all operators that were learnt",
    )
    parser.add_argument(
        "--operators",
        nargs="+",
        metavar="NAME",
        help="only these of torch's; * stands for anything, as in 'torch.fft.*'",
    )
    parser.add_argument(
        "--seconds", type=float, help="after which no further operator is begun; the same command goes on"
    )
    parser.add_argument("--workers", type=int, help="operators at a time (default: one for each core)")
    parser.add_argument("--calls", type=int, metavar="N", help="tried of each way to call an operator (default 140)")
    parser.add_argument("--new", action="store_true", help="begin anew rather than go on with what is there")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="keep the rules there as well; of torch those that calls are drawn from",
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of a progress bar")


def learn_command(options: argparse.Namespace, console: Console) -> int:
    """Learn what was asked for.

    Raises:
        CannotLearn: what was asked for makes no sense, or cannot be done here.
    """
    from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable
    from shakeout.fuzz.workers.nursery import Interrupted, ZygoteBroken

    for flag in ("seconds", "workers", "calls"):
        value = getattr(options, flag)
        if value is not None and not value > 0:
            raise CannotLearn(f"--{flag}: expected a positive number, found {value!r}")
    try:
        if options.campaign is not None:
            if options.what is not None or options.examples is not None:
                raise CannotLearn(
                    "--from goes without torch, MODULE:NAME and --examples: the campaign tells what it saw"
                )
            return _learn_campaign(options, console)
        if options.what == "torch":
            if options.examples is not None:
                raise CannotLearn("--examples goes with MODULE:NAME; torch is learnt from its own samples")
            return _learn_torch(options, console, None)
        if options.what is not None and ":" in options.what:
            return _learn_kernel(options, console)
    except DirectoryUnusable as error:
        raise CannotLearn(str(error), Exit.DIRECTORY) from None
    except ZygoteBroken as error:
        raise CannotLearn(f"the operators could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
    except Interrupted:
        return Exit.INTERRUPTED
    raise CannotLearn(f"learn: expected torch, MODULE:NAME or --from CAMPAIGN, found {options.what or 'nothing'!r}")


# --- torch -----------------------------------------------------------------------------------------------------------


def _learn_torch(options: argparse.Namespace, console: Console, campaign: list[Any] | None) -> int:
    """Learn torch's operators, or those that a campaign's rows are of."""
    from shakeout.fuzz.campaign.campaign_folder import explained, locked
    from shakeout.fuzz.ground.progress import interruptible
    from shakeout.fuzz.learning.collecting import CollectingFailed, collected
    from shakeout.fuzz.learning.store import files_of_torch
    from shakeout.generators.vocabularies.torch import BootstrapFailed, load_records

    files = files_of_torch()
    began = time.monotonic()
    with explained(files.directory), interruptible() as stop, _Shown(console, plain=options.plain) as shown:
        files.directory.mkdir(parents=True, exist_ok=True)
        with locked(files.directory):
            if options.new:
                files.clear()
            try:
                names = _chosen(load_records(shown.say).operators, options.operators)
                if campaign is not None:
                    names = _touched(names, files, campaign, shown)
                left_out = collected(files, shown.collecting, stop)
            except (CollectingFailed, BootstrapFailed) as error:
                raise CannotLearn(str(error), Exit.INFRASTRUCTURE) from None
            for name in left_out:
                shown.note(f"{name} crashes or hangs, and is left out")
            lost = _run(names, files, files.collected(), options, shown, stop, seen=files.seen())
            content = _stored(files, options.write)
    _told(names, content, lost, time.monotonic() - began, console)
    return Exit.INTERRUPTED if stop.asked else Exit.OK


def _touched(names: list[str], files: Files, campaign: list[Any], shown: _Shown) -> list[str]:
    """The operators that a campaign made calls of, which are kept."""
    from shakeout.fuzz.learning.collecting import finished

    if not finished(files):
        raise CannotLearn("torch was never learnt here; begin with: shakeout learn torch")
    known = set(names)
    rows = [row for row in campaign if row[0] in known]
    shown.note(f"{len(rows)} calls of torch's operators, {files.add(rows)} of which are new")
    wanted = {row[0] for row in rows}
    return [name for name in names if name in wanted]


# --- a user's kernel ------------------------------------------------------------------------------------------------


def _learn_kernel(options: argparse.Namespace, console: Console) -> int:
    from shakeout.fuzz.learning.kernels import CannotRecord, recorded

    operator = options.what
    if options.examples is None:
        raise CannotLearn(f"give tests or a script that call {operator}: --examples PATH")
    if options.operators is not None:
        raise CannotLearn("--operators goes with torch")
    console.print(f"      running {options.examples}", soft_wrap=True, markup=False)
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        try:
            found = recorded(operator, options.examples, Path(scratch), options.seconds)
        except CannotRecord as error:
            raise CannotLearn(str(error), error.status) from None
    if found.remark:
        console.print(f"      {found.remark}", soft_wrap=True, markup=False)
    console.print(f"{found.heard} calls heard, {len(found.traces)} different ones, {found.left_out} left out")
    for reason, count in found.errors.items():
        console.print(f"left out {count} calls of {operator}: {reason}", soft_wrap=True, markup=False)
    return _learn_from(operator, {"traces": list(found.traces), "records": list(found.records)}, options, console)


def _learn_from(operator: str, given: dict[str, list[Any]], options: argparse.Namespace, console: Console) -> int:
    """Learn a kernel from what its tests and campaigns gave, and keep that and the rules."""
    from shakeout.corpus import learnt
    from shakeout.fuzz.campaign.campaign_folder import explained
    from shakeout.fuzz.ground.progress import interruptible
    from shakeout.fuzz.learning.gather import gathered
    from shakeout.fuzz.learning.store import Files, read

    began = time.monotonic()
    path = learnt.kernel_path(operator)
    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch, interruptible() as stop:
        files = Files(Path(scratch) / "learning")
        with _Shown(console, plain=options.plain) as shown:
            rows, records, seen = ({operator: given.get(key, [])} for key in ("traces", "records", "seen"))
            lost = _run([operator], files, rows, options, shown, stop, records, seen)
            if stop.asked:
                return Exit.INTERRUPTED
            with explained(path.parent):
                cases = [_moved(one, path.parent.parent / "cases") for one in lost]
                drawn = (read(files.rules(operator)) or {}).get("records", [])
                content = {"operator": operator, **given, "drawn": drawn, **gathered(files)}
                failed = content["failed"].get(operator)
                if failed is not None and learnt.of_kernel(operator) is not None:
                    raise CannotLearn(f"{operator}: {failed}; what was learnt before stays", Exit.INFRASTRUCTURE)
                learnt.write(path, content)
                if options.write is not None:
                    learnt.write(options.write, content)
    _told([operator], content, cases, time.monotonic() - began, console)
    console.print(f"kept in  {path}\nnext     shakeout run --target {operator}", soft_wrap=True, markup=False)
    return Exit.OK


# --- what a campaign saw --------------------------------------------------------------------------------------------


def _learn_campaign(options: argparse.Namespace, console: Console) -> int:
    """Fold in the calls of a campaign: of torch's operators, and of kernels that were learnt in this directory."""
    from shakeout.corpus import learnt
    from shakeout.fuzz.campaign.traces import NAME, read_traces
    from shakeout.fuzz.learning.collecting import finished
    from shakeout.fuzz.learning.store import MOST_SEEN, files_of_torch

    rows = list(read_traces(options.campaign / NAME))
    if not rows:
        raise CannotLearn(f"--from: {options.campaign} has no calls in {NAME}; is it a campaign's directory?")
    status = 0
    for operator in sorted({row[0] for row in rows if ":" in row[0]}):
        known = learnt.of_kernel(operator)
        if known is None:
            console.print(f"      {operator} was never learnt here, and is left out", soft_wrap=True, markup=False)
            continue
        given = {key: list(known.get(key, ())) for key in ("traces", "records", "seen")}
        before = len(given["seen"])
        for row in rows:
            if row[0] == operator and row not in given["seen"] and len(given["seen"]) < MOST_SEEN:
                given["seen"].append(row)
        console.print(f"      {len(given['seen']) - before} new calls of {operator}", soft_wrap=True, markup=False)
        if len(given["seen"]) > before:
            status = max(status, _learn_from(operator, given, options, console))
    of_torch = [row for row in rows if ":" not in row[0]]
    if len(of_torch) < len(rows) and not finished(files_of_torch()):
        console.print("      torch was never learnt here: calls of its operators are left out", soft_wrap=True)
        return status
    return max(status, _learn_torch(options, console, of_torch)) if of_torch else status


def _moved(lost: Lost, directory: Path) -> Lost:
    """The case of a lost call, kept beside the project."""
    from dataclasses import replace

    if lost.path is None:
        return lost
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / lost.path.name
    target.write_bytes(lost.path.read_bytes())
    return replace(lost, path=target)


def _chosen(known: tuple[str, ...], patterns: list[str] | None) -> list[str]:
    if patterns is None:
        return list(known)
    found: list[str] = []
    for pattern in patterns:
        matching = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            import difflib

            close = difflib.get_close_matches(pattern, known, 1)
            raise CannotLearn(
                f"--operators: torch has no operator {pattern!r} that can be proposed"
                + (f"; did you mean {close[0]}?" if close else "")
            )
        found += [name for name in matching if name not in found]
    return found


def _run(
    names: list[str],
    files: Files,
    rows: dict[str, list[Any]],
    options: argparse.Namespace,
    shown: _Shown,
    stop: Callable[[], bool],
    records: dict[str, list[Any]] | None = None,
    seen: dict[str, list[Any]] | None = None,
) -> list[Lost]:
    from shakeout.fuzz.campaign.config import Config
    from shakeout.fuzz.learning.crew import learn_operators

    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        return learn_operators(
            names,
            rows,
            files,
            Path(scratch),
            workers=options.workers or Config().workers,
            records=records,
            seen=seen,
            calls=options.calls,
            seconds=options.seconds,
            tell=shown.learning,
            listen=shown.warming,
            stop=stop,
        )


def _stored(files: Files, copy: Path | None) -> dict[str, Any]:
    """Gather the rules of all operators in one file, which campaigns read."""
    from importlib.metadata import version

    from shakeout.corpus import learnt
    from shakeout.fuzz.learning.gather import gathered

    path = learnt.torch_path(version("torch"))
    content = gathered(files)
    learnt.write(path, content)
    if copy is not None:
        learnt.write(copy, gathered(files, drawn=True))
    return content


def _told(names: list[str], content: dict[str, Any], lost: list[Lost], seconds: float, console: Console) -> None:
    from shakeout.generators.rules.library import Library

    library = Library(content)
    failed = {name: reason for name, reason in content["failed"].items() if name in names}
    there = [name for name in names if name in library.operators or name in failed]
    rules = [entry for name in there for entry in library.entries(name)]
    usable = sum(entry.usable for entry in rules)
    without = sum(len(library.without(name)) for name in there)
    console.print(
        f"{len(there)} of {len(names)} operators learnt in {seconds:.0f} s: {len(rules) + without} ways to call them, "
        f"{len(rules)} rules, {usable} of which are precise enough to draw from",
        soft_wrap=True,
    )
    if len(there) < len(names):
        console.print("the same command goes on with the rest", soft_wrap=True)
    for one in lost:
        replay = f"  shakeout replay {one.path}" if one.path is not None else ""
        console.print(f"{one.kind:<8} {one.operator}: {one.symptom}{replay}", soft_wrap=True, markup=False)
    for name, errors in content.get("errors", {}).items():
        for reason, count in errors.items() if name in names else ():
            console.print(f"left out {count} calls of {name}: {reason}", soft_wrap=True, markup=False)
    for name, reason in failed.items():
        console.print(f"failed   {name}: {reason}", soft_wrap=True, markup=False)


class _Shown:
    """Progress, as bars or as a line now and then."""

    def __init__(self, console: Console, *, plain: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = console
        self._bars: Progress | None = None
        if console.is_terminal and not plain:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bars = Progress(*columns, console=console, transient=True)
        self._tasks: dict[str, Any] = {}
        self._told = 0.0

    def __enter__(self) -> _Shown:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, text: str) -> None:
        """What goes on before anything can be counted."""
        self._line(text, force=True)

    def note(self, text: str) -> None:
        """Something that stays to be read."""
        self._console.print(f"      {text}", soft_wrap=True, markup=False)

    def warming(self, event: Any) -> None:
        """What the workers' parent is at."""
        from shakeout.fuzz.ground import events

        if isinstance(event, events.Warming) and not event.done:
            self._line(event.step, force=True)

    def collecting(self, name: str, done: int, total: int) -> None:
        """How far the samples are."""
        self._step("collecting", done, total, name)

    def learning(self, progress: Progress) -> None:
        """How far the operators are."""
        text = f"{progress.rules} rules  {progress.operator}"
        if progress.lost:
            text = f"{progress.lost} crashed or hung  {text}"
        self._step("learning", progress.done, progress.total, text)

    def _step(self, stage: str, done: int, total: int, text: str) -> None:
        if self._bars is None:
            self._line(f"{stage}: {done} of {total}  {text}", force=done == total)
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, description=f"{stage}  {text}"[:60])

    def _line(self, text: str, *, force: bool = False) -> None:
        if self._bars is None and (force or time.monotonic() - self._told > PLAIN_EVERY):
            self._told = time.monotonic()
            self._console.print(f"      {text}", soft_wrap=True, markup=False)

"""``shakeout learn``: of torch, of ONNX, of a user's kernel from recorded calls, or from what a campaign saw."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.commands.places import Mistake
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from shakeout.fuzz.learning.learn import How, LearntOperators

__all__ = ["add_arguments", "learn_command"]

#: Whose operators are learnt from what ships with them.
_PACKAGES = ("torch", "onnx")

#: Without a live display, a line so often, in seconds.
PLAIN_EVERY = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "what",
        nargs="?",
        metavar="torch | onnx | MODULE:NAME",
        help="operators of torch or ONNX, or your own declared kernel",
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
        help="only these of torch's or ONNX's; * stands for anything, as in 'torch.fft.*'",
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
        help="keep the rules there as well; of torch and ONNX those that calls are drawn from",
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of a progress bar")


def learn_command(options: argparse.Namespace, console: Console) -> int:
    """Learn what was asked for, with progress.

    Returns:
        The exit status: 0; 3 where an operator that was named could not be learnt; 130 after a signal.

    Raises:
        Mistake: what was asked for makes no sense, or cannot be done here.
    """
    from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable
    from shakeout.fuzz.campaign.config import Config
    from shakeout.fuzz.ground.progress import interruptible
    from shakeout.fuzz.learning.errors import CannotLearn
    from shakeout.fuzz.learning.learn import How
    from shakeout.fuzz.workers.nursery import Interrupted, ZygoteBroken

    _check(options)
    status = Exit.OK
    with interruptible() as stop, _Shown(console, plain=options.plain) as shown:
        workers = options.workers or Config().workers
        how = How(workers, options.calls, options.seconds, options.write, shown, lambda: stop.asked)
        try:
            for learnt in _learnt(options, how):
                shown.pause()
                _tell(learnt, console)
                if learnt.missed:
                    status = Exit.INFRASTRUCTURE
        except CannotLearn as error:
            raise Mistake(str(error), error.status) from None
        except DirectoryUnusable as error:
            raise Mistake(str(error), Exit.DIRECTORY) from None
        except ZygoteBroken as error:
            raise Mistake(f"the operators could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
        except Interrupted:
            return Exit.INTERRUPTED
    return Exit.INTERRUPTED if stop.asked else status


def _check(options: argparse.Namespace) -> None:
    """Raise Mistake where options do not go together."""
    for flag in ("seconds", "workers", "calls"):
        value = getattr(options, flag)
        if value is not None and not value > 0:
            raise Mistake(f"--{flag}: expected a positive number, found {value!r}")
    if options.campaign is not None:
        if options.what is not None or options.examples is not None:
            raise Mistake("--from goes without torch, MODULE:NAME and --examples: the campaign tells what it saw")
    elif options.what in _PACKAGES:
        if options.examples is not None:
            raise Mistake(f"--examples goes with MODULE:NAME; {options.what} is learnt from its own samples")
    elif options.what is None or ":" not in options.what:
        raise Mistake(
            f"learn: expected torch, onnx, MODULE:NAME or --from CAMPAIGN, found {options.what or 'nothing'!r}"
        )
    elif options.examples is None:
        raise Mistake(f"give tests or a script that call {options.what}: --examples PATH")
    if options.operators is not None and options.what not in _PACKAGES:
        raise Mistake("--operators goes with torch and onnx")


def _learnt(options: argparse.Namespace, how: How) -> Iterator[LearntOperators]:
    """What is learnt, one after the other."""
    from shakeout.fuzz.learning import learn

    if options.campaign is not None:
        yield from learn.learn_campaign(options.campaign, how)
    elif options.what == "onnx":
        yield learn.learn_onnx(how, options.operators, anew=options.new)
    elif options.what == "torch":
        yield learn.learn_torch(how, options.operators, anew=options.new)
    else:
        yield learn.learn_kernel(options.what, options.examples, how)


def _tell(learnt: LearntOperators, console: Console) -> None:
    """What came of it, for a person."""
    console.print(
        f"{learnt.done} of {len(learnt.names)} operators learnt in {learnt.seconds:.0f} s: {learnt.ways} ways to call "
        f"them, {learnt.rules} rules, {learnt.usable} of which are precise enough to draw from",
        soft_wrap=True,
    )
    lines = []
    if learnt.done < len(learnt.names):
        lines.append("the same command goes on with the rest")
    for one in learnt.lost:
        replay = f"  shakeout replay {one.path}" if one.path is not None else ""
        lines.append(f"{one.kind:<8} {one.operator}: {one.symptom}{replay}")
    for name, errors in learnt.errors.items():
        lines += [f"left out {count} calls of {name}: {reason}" for reason, count in errors.items()]
    lines += [f"failed   {name}: {reason}" for name, reason in learnt.failed.items()]
    if kernel := learnt.content.get("operator"):
        lines.append(f"kept in  {learnt.path}")
        if not learnt.failed:
            lines.append(f"next     shakeout run --target {kernel}")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


class _Shown:
    """Progress, as bars or as a line now and then; a context manager."""

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
        return self

    def __exit__(self, *error: object) -> None:
        self.pause()

    def pause(self) -> None:
        """Take the bars away, until there is progress again."""
        if self._bars is not None:
            self._bars.stop()
            for task in self._tasks.values():
                self._bars.remove_task(task)
            self._tasks.clear()

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.Notice(message=message):
                self._console.print(f"      {message}", soft_wrap=True, markup=False)
            case events.Warming(step=step, done=False):
                self._line(step, force=True)
            case events.CallsRecorded():
                said = f"{event.heard} calls heard, {event.different} different ones, {event.left_out} left out"
                self._console.print(said)
                for reason, count in event.errors.items():
                    line = f"left out {count} calls of {event.operator}: {reason}"
                    self._console.print(line, soft_wrap=True, markup=False)
            case events.Collecting():
                self._step("collecting", event.done, event.total, event.name)
            case events.Learning():
                text = f"{event.rules} rules  {event.operator}"
                if event.lost:
                    text = f"{event.lost} crashed or hung  {text}"
                self._step("learning", event.done, event.total, text)

    def _step(self, stage: str, done: int, total: int, text: str) -> None:
        if self._bars is None:
            self._line(f"{stage}: {done} of {total}  {text}", force=done == total)
            return
        self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, description=f"{stage}  {text}"[:60])

    def _line(self, text: str, *, force: bool = False) -> None:
        if self._bars is None and (force or time.monotonic() - self._told > PLAIN_EVERY):
            self._told = time.monotonic()
            self._console.print(f"      {text}", soft_wrap=True, markup=False)

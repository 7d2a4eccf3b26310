"""The command ``shakeout``: parses, calls, and turns every mistake into one line and its own exit status."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.exits import Exit

if TYPE_CHECKING:
    from shakeout.corpus.database import LedgerRow
    from shakeout.corpus.support import Support

__all__ = ["main"]

RUNS = Path("runs")


class Mistake(Exception):
    """Something a person can put right: one line, and the status to exit with."""

    def __init__(self, text: str, status: Exit = Exit.USAGE) -> None:
        super().__init__(text)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    # A console script does not look into the current directory, where a user's own kernels are.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return int(command(options))
    except Mistake as mistake:
        print(f"shakeout: {mistake}", file=sys.stderr)
        return mistake.status
    except KeyboardInterrupt:
        print("shakeout: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:
        return _explained(error)


def _explained(error: Exception) -> int:
    """The status of an error that has a meaning to people; a defect of ours otherwise."""
    from shakeout.corpus.codec import MalformedCase
    from shakeout.corpus.database import DatabaseError, ImpossibleDecision, UnknownBug
    from shakeout.fuzz.config import ConfigError
    from shakeout.fuzz.nursery import Interrupted, ZygoteBroken
    from shakeout.targets.target import UnknownTarget

    if isinstance(error, ZygoteBroken):
        print(f"shakeout: the target could not be loaded:\n{error}", file=sys.stderr)
        return Exit.INFRASTRUCTURE
    if isinstance(error, Interrupted):
        return Exit.INTERRUPTED
    if isinstance(error, ConfigError | MalformedCase | UnknownTarget | UnknownBug | ImpossibleDecision):
        print(f"shakeout: {error}", file=sys.stderr)
        return Exit.USAGE
    if isinstance(error, DatabaseError):
        print(f"shakeout: {error}", file=sys.stderr)
        return Exit.DIRECTORY
    if isinstance(error, OSError | sqlite3.OperationalError):
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk" in str(error)
        hint = "; free some space and resume" if full else ""
        print(f"shakeout: {error}{hint}", file=sys.stderr)
        return Exit.DIRECTORY
    with tempfile.NamedTemporaryFile("w", prefix="shakeout-", suffix=".log", delete=False) as file:
        file.write(traceback.format_exc())
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    print(f"SHAKEOUT-INTERNAL {text}\nA defect of Shakeout's own; the traceback is in {file.name}", file=sys.stderr)
    return Exit.INTERNAL


# --- the parser --------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    from shakeout import __version__
    from shakeout.corpus.database import STATES, STATUSES
    from shakeout.fuzz.learning import command as learning

    parser = argparse.ArgumentParser(
        prog="shakeout",
        description="Shakes the bugs out of deep-learning stacks: grows networks and compares with eager PyTorch.",
        epilog="Start with: shakeout run --minutes 5",
    )
    parser.add_argument("--version", action="version", version=f"shakeout {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, command: Callable[[argparse.Namespace], int], text: str, example: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command)
        return sub

    run = add(
        "run", _run, "run a campaign, or go on with the last one if it was interrupted", "shakeout run --minutes 5"
    )
    run.add_argument(
        "--target", action="append", metavar="NAME", help="what to test; may be repeated (default: installed compilers)"
    )
    run.add_argument("--minutes", type=float, help="how long to fuzz (default 5)")
    run.add_argument("--cases", type=int, help="stop after so many cases")
    run.add_argument("--workers", type=int, help="cases at work at a time (default: one for each core)")
    run.add_argument(
        "--stock",
        action="store_const",
        const=(),
        help="compile each of Inductor's kernels alone, with the compiler's own linker; slower, the same kernels",
    )
    run.add_argument(
        "--avoid-known",
        action="store_const",
        const=True,
        help="run no case in which the smallest case of a known bug occurs; the ledger counts them",
    )
    run.add_argument("--seed", type=int, help="of the campaign (default 0)")
    run.add_argument("--device", choices=("cpu", "cuda"), help="where the tensors are (default cpu)")
    run.add_argument("--mode", choices=("inference", "training"), help="only such cases (default: both)")
    run.add_argument("--operators", type=int, metavar="N", help="of each program (default: all sizes)")
    run.add_argument("--settings", type=int, metavar="N", help="tried on each program (default: as a target wants)")
    run.add_argument("--knob", action="append", metavar="NAME=VALUE", help="pin a knob of the targets; may be repeated")
    run.add_argument("--memory-limit", type=int, metavar="MIB", help="resident memory that a case may take")
    run.add_argument("--time-limit", type=float, metavar="SECONDS", help="for one case (default: derived as it goes)")
    run.add_argument("--config", type=Path, metavar="FILE", help="campaign.toml; flags outrank it")
    run.add_argument("--directory", type=Path, metavar="DIR", help="of the campaign (default: a new one below runs/)")
    run.add_argument("--new", action="store_true", help="begin a new campaign even if the last one was interrupted")
    run.add_argument("--plain", action="store_true", help="lines instead of a live display")

    resume = add("resume", _resume, "go on with a campaign", "shakeout resume runs/2026-01-31a")
    resume.add_argument("directory", type=Path, nargs="?", help="default: the newest below runs/")
    resume.add_argument("--minutes", type=float, help="fuzz for so long in all")
    resume.add_argument("--plain", action="store_true", help="lines instead of a live display")

    status = add("status", _status, "show where a campaign stands", "shakeout status")
    status.add_argument("directory", type=Path, nargs="?", help="default: the newest below runs/")
    status.add_argument("--json", action="store_true", help="for programs")

    bugs = add(
        "bugs",
        _bugs,
        "list the bugs of a campaign, show one, or say what became of one",
        "shakeout bugs set SH-7f3a duplicate-of SH-02de",
    )
    bugs.add_argument(
        "what",
        nargs="*",
        metavar="[show ID | set ID STATUS]",
        help=f"nothing to list; STATUS is one of {', '.join(STATUSES[:-1])}, duplicate-of OTHER",
    )
    bugs.add_argument("--note", default="", help="with set: why, or where it was reported")
    bugs.add_argument("--target", action="append", metavar="NAME", help="list only this target's; may be repeated")
    bugs.add_argument("--state", action="append", choices=STATES, help="list only those; may be repeated")
    bugs.add_argument("--status", action="append", choices=STATUSES, help="list only those; may be repeated")
    bugs.add_argument("--text", default="", help="list only those with this text in title or symptom")
    bugs.add_argument("--directory", type=Path, metavar="DIR", help="default: the newest below runs/")
    bugs.add_argument("--json", action="store_true", help="for programs")

    replay = add("replay", _replay, "run a stored case again in a fresh process", "shakeout replay SH-7f3a")
    replay.add_argument(
        "case",
        nargs="?",
        help="a bug's id, a case.json, a repro.py, or 'known' for the bugs that ship; with --all a campaign",
    )
    replay.add_argument("--all", action="store_true", help="a campaign's bugs, and the regressions and bugs that ship")
    replay.add_argument("--runs", type=int, help="with --all: of each case, in fresh workers (default 2)")
    replay.add_argument("--json", action="store_true", help="with --all: for programs")
    replay.add_argument("--directory", type=Path, metavar="DIR", help="campaign of the id (default: the newest)")
    replay.add_argument("--target", metavar="NAME", help="run it on another target")

    shrink = add(
        "minimise", _minimise, "find the smallest case that fails for the same reason", "shakeout minimise SH-7f3a"
    )
    shrink.add_argument(
        "case",
        nargs="?",
        help="a bug's id, a finding's folder, or a case.json; with --all a campaign (default: newest)",
    )
    shrink.add_argument("--all", action="store_true", help="every bug of a campaign that is not minimised yet")
    shrink.add_argument("--again", action="store_true", help="with --all: those too that are minimised")
    shrink.add_argument("--directory", type=Path, metavar="DIR", help="campaign of the id (default: the newest)")
    shrink.add_argument("--seconds", type=float, default=300.0, help="how long to search (default 300)")
    shrink.add_argument("--tries", type=int, default=5000, help="candidates to run at most (default 5000)")
    shrink.add_argument("--workers", type=int, help="candidates at a time (default: one for each core)")
    shrink.add_argument("--plain", action="store_true", help="lines instead of a live display")

    from shakeout.fuzz.triage import cli as triage

    triage.add_commands(add, _located)

    targets = add("targets", _targets, "list what can be tested", "shakeout targets --knobs")
    targets.add_argument("--knobs", action="store_true", help="show what each lets a setting vary")
    targets.add_argument("--json", action="store_true", help="for programs")

    operators = add(
        "operators",
        _operators,
        "list operators: how far a campaign's cases with them came, what a target takes, or what was learnt of them",
        "shakeout operators conv2d --rules",
    )
    operators.add_argument(
        "what",
        nargs="?",
        metavar="DIRECTORY | NAME",
        help="a campaign (default: the newest below runs/), or an operator: conv2d, 'torch.fft.*'",
    )
    operators.add_argument("--rules", action="store_true", help="what was learnt of each way to call them")
    operators.add_argument("--target", metavar="NAME", help="only this target; without a campaign, what it takes")
    operators.add_argument(
        "--write", type=Path, metavar="FILE", help="what the target takes, from a campaign with --operators 1"
    )
    operators.add_argument("--json", action="store_true", help="for programs")

    learn = add(
        "learn",
        _learn,
        "learn what operators take and give, from calls that are run",
        "shakeout learn mypackage.kernels:my_conv2d --examples tests/test_kernels.py",
    )
    learning.add_arguments(learn)

    add("selftest", _selftest, "plant eight faults and see that each is found", "shakeout selftest")
    doctor = add("doctor", _doctor, "check whether this machine can run campaigns", "shakeout doctor")
    doctor.add_argument("--json", action="store_true", help="for programs")
    return parser


# --- campaigns --------------------------------------------------------------------------------------------


def _config(options: argparse.Namespace) -> Any:
    """Defaults, then the file, then the flags."""
    from shakeout.fuzz import config as configuration
    from shakeout.fuzz.config import Config

    config = Config() if options.config is None else configuration.read(options.config)
    flags = {
        "targets": ("--target", options.target, "names"),
        "seconds": ("--minutes", options.minutes, "a positive number"),
        "cases": ("--cases", options.cases, "a positive whole number"),
        "workers": ("--workers", options.workers, "a positive whole number"),
        "seed": ("--seed", options.seed, "a whole number, 0 or more"),
        "device": ("--device", options.device, "cpu or cuda"),
        "mode": ("--mode", options.mode, "inference or training"),
        "operators": ("--operators", options.operators, "a whole number, 1 to 1000"),
        "settings": ("--settings", options.settings, "a positive whole number"),
        "memory_limit": ("--memory-limit", options.memory_limit, "MiB, 256 or more"),
        "time_limit": ("--time-limit", options.time_limit, "a positive number"),
        "avoid_known": ("--avoid-known", options.avoid_known, "nothing"),
        "shortcuts": ("--stock", options.stock, "nothing"),
    }
    changes = {}
    for name, (flag, value, wanted) in flags.items():
        if value is None:
            continue
        try:
            changes[name] = configuration.check(name, value)
        except ValueError:
            raise Mistake(f"{flag}: expected {wanted}, found {value!r}") from None
    if "cases" in changes and "seconds" not in changes:
        changes["seconds"] = None
    if options.knob:
        changes["knobs"] = tuple(sorted((*config.knobs, *(_knob(text) for text in options.knob))))
    config = replace(config, **changes)
    _check_targets(config)
    return config


def _knob(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Mistake(f"--knob: expected NAME=VALUE, found {text!r}")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return name, words[value.lower()]
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _check_targets(config: Any) -> None:
    """Unknown and missing targets, and knobs that no target has, before anything is started."""
    import difflib

    from shakeout.targets.target import target

    if config.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise Mistake(
                f"--device cuda: torch {torch.__version__} sees no CUDA device; install a CUDA build of torch and the "
                "driver (see: shakeout doctor)"
            )
    found = [target(name) for name in config.targets]
    for one in found:
        if missing := one.unavailable():
            raise Mistake(f"target {one.name} cannot run here: {missing}")
    knobs = {knob.name: knob for one in found for knob in one.knobs()}
    for name, value in config.knobs:
        if name not in knobs:
            close = difflib.get_close_matches(name, knobs, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise Mistake(f"--knob: no target here has a knob {name!r}{meant} (see: shakeout targets --knobs)")
        if value not in knobs[name].values:
            wanted = ", ".join(map(str, knobs[name].values))
            raise Mistake(f"--knob: {name} takes {wanted}; found {value!r}")


def _run(options: argparse.Namespace) -> int:
    from shakeout.fuzz import config as configuration
    from shakeout.fuzz.campaign import next_directory

    config = _config(options)
    directory = options.directory
    if directory is None and not options.new:
        last = _newest()
        if last is not None and _interrupted(last) and configuration.read(last / "campaign.toml") == config:
            directory = last
    return _campaign(config, directory or next_directory(RUNS), plain=options.plain)


def _resume(options: argparse.Namespace) -> int:
    from shakeout.fuzz import config as configuration

    directory = _existing(options.directory)
    config = configuration.read(directory / "campaign.toml")
    if options.minutes is not None:
        try:
            config = replace(config, seconds=configuration.check("seconds", options.minutes))
        except ValueError:
            raise Mistake(f"--minutes: expected a positive number, found {options.minutes!r}") from None
    _check_targets(config)
    return _campaign(config, directory, plain=options.plain)


def _campaign(config: Any, directory: Path, *, plain: bool) -> int:
    from rich.console import Console

    from shakeout.fuzz.campaign import Campaign, DirectoryUnusable, SelfTestFailed
    from shakeout.fuzz.display import Display
    from shakeout.fuzz.nursery import ZygoteBroken
    from shakeout.fuzz.report import summary, write_report

    console = Console(highlight=False)
    try:
        with (
            Display(console, live=console.is_terminal and not plain) as display,
            Campaign(config, directory, [display]) as campaign,
        ):
            outcome = campaign.run()
    except SelfTestFailed as error:
        raise Mistake(f"{error} (see: shakeout doctor)", Exit.INFRASTRUCTURE) from None
    except ZygoteBroken as error:
        raise Mistake(f"the targets could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
    except DirectoryUnusable as error:
        raise Mistake(str(error), Exit.DIRECTORY) from None
    report = write_report(directory)
    console.print(f"\nsummary  {summary(dict(outcome.totals), dict(outcome.bugs))}", soft_wrap=True)
    status, why = _judged(outcome)
    console.print(f"report   {report}   exit {int(status)} ({why})", soft_wrap=True)
    return status


def _judged(outcome: Any) -> tuple[Exit, str]:
    if outcome.reason == "interrupted":
        return Exit.INTERRUPTED, "interrupted; the same command resumes"
    if outcome.reason == "error":
        return Exit.DIRECTORY, outcome.message or "stopped by an error"
    if outcome.new:
        return Exit.FOUND, f"{len(outcome.new)} new bug{'s' if len(outcome.new) > 1 else ''}"
    return Exit.OK, "nothing new"


# --- directories --------------------------------------------------------------------------------------------


def _newest() -> Path | None:
    from shakeout.corpus.database import NAME

    found = [path for path in RUNS.glob("*") if (path / NAME).exists()] if RUNS.is_dir() else []
    return max(found, key=lambda path: (path / NAME).stat().st_mtime, default=None)


def _existing(directory: Path | None) -> Path:
    """A campaign's directory: the one that was named, or the newest."""
    from shakeout.corpus.database import NAME

    if directory is None:
        directory = _newest()
        if directory is None:
            raise Mistake("there is no campaign below runs/; start one: shakeout run --minutes 5", Exit.DIRECTORY)
    if not (directory / NAME).exists():
        raise Mistake(f"{directory} is not a campaign's directory: it has no {NAME}", Exit.DIRECTORY)
    return directory


def _interrupted(directory: Path) -> bool:
    """Whether a campaign ended before its time."""
    return _ending(directory) not in ("time", "cases")


def _ending(directory: Path) -> str:
    """Why a campaign ended when it ran last; empty if it did not say, because it runs or was killed."""
    from shakeout.fuzz.events import LOG, read_log

    ended = ""
    if (directory / LOG).exists():
        for event in read_log(directory / LOG):
            ended = (
                str(event["reason"]) if event["event"] == "Finished" else "" if event["event"] == "Started" else ended
            )
    return ended


# --- looking --------------------------------------------------------------------------------------------


def _status(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.report import summary

    directory = _existing(options.directory)
    with Database.read(directory / NAME) as database:
        totals, states, spent = database.totals(), database.states(), float(database.meta("spent", 0.0))
    ended = _ending(directory)
    if options.json:
        rows = {name: asdict(row) for name, row in totals.items()}
        _print_json({"directory": str(directory), "totals": rows, "bugs": states, "seconds": spent, "finished": ended})
        return Exit.OK
    from rich.console import Console

    from shakeout.fuzz.display import clock, ledger_table

    console = Console(highlight=False)
    console.print(f"{directory}  {clock(spent)} of fuzzing, {'ended: ' + ended if ended else 'not finished'}")
    console.print(ledger_table(totals, {}))
    console.print(summary(totals, states))
    return Exit.OK


def _bugs(options: argparse.Namespace) -> int:
    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz import bugs

    filters = options.target or options.state or options.status or options.text
    if (options.note and options.what[:1] != ["set"]) or (filters and options.what):
        raise Mistake("bugs: --note goes with 'set ID STATUS'; --target, --state, --status and --text with the list")
    match options.what:
        case []:
            wanted = bugs.Wanted(options.target or (), options.state or (), options.status or (), options.text)
            directory = _existing(options.directory)
            with Database.read(directory / NAME) as database:
                found, lives = bugs.listed(database, wanted), database.lives()
                if options.json:
                    _print_json([bugs.described(bug, decision) for bug, decision in found])
                    return Exit.OK
            if not found:
                print(f"no {'bugs' if wanted == bugs.Wanted() else 'such bugs'} in {directory}")
            for bug, decision in found:
                print(bugs.line(bug, decision, lives))
        case ["show", id_]:
            directory = _existing(options.directory)
            with Database.read(directory / NAME) as database:
                bug = database.bug(id_)
                if options.json:
                    _print_json(bugs.whole(database, bug))
                else:
                    print("\n".join(bugs.shown(directory, database, bug)))
        case ["set", id_, status, *others] if len(others) < 2:
            return _decide(options, id_, status, "".join(others))
        case _:
            raise Mistake(f"bugs: expected nothing, 'show ID' or 'set ID STATUS', found {' '.join(options.what)!r}")
    return Exit.OK


def _decide(options: argparse.Namespace, id_: str, status: str, other: str) -> int:
    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz import bugs

    with Database.open(_existing(options.directory) / NAME) as database:
        decision = database.decide(id_, status, other=other, note=options.note)
        bug = database.bug(decision.bug)
        if options.json:
            _print_json(bugs.whole(database, bug))
        else:
            print(bugs.line(bug, decision))
    return Exit.OK


def _replay(options: argparse.Namespace) -> int:
    from shakeout.fuzz.replay import replay_case, replay_known, replay_script

    if options.all:
        return _replay_all(options)
    if options.case is None or options.json or options.runs is not None:
        raise Mistake("replay: say which case, or --all (--runs and --json go with it)")
    if options.case == "known":
        return _verdict(replay_known(options.target))
    path = Path(options.case)
    if path.suffix == ".py" and path.exists():
        return _verdict(replay_script(path))
    if not path.exists():
        if not options.case.upper().startswith("SH-"):
            raise Mistake(f"replay: {options.case!r} is no file, no bug's id (SH-...) and not 'known'")
        path = _folder(options)
    if path.is_dir():
        path = path / "case.json"
    return _verdict(replay_case(path, options.target))


def _replay_all(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz import config
    from shakeout.fuzz.nursery import Interrupted, ZygoteBroken
    from shakeout.fuzz.triage.replaying import RUNS as EACH
    from shakeout.fuzz.triage.replaying import replay_all

    if options.target is not None or (options.runs is not None and options.runs < 1):
        raise Mistake("replay --all: --runs takes a positive number, and each case has a target of its own")
    named = Path(options.case) if options.case is not None else options.directory
    defaults = config.Config()
    try:
        return replay_all(
            _existing(named) if named is not None or _newest() is not None else None,
            workers=defaults.workers,
            memory=defaults.memory_limit,
            runs=options.runs or EACH,
            as_json=options.json,
            console=Console(highlight=False),
        )
    except ZygoteBroken as error:
        raise Mistake(f"torch could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
    except Interrupted:
        return Exit.INTERRUPTED


def _minimise(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz import config
    from shakeout.fuzz.minimise.command import minimise_command
    from shakeout.fuzz.nursery import Interrupted, ZygoteBroken

    for flag, value in (("--seconds", options.seconds), ("--tries", options.tries), ("--workers", options.workers)):
        if value is not None and not value > 0:
            raise Mistake(f"{flag}: expected a positive number, found {value!r}")
    if options.all:
        return _minimise_all(options)
    if options.case is None or options.again:
        raise Mistake("minimise: say which case, or --all for every bug of a campaign (and --again goes with --all)")
    path = _located(options)
    defaults = config.Config()
    try:
        return minimise_command(
            path,
            seconds=options.seconds,
            tries=options.tries,
            workers=options.workers or defaults.workers,
            memory=defaults.memory_limit,
            plain=options.plain,
            console=Console(highlight=False),
        )
    except ZygoteBroken as error:
        raise Mistake(f"the target could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
    except Interrupted:
        return Exit.INTERRUPTED


def _minimise_all(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz import config
    from shakeout.fuzz.minimise.search import Budget
    from shakeout.fuzz.nursery import Interrupted
    from shakeout.fuzz.triage.minimising import minimise_all

    defaults = config.Config()
    try:
        return minimise_all(
            _existing(Path(options.case) if options.case is not None else options.directory),
            budget=Budget(options.seconds, options.tries),
            workers=options.workers or defaults.workers,
            memory=defaults.memory_limit,
            plain=options.plain,
            console=Console(highlight=False),
            again=options.again,
        )
    except Interrupted:
        return Exit.INTERRUPTED


def _located(options: argparse.Namespace) -> Path:
    """The file of a case, or a finding's folder."""
    path = Path(options.case)
    if path.exists():
        return path
    if not options.case.upper().startswith("SH-"):
        raise Mistake(f"{options.case!r} is no file, no folder of a finding and no bug's id (SH-...)")
    return _folder(options)


def _folder(options: argparse.Namespace) -> Path:
    from shakeout.corpus.database import NAME, Database

    directory = _existing(options.directory)
    with Database.read(directory / NAME) as database:
        return directory / database.bug(options.case).id


def _verdict(status: int) -> Exit:
    """The exit status of a script as ours."""
    if status == 125:
        raise Mistake("replay: the case cannot run here", Exit.INFRASTRUCTURE)
    return Exit.OK if status == 0 else Exit.FOUND


def _targets(options: argparse.Namespace) -> int:
    from shakeout.targets.target import names, target

    found = [target(name) for name in names()]
    if options.json:
        _print_json(
            [
                {
                    "name": one.name,
                    "summary": one.summary,
                    "unavailable": one.unavailable(),
                    "knobs": {knob.name: list(knob.values) for knob in one.knobs()},
                }
                for one in found
            ]
        )
        return Exit.OK
    width = max(len(one.name) for one in found)
    for one in found:
        missing = one.unavailable()
        print(f"{one.name:<{width}}  {'unavailable: ' + missing if missing else one.summary}")
        if options.knobs:
            for knob in one.knobs():
                values = ", ".join(map(str, knob.values))
                print(f"{'':<{width}}    {knob.name:<34} {values:<22} {knob.help}")
    print(f"{'MODULE:NAME':<{width}}  your own, declared with @shakeout.kernel or @shakeout.runtime")
    return Exit.OK


def _operators(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from shakeout.corpus import support
    from shakeout.corpus.database import NAME, Database

    if options.rules or (options.what is not None and not Path(options.what).is_dir()):
        return _rules(options)
    if options.what is None and options.target is not None and (table := support.load(options.target)):
        return _takes(options.target, table, as_json=options.json)
    directory = _existing(None if options.what is None else Path(options.what))
    with Database.read(directory / NAME) as database:
        rows = [row for row in database.ledger() if options.target in (None, row.target)]
    if options.write is not None:
        return _write_table(options, rows)
    if options.json:
        _print_json([asdict(row) for row in rows])
        return Exit.OK
    print(f"{'operator':<48} {'target':<12} {'generated':>9} {'compared':>9} {'unsupported':>11} {'fed':>6}")
    for row in sorted(rows, key=lambda row: (row.operator, row.target)):
        counts = f"{row.generated:>9} {row.compared:>9} {row.unsupported:>11} {row.fed:>6}"
        print(f"{row.operator:<48} {row.target:<12} {counts}")
    operators = {row.operator for row in rows}
    fed = {row.operator for row in rows if row.fed}
    print(f"{len(operators)} operators, {len(fed)} of them also fed by another operator's result")
    return Exit.OK


def _rules(options: argparse.Namespace) -> int:
    """What was learnt of operators."""
    from shakeout.fuzz.learning import listing

    if options.target is not None or options.write is not None:
        raise Mistake("operators: --target and --write go with a campaign's directory, not with an operator or --rules")
    try:
        library, names = listing.matching(options.what)
    except listing.NothingLearnt as error:
        raise Mistake(f"operators: {error}") from None
    if options.json:
        _print_json(listing.described(library, names))
        return Exit.OK
    for line in listing.lines(library, names, rules=options.rules or len(names) == 1):
        print(line)
    return Exit.OK


def _takes(target: str, table: Mapping[str, Support], *, as_json: bool) -> int:
    """What a target takes, as it was measured with programs of one operator."""
    from dataclasses import asdict

    if as_json:
        _print_json({operator: asdict(row) for operator, row in table.items()})
        return Exit.OK
    print(f"{'operator':<56} {'compared':>9} {'unsupported':>11} {'failed':>7}")
    for operator, row in sorted(table.items()):
        print(f"{operator:<56} {row.compared:>9} {row.unsupported:>11} {row.failed:>7}")
    taken = sum(not row.declined for row in table.values())
    print(f"{target} takes {taken} of {len(table)} operators, measured one operator at a time")
    return Exit.OK


def _write_table(options: argparse.Namespace, rows: Sequence[LedgerRow]) -> int:
    from shakeout.corpus.support import measured
    from shakeout.fuzz.environment import describe

    if options.target is None:
        raise Mistake("--write: say of which target with --target")
    try:
        options.write.write_text(measured(options.target, rows, describe()["packages"]), encoding="utf-8")
    except OSError as error:
        raise Mistake(f"--write: {options.write}: {error.strerror}", Exit.DIRECTORY) from None
    return Exit.OK


def _learn(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.learning.command import CannotLearn, learn_command

    try:
        return learn_command(options, Console(highlight=False))
    except CannotLearn as error:
        raise Mistake(str(error), error.status) from None


def _selftest(options: argparse.Namespace) -> int:
    from shakeout.fuzz import events
    from shakeout.fuzz.nursery import ZygoteBroken
    from shakeout.fuzz.selftest import selftest
    from shakeout.fuzz.supervisor import Crew

    def tell(event: events.Event) -> None:
        if isinstance(event, events.Warming) and not event.done:
            print(f"        {event.step}", flush=True)
        elif isinstance(event, events.SelfTested):
            print(f"{'ok' if event.seen else 'MISSED':<8}{event.fault}  {event.message}".rstrip(), flush=True)

    with tempfile.TemporaryDirectory(prefix="shakeout-") as scratch:
        crew = Crew(Path(scratch), (), 2, tell=tell)
        try:
            crew.start(complete=False)
            missed = selftest(crew, tell)
        except ZygoteBroken as error:
            raise Mistake(f"torch could not be loaded:\n{error}", Exit.INFRASTRUCTURE) from None
        finally:
            crew.stop()
    if missed:
        raise Mistake("the self-test failed: Shakeout cannot be trusted here", Exit.INFRASTRUCTURE)
    return Exit.OK


def _doctor(options: argparse.Namespace) -> int:
    from shakeout.fuzz.doctor import checks

    found = list(checks(RUNS.absolute()))
    if options.json:
        _print_json([{"name": check.name, "state": check.state, "text": check.text} for check in found])
    else:
        for check in found:
            print(f"{check.state:<8} {check.name:<18} {check.text}")
    return Exit.INFRASTRUCTURE if any(check.state == "missing" for check in found) else Exit.OK


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


if __name__ == "__main__":
    sys.exit(main())

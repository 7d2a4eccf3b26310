"""Commands that run campaigns: ``run``, ``resume`` and ``status``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shakeout.corpus.setting import REFUSALS, Knob
from shakeout.fuzz.commands.focus import focused
from shakeout.fuzz.commands.places import (
    RUNS,
    Add,
    Mistake,
    add_allow,
    allow,
    ending,
    existing,
    interrupted,
    named,
    newest,
    print_json,
)
from shakeout.fuzz.ground.exits import Exit

__all__ = ["add_commands", "add_config", "add_exit_zero", "check_targets", "config_of"]


def add_commands(add: Add) -> None:
    """Add them to the parser."""
    run = add(
        "run", _run, "run a campaign, or go on with the last one if it was interrupted", "shakeout run --minutes 5"
    )
    add_config(run)
    run.add_argument("--minutes", type=float, help="how long to fuzz (default 5)")
    run.add_argument("--cases", type=int, help="stop after so many cases")
    run.add_argument("--directory", type=Path, metavar="DIR", help="of the campaign (default: a new one below runs/)")
    run.add_argument("--new", action="store_true", help="begin a new campaign even if the last one was interrupted")
    run.add_argument("--plain", action="store_true", help="lines instead of a live display")
    add_exit_zero(run)

    resume = add("resume", _resume, "go on with a campaign", "shakeout resume runs/2026-01-31a")
    resume.add_argument("directory", type=Path, nargs="?", help="default: the newest below runs/")
    resume.add_argument("--minutes", type=float, help="fuzz for so long in all")
    resume.add_argument("--plain", action="store_true", help="lines instead of a live display")
    add_exit_zero(resume)
    add_allow(resume)

    status = add("status", _status, "show where a campaign stands", "shakeout status")
    status.add_argument("directory", type=Path, nargs="?", help="default: the newest below runs/")
    status.add_argument("--json", action="store_true", help="for programs")


def add_config(run: argparse.ArgumentParser) -> None:
    """Add what a campaign's configuration may say, but for how long it goes on; ``config_of`` reads it."""
    run.add_argument(
        "--target", action="append", metavar="NAME", help="what to test; may be repeated (default: installed compilers)"
    )
    run.add_argument(
        "--vocabulary",
        metavar="NAME",
        help="what programs are made of: torch, or onnx for ONNX models that are grown as such; --target is then one "
        "of its targets (default: all of them that are installed)",
    )
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
    run.add_argument(
        "--focus",
        action="append",
        metavar="WHAT",
        help="operators (torch.cumsum, '*softmax*') one of which every program calls, or a target; may be repeated",
    )
    run.add_argument(
        "--motif",
        action="append",
        metavar="NAME",
        help="a building block (attention, rotary, ...), or the programs of a pass (MODULE:NAME), that every network "
        "grows around, varied; may be repeated",
    )
    run.add_argument("--operators", type=int, metavar="N", help="of each program (default: all sizes)")
    run.add_argument("--settings", type=int, metavar="N", help="tried on each program (default: as a target wants)")
    run.add_argument(
        "--refusals", action="store_true", help="what a target refuses as not supported is a finding as well"
    )
    run.add_argument("--knob", action="append", metavar="NAME=VALUE", help="pin a knob of the targets; may be repeated")
    run.add_argument("--memory-limit", type=int, metavar="MIB", help="resident memory that a case may take")
    run.add_argument("--time-limit", type=float, metavar="SECONDS", help="for one case (default: derived as it goes)")
    run.add_argument(
        "--coverage",
        action="store_const",
        const=True,
        help="watch what the cases reach (native code, Python, passes, the space of cases) and go on from what is new",
    )
    run.add_argument(
        "--cover",
        action="append",
        metavar="WHAT",
        help="watch a shared library (name, pattern or path) or Python package of your own; may be repeated",
    )
    run.add_argument(
        "--coverage-report",
        action="store_const",
        const=True,
        help="trace the targets' Python, and write a .coverage file that `coverage html` opens; slows compilers down",
    )
    run.add_argument(
        "--engine",
        choices=("campaign", "atheris"),
        help="what decides which case is next: the campaign's own loop (default), or libFuzzer with the targets' "
        "Python instrumented (needs the extra atheris)",
    )
    run.add_argument(
        "--instrument",
        action="append",
        metavar="MODULE",
        help="with --engine atheris: instrument this module of Python as well, and those below it; -MODULE leaves it "
        "out; may be repeated",
    )
    run.add_argument("--config", type=Path, metavar="FILE", help="campaign.toml; flags outrank it")


def add_exit_zero(parser: argparse.ArgumentParser) -> None:
    """Add ``--exit-zero``."""
    parser.add_argument(
        "--exit-zero",
        action="store_true",
        help="end with status 0 although bugs were found or findings wait; other failures keep theirs",
    )


def _run(options: argparse.Namespace) -> int:
    from shakeout.fuzz.campaign import config as configuration
    from shakeout.fuzz.campaign.campaign import next_directory

    config = _config(options)
    directory = options.directory
    if directory is None and not options.new:
        last = newest()
        if last is not None and interrupted(last) and configuration.read(last / "campaign.toml") == config:
            directory = last
    return _campaign(config, directory or next_directory(RUNS), options)


def _resume(options: argparse.Namespace) -> int:
    from shakeout.fuzz.campaign import config as configuration

    directory = existing(options.directory)
    config = configuration.read(directory / "campaign.toml")
    if options.minutes is not None:
        try:
            config = replace(config, seconds=configuration.check("seconds", options.minutes))
        except ValueError:
            raise Mistake(f"--minutes: expected a positive number, found {options.minutes!r}") from None
    check_targets(config)
    return _campaign(config, directory, options)


def _status(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.campaign.sessions import engine_lines
    from shakeout.fuzz.coverage.summary import read_coverage
    from shakeout.fuzz.reporting.counted import counted
    from shakeout.fuzz.reporting.notes import noted
    from shakeout.fuzz.reporting.rules import forgiving
    from shakeout.fuzz.steering.told import read_steering

    directory = existing(options.directory)
    with Database.read(directory / NAME) as database:
        found, states, spent = counted(database), database.states(), float(database.meta("spent", 0.0))
        notes, rules, engine = noted(database), forgiving(database), engine_lines(database)
    ended, coverage, steered = ending(directory), read_coverage(directory), read_steering(directory)
    if options.json:
        print_json(
            {
                "directory": str(directory),
                "totals": {name: asdict(row) for name, row in found.totals.items()},
                "programs": found.programs,
                "settings": found.settings,
                "bugs": states,
                "groups": found.bugs,
                "waiting": found.waiting,
                "notes": [asdict(one) for one in notes],
                "forgiven": [asdict(one) for one in rules],
                "coverage": coverage.to_json(),
                "steering": None if steered is None else steered.to_json(),
                "seconds": spent,
                "finished": ended,
            }
        )
        return Exit.OK
    from rich.console import Console

    from shakeout.fuzz.commands.display import clock, ledger_table

    console = Console(highlight=False)
    how = f"ended: {ended}" if ended else "not finished"
    console.print(f"{directory}  {clock(spent)} of fuzzing, {how}", soft_wrap=True)
    console.print(ledger_table(found.totals, programs=found.programs or None))
    console.print(found.summary, soft_wrap=True)
    for line in (*coverage.lines(_asked(directory)), *engine):
        console.print(line, soft_wrap=True)
    for line in steered.lines() if steered is not None else ():
        console.print(line, soft_wrap=True)
    for one in notes:
        console.print(f"note: {one.line}", soft_wrap=True)
    if advice := _advice(found, directory):
        console.print(advice, soft_wrap=True)
    return Exit.OK


def _config(options: argparse.Namespace) -> Any:
    """Defaults, then the file, then the flags; what it names is there."""
    config = config_of(options)
    check_targets(config)
    return config


def _motifs(named: Sequence[str] | None) -> list[str] | None:
    """The motifs that were named; raises Mistake for one that is none."""
    from shakeout.fuzz.steering.steering import MOTIFS
    from shakeout.targets.systems import canonical

    found = list(map(canonical, named or ()))
    allow(found)
    for name in found:
        if ":" not in name and name not in MOTIFS:
            raise Mistake(f"--motif {name}: expected {', '.join(MOTIFS)}, or a pass as MODULE:NAME")
    return found or None


def config_of(options: argparse.Namespace, file: Path | None = None) -> Any:
    """Defaults, then the file, then the flags.

    Args:
        options: of ``add_config``.
        file: that is read if none was named.
    """
    from shakeout.fuzz.campaign import config as configuration
    from shakeout.fuzz.campaign.config import Config

    given = options.config or file
    config = Config() if given is None else configuration.read(given)
    focus = focused(options.focus or ())
    allow((*config.targets, *focus.targets))
    named = [*(options.target or ()), *focus.targets]
    flags = {
        "targets": ("--target", _within(options.vocabulary, named) or None, "names"),
        "focus": ("--focus", list(focus.operators) or None, "operators"),
        "motifs": ("--motif", _motifs(options.motif), "names"),
        "seconds": ("--minutes", getattr(options, "minutes", None), "a positive number"),
        "cases": ("--cases", getattr(options, "cases", None), "a positive whole number"),
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
        "coverage": ("--coverage", options.coverage, "nothing"),
        "coverage_report": ("--coverage-report", options.coverage_report, "nothing"),
        "cover": ("--cover", options.cover, "names of shared libraries or Python packages"),
        "engine": ("--engine", options.engine, "campaign or atheris"),
        "instrument": ("--instrument", options.instrument, "names of modules"),
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
    if options.refusals:
        changes["knobs"] = tuple(sorted({*changes.get("knobs", config.knobs), (REFUSALS, True)}))
    config = replace(config, **changes)
    for name in config.cover:
        if "/" in name and not Path(name).is_file():
            raise Mistake(f"--cover: there is no file {name}")
    if config.coverage_report:
        from shakeout.fuzz.coverage.traced import unavailable

        if why := unavailable():
            raise Mistake(f"--coverage-report: {why}")
        if not config.watched.modules:
            raise Mistake("--coverage-report: no target here is made of Python; name a package with --cover")
    return config


def _within(vocabulary: str | None, names: Sequence[str]) -> list[str]:
    """The targets that were named, or all of a vocabulary; of one that is named, ``onnxruntime`` is its own."""
    from shakeout.targets.registry import of_vocabulary, within
    from shakeout.targets.target import UnknownTarget

    if vocabulary is None:
        return list(names)
    try:
        found = [within(vocabulary, name) for name in names] if names else list(of_vocabulary(vocabulary))
    except UnknownTarget as error:
        raise Mistake(f"--vocabulary: {error}") from None
    if not found:
        raise Mistake(f"--vocabulary: none of the targets of {vocabulary} is installed (see: shakeout targets)")
    return found


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


def check_targets(config: Any) -> None:
    """Unknown and missing targets, and knobs that no target has, before anything is started."""
    import difflib

    from shakeout.targets.accelerators import missing
    from shakeout.targets.registry import target

    if why := missing(config.device):
        raise Mistake(f"--device {config.device}: {why} (see: shakeout doctor)")
    found = [target(name) for name in config.targets]
    for one in found:
        if lacking := one.unavailable():
            raise Mistake(f"target {one.name} cannot run here: {lacking}")
    knobs = {REFUSALS: Knob(REFUSALS, (False, True)), **{knob.name: knob for one in found for knob in one.knobs()}}
    _check_engine(config)
    for name, value in config.knobs:
        if name not in knobs:
            close = difflib.get_close_matches(name, knobs, 1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise Mistake(f"--knob: no target here has a knob {name!r}{meant} (see: shakeout targets --knobs)")
        if value not in knobs[name].values:
            wanted = ", ".join(map(str, knobs[name].values))
            raise Mistake(f"--knob: {name} takes {wanted}; found {value!r}")


def _check_engine(config: Any) -> None:
    """That the engine is there, and has something to look at."""
    from shakeout.targets.packages import module_available

    if config.engine != "atheris":
        if config.instrument:
            raise Mistake("--instrument is for --engine atheris: nothing else looks at what it counts")
        return
    if not module_available("atheris"):
        raise Mistake("--engine atheris: atheris is not installed: pip install 'shakeout[atheris]'")
    if not config.instrumented:
        raise Mistake(
            f"--engine atheris: libFuzzer would see nothing of {', '.join(config.targets)}, of which no Python is "
            "known; name some with --instrument MODULE"
        )
    if config.device != "cpu":
        raise Mistake("--engine atheris runs cases on the CPU; leave out --device")


def _campaign(config: Any, directory: Path, options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.corpus.database import NAME, Database
    from shakeout.fuzz.campaign.campaign import Campaign, DirectoryUnusable, SelfTestFailed
    from shakeout.fuzz.campaign.sessions import engine_lines
    from shakeout.fuzz.commands.display import Display
    from shakeout.fuzz.coverage.summary import read_coverage
    from shakeout.fuzz.reporting.counted import counted
    from shakeout.fuzz.reporting.markdown import write_report
    from shakeout.fuzz.reporting.notes import NEVER, noted
    from shakeout.fuzz.workers.zygote_client import ZygoteBroken

    console = Console(highlight=False)
    try:
        with (
            Display(console, live=console.is_terminal and not options.plain) as display,
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
    with Database.read(directory / NAME) as database:
        found, notes, engine = counted(database), noted(database), engine_lines(database)
    console.print(f"\nsummary  {found.summary}", soft_wrap=True)
    for line in (*read_coverage(directory).lines(config.cover), *engine):
        console.print(f"         {line}", soft_wrap=True)
    if config.coverage_report:
        console.print(f"         {_coverage_report(directory)}", soft_wrap=True)
    for one in notes:
        console.print(f"note     {one.line}", soft_wrap=True)
    status, why = _judged(outcome)
    if status is Exit.OK and (idle := [one.target for one in notes if one.note == NEVER]):
        status, why = Exit.VACUOUS, f"the pass of {', '.join(idle)} changed no graph, so it was not tested"
    if status in (Exit.FOUND, Exit.VACUOUS) and options.exit_zero:
        status = Exit.OK
    console.print(f"report   {report}   exit {int(status)} ({why})", soft_wrap=True)
    if advice := _advice(found, directory):
        console.print(f"next     {advice}", soft_wrap=True)
    return status


def _coverage_report(directory: Path) -> str:
    """Write what was traced in the form of coverage.py; where it is, or why it is not."""
    from shakeout.fuzz.coverage.report import write_data

    try:
        path, modules = write_data(directory)
    except OSError as error:
        return f"coverage report: {error}"
    return f"coverage report: {modules} modules in {path}; coverage html --data-file {path}"


def _asked(directory: Path) -> tuple[str, ...]:
    """The shared libraries that a person named for a campaign."""
    from shakeout.fuzz.campaign import config as configuration

    try:
        return configuration.read(directory / "campaign.toml").cover
    except configuration.ConfigError:
        return ()  # the campaign goes on without that file, and so does its state


def _advice(found: Any, directory: Path) -> str:
    """What to do next about what was found, with a directory that commands do not find by themselves; or nothing."""
    told = [f"see `shakeout bugs --top 10{named(directory, ' --directory')}`"] if found.bugs.get("bug") else []
    if found.waiting:
        what = "finding that waits" if found.waiting == 1 else f"{found.waiting:,} findings that wait"
        told.append(f"`shakeout triage{named(directory)}` works off the {what}")
    return "; ".join(told)


def _judged(outcome: Any) -> tuple[Exit, str]:
    if outcome.reason == "interrupted":
        return Exit.INTERRUPTED, "interrupted; the same command resumes"
    if outcome.reason == "error":
        return Exit.DIRECTORY, outcome.message or "stopped by an error"
    if outcome.new:
        return Exit.FOUND, f"{len(outcome.new)} new bug{'s' if len(outcome.new) > 1 else ''}"
    if outcome.waiting:
        wait = "1 finding waits" if outcome.waiting == 1 else f"{outcome.waiting:,} findings wait"
        return Exit.VACUOUS, f"no new bug yet; {wait}"
    return Exit.OK, "nothing new"

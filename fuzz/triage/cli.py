"""The command line of what happens to a finding after it was found: ``bisect`` and ``report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from shakeout.fuzz.exits import Exit

__all__ = ["add_commands"]

#: Adds a command: name, function, help, example.
Add = Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]


def add_commands(add: Add, located: Callable[[argparse.Namespace], Path]) -> None:
    """Add the commands.

    Args:
        add: adds one to the parser.
        located: the path that the argument ``case`` means; raises what the caller turns into a message.
    """

    def bisect(options: argparse.Namespace) -> int:
        return _bisect(options, located(options))

    parser = add("bisect", bisect, "find out which part of a compiler is to blame", "shakeout bisect SH-7f3a")
    _of_case(parser)
    parser.add_argument("--workers", type=_positive, metavar="N", help="runs at a time (default: one for each core)")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live display")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--env", action="append", type=Path, default=[], metavar="DIR", help="try in this environment; oldest first"
    )
    parser.add_argument(
        "--versions", default="", metavar="LIST", help="try in releases that pip installs: torch==2.12.0,torch==2.13.0"
    )
    parser.add_argument("--newest", action="store_true", help="try in the newest release that pip finds")

    def report(options: argparse.Namespace) -> int:
        return _report(options, located(options))

    parser = add(
        "report",
        report,
        "write the report of a bug as a project's form asks for it; nothing is filed",
        "shakeout report SH-7f3a --format pytorch --output report.md",
    )
    _of_case(parser)
    parser.add_argument(
        "--format", choices=("pytorch", "tvm", "onnxruntime", "openvino", "markdown"), help="default: of the target"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument("--anyway", action="store_true", help="a draft, although something speaks against a report")


def _of_case(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("case", help="a bug's id, a finding's folder, or a case.json")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="campaign of the id (default: the newest)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, found {text!r}")
    return int(text)


def _bisect(options: argparse.Namespace, path: Path) -> int:
    from rich.console import Console

    from shakeout.fuzz.config import Config
    from shakeout.fuzz.triage.bisect.command import bisect_command, chosen

    console = Console(highlight=False, stderr=options.json)
    if options.env or options.versions or options.newest:
        from shakeout.fuzz.triage.bisect.environments import NotAnEnvironment
        from shakeout.fuzz.triage.bisect.releases import releases_command

        try:
            return releases_command(
                chosen(path),
                directories=options.env,
                versions=options.versions,
                newest=options.newest,
                plain=options.plain,
                as_json=options.json,
                console=console,
            )
        except NotAnEnvironment as error:
            print(f"shakeout: {error}", file=sys.stderr)
            return Exit.USAGE
    defaults = Config()
    return bisect_command(
        chosen(path),
        workers=options.workers or defaults.workers,
        memory=defaults.memory_limit,
        plain=options.plain,
        as_json=options.json,
        console=console,
    )


def _report(options: argparse.Namespace, path: Path) -> int:
    from shakeout.fuzz.triage.bisect.command import chosen
    from shakeout.fuzz.triage.reporting.command import report_command

    return report_command(chosen(path), form=options.format, output=options.output, anyway=options.anyway)

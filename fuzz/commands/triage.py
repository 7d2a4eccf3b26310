"""The command ``shakeout triage``: findings that wait are triaged, and nothing is fuzzed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from shakeout.fuzz.commands.places import Add, Mistake, add_allow, allow, existing
from shakeout.fuzz.ground.exits import Exit

__all__ = ["add_commands"]


def add_commands(add: Add) -> None:
    """Add it to the parser."""
    parser = add(
        "triage",
        _triage,
        "triage the findings of a campaign that still wait, without fuzzing; the same command resumes",
        "shakeout triage runs/2026-01-31a --workers 8",
    )
    parser.add_argument("directory", type=Path, nargs="?", help="default: the newest below runs/")
    parser.add_argument("--workers", type=int, help="findings at work at a time (default: one for each core)")
    parser.add_argument("--minutes", type=float, help="stop after so long (default: when nothing waits)")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live display")
    add_allow(parser)


def _triage(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.campaign import config as configuration
    from shakeout.fuzz.campaign.campaign import Campaign, DirectoryUnusable
    from shakeout.fuzz.commands.display import Display
    from shakeout.fuzz.reporting.markdown import write_report

    directory = existing(options.directory)
    config = configuration.read(directory / "campaign.toml")
    allow(config.targets)
    workers = configuration.Config().workers if options.workers is None else options.workers
    changes = {"workers": workers, "seconds": options.minutes}
    for name, wanted in (("workers", "a positive whole number"), ("seconds", "a positive number")):
        try:
            changes[name] = None if changes[name] is None else configuration.check(name, changes[name])
        except ValueError:
            flag = {"seconds": "--minutes"}.get(name, "--workers")
            raise Mistake(f"{flag}: expected {wanted}, found {changes[name]!r}") from None
    console = Console(highlight=False)
    try:
        with (
            Display(console, live=console.is_terminal and not options.plain) as display,
            Campaign(replace(config, **changes), directory, [display], fuzzing=False) as campaign,
        ):
            outcome = campaign.run()
    except DirectoryUnusable as error:
        raise Mistake(str(error), Exit.DIRECTORY) from None
    report = write_report(directory)
    new, left = len(outcome.new), outcome.waiting
    said = f"{left} wait on; the same command resumes" if left else "no finding waits any more"
    console.print(f"{new} new bug{'' if new == 1 else 's'}; {said}\nreport   {report}", soft_wrap=True)
    if outcome.reason == "interrupted":
        return Exit.INTERRUPTED
    return Exit.FOUND if new else Exit.VACUOUS if left else Exit.OK

"""The command ``shakeout nightly``: one night's work for cron or a job in CI, and what has changed since the last."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.commands.campaigns import add_config, add_exit_zero, check_targets, config_of
from shakeout.fuzz.commands.places import RUNS, Add, Mistake, add_allow
from shakeout.fuzz.commands.spans import seconds
from shakeout.fuzz.ground.exits import Exit

if TYPE_CHECKING:
    from rich.console import Console

    from shakeout.fuzz.ground import events
    from shakeout.fuzz.night.night import Told

__all__ = ["add_commands"]

#: The campaign that goes on every night, if nobody says.
DIRECTORY = RUNS / "nightly"

#: Lines that tell how far a campaign is: a night of hours is read in a mail or a log.
LINES = 60


def add_commands(add: Add) -> None:
    """Add it to the parser."""
    parser = add(
        "nightly",
        _nightly,
        "go on with one campaign every night, and tell what has changed since the last: new, fixed, reopened",
        "shakeout nightly --budget 8h",
    )
    parser.add_argument(
        "--budget",
        type=seconds,
        required=True,
        metavar="TIME",
        help="for everything: replay, cases, triage, bisection, report; as 8h, 90m or 1h30m",
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=DIRECTORY,
        metavar="DIR",
        help=f"of the campaign, made on the first night (default {DIRECTORY})",
    )
    parser.add_argument(
        "--learn",
        action="store_true",
        help="first learn the rules of operators anew, in a quarter of the budget; for once a week",
    )
    parser.add_argument(
        "--backups", type=_whole, metavar="N", help="copies of the database to keep, one of a night (default 7)"
    )
    add_config(parser)
    parser.add_argument("--plain", action="store_true", help="lines instead of a live display")
    add_exit_zero(parser)
    add_allow(parser)


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number, found {text!r}")
    return int(text)


def _nightly(options: argparse.Namespace) -> int:
    from rich.console import Console

    from shakeout.fuzz.campaign.campaign import DirectoryUnusable, SelfTestFailed
    from shakeout.fuzz.commands.display import PLAIN_EVERY, Display
    from shakeout.fuzz.ground.progress import interruptible
    from shakeout.fuzz.night.backups import KEEP
    from shakeout.fuzz.night.night import Asked, nightly
    from shakeout.fuzz.workers.zygote_client import Interrupted

    console = Console(highlight=False)
    keep = KEEP if options.backups is None else options.backups
    asked = Asked(_config(options, console), options.directory, options.budget, options.learn, keep)
    live = console.is_terminal and not options.plain
    try:
        with interruptible() as stop:
            every = max(PLAIN_EVERY, options.budget / LINES)
            with Display(console, live=live, every=every) as display:
                told = nightly(asked, stop=stop, tell=_Shown(console, display))
    except Interrupted:
        console.print("interrupted; the same command goes on")
        return Exit.INTERRUPTED
    except SelfTestFailed as error:
        raise Mistake(f"{error} (see: shakeout doctor)", Exit.INFRASTRUCTURE) from None
    except DirectoryUnusable as error:
        raise Mistake(str(error), Exit.DIRECTORY) from None
    return _conclude(told, console, exit_zero=options.exit_zero)


def _config(options: argparse.Namespace, console: Console) -> Any:
    """What the campaign was asked on the first night, with what is asked now on top; only time ends a night.

    How many workers there are and what memory each may take is not kept from the first night: tonight's machine may be
    another one, so it decides, where nobody says.

    A target that cannot run in tonight's environment is left out with a line, for the environment may change from night
    to night, as long as another one can.
    """
    from dataclasses import replace

    from shakeout.fuzz.campaign.config import Config

    stored = options.directory / "campaign.toml"
    config = replace(config_of(options, stored if stored.exists() else None), cases=None)
    if stored.exists() and options.config is None:
        machine = Config(targets=())
        said = {"workers": options.workers, "memory_limit": options.memory_limit}
        config = replace(config, **{name: getattr(machine, name) for name, value in said.items() if value is None})
    if not stored.exists():
        check_targets(config)
        return config
    lacking = {name: why for name in config.targets if (why := _lacking(name))}
    if len(lacking) < len(config.targets):
        for name, why in lacking.items():
            console.print(f"{name} cannot run here and is left out: {why}", soft_wrap=True, markup=False)
        check_targets(replace(config, targets=tuple(name for name in config.targets if name not in lacking)))
    else:
        check_targets(config)
    return config


def _lacking(name: str) -> str:
    """Why a target cannot run tonight; empty if it can."""
    from shakeout.targets.registry import target
    from shakeout.targets.target import UnknownTarget

    try:
        return target(name).unavailable() or ""
    except UnknownTarget as error:
        return str(error)


def _conclude(told: Told, console: Console, *, exit_zero: bool) -> int:
    """Say what has changed, and what that means for whoever asked."""
    from shakeout.fuzz.night.folder import REPORT
    from shakeout.fuzz.night.report import lines

    console.print()
    for line in lines(told.night, told.difference):
        console.print(line, soft_wrap=True, markup=False)
    status, why = Exit.OK, "nothing new"
    if (bad := told.difference.bad) and not exit_zero:
        status, why = Exit.FOUND, f"{bad} new or back"
    elif bad:
        why = f"{bad} new or back, --exit-zero"
    elif told.difference.vacuous:
        status, why = Exit.VACUOUS, "nothing was compared"
    console.print(f"{'report':<9}{told.folder / REPORT}   exit {int(status)} ({why})", soft_wrap=True, markup=False)
    return status


class _Shown:
    """Tells a person what a night does: its parts as lines, its campaign as any campaign.

    Of what ran again only that is a line which is no good news and no old news; how it compares with last night is told
    in the end.
    """

    def __init__(self, console: Console, display: Any) -> None:
        self._console = console
        self._display = display
        self._step = ""
        self._replayed: Counter[str] = Counter()

    def __call__(self, event: events.Event) -> None:
        from shakeout.fuzz.commands.display import clock
        from shakeout.fuzz.commands.replay_all import line
        from shakeout.fuzz.ground import events

        match event:
            case events.NightStep():
                if self._step == "replay":
                    counts = ", ".join(f"{count} {verdict}" for verdict, count in self._replayed.items())
                    self._say(f"           {counts or 'nothing to run'}")
                self._step = event.step
                self._say(f"{event.step:<11}{event.doing}, at most {clock(event.seconds)}")
            case events.Replayed():
                self._replayed[event.verdict] += 1
                if event.surprising or event.verdict in ("back", "changed", "flaky"):
                    self._say(f"           {line(event)}")
            case events.Asking() | events.Collecting() | events.Learning():
                pass  # a line for each would fill the page
            case events.FactFound():
                self._say(f"           {event.label:<10}{event.fact}")
            case events.CallsRecorded():
                self._say(f"           {event.different} different calls of {event.operator}")
            case events.Notice() if self._step != "campaign":
                self._say(f"           {event.message}")
            case events.Warming() if self._step != "campaign":
                pass
            case _:
                self._display(event)

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)

"""Where a command finds campaigns, bugs and cases, and how it tells what a person can put right."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shakeout.fuzz.ground.exits import Exit
from shakeout.targets.systems import canonical

__all__ = [
    "RUNS",
    "Add",
    "Mistake",
    "add_allow",
    "allow",
    "allow_named",
    "ending",
    "existing",
    "folder",
    "interrupted",
    "located",
    "named",
    "newest",
    "print_json",
]

#: Adds a command to the parser: name, function, help, example.
Add = Callable[[str, Callable[[argparse.Namespace], int], str, str], argparse.ArgumentParser]

RUNS = Path("runs")


class Mistake(Exception):
    """Something a person can put right: one line, and the status to exit with."""

    def __init__(self, text: str, status: Exit = Exit.USAGE) -> None:
        super().__init__(text)
        self.status = status


def add_allow(parser: argparse.ArgumentParser) -> None:
    """Add ``--allow`` to a command that reads cases which others may have written."""
    parser.add_argument(
        "--allow",
        action="append",
        metavar="MODULE",
        help="import this module of yours, although only the case names it; may be repeated, and is remembered",
    )


def allow_named(options: argparse.Namespace) -> None:
    """Let what was named on this command line be imported: it is the person's own word, and no file's.

    A kernel of Shakeout's own that is named by its short name stands as ``MODULE:NAME`` in the options afterwards.
    """
    given = vars(options)
    for key in ("target", "focus", "what"):
        match given.get(key):
            case str() as word:
                given[key] = canonical(word)
            case list() as words:
                given[key] = [canonical(word) if isinstance(word, str) else word for word in words]
    targets = given.get("target") or ()
    allow([*([targets] if isinstance(targets, str) else targets), given.get("what")])  # what: of learn and operators
    allow([f"{module}:" for module in given.get("allow") or ()])


def allow(names: Iterable[Any]) -> None:
    """Let the modules of those names be imported that are of the form ``MODULE:NAME``."""
    chosen = [name for name in names if isinstance(name, str) and ":" in name]
    if chosen:
        from shakeout.corpus import user_objects

        for name in chosen:
            user_objects.allow(name)


def newest() -> Path | None:
    """The directory of the campaign that was at work last."""
    from shakeout.corpus.database import NAME

    found = [path for path in RUNS.glob("*") if (path / NAME).exists()] if RUNS.is_dir() else []
    return max(found, key=lambda path: (path / NAME).stat().st_mtime, default=None)


def named(directory: Path, before: str = "") -> str:
    """How a command that is told to a person names a campaign's directory: not at all if that is the newest."""
    last = newest()
    if last is not None and last.resolve() == directory.resolve():
        return ""
    return f"{before} {shlex.quote(str(directory))}"


def existing(directory: Path | None) -> Path:
    """A campaign's directory: the one that was named, or the newest."""
    from shakeout.corpus.database import NAME

    if directory is None:
        directory = newest()
        if directory is None:
            raise Mistake("there is no campaign below runs/; start one: shakeout run --minutes 5", Exit.DIRECTORY)
    if not (directory / NAME).exists():
        raise Mistake(f"{directory} is not a campaign's directory: it has no {NAME}", Exit.DIRECTORY)
    return directory


def interrupted(directory: Path) -> bool:
    """Whether a campaign ended before its time."""
    return ending(directory) not in ("time", "cases")


def ending(directory: Path) -> str:
    """Why a campaign ended when it ran last; empty if it did not say, because it runs or was killed."""
    from shakeout.fuzz.ground.events import LOG, read_log

    ended = ""
    if (directory / LOG).exists():
        for event in read_log(directory / LOG):
            ended = (
                str(event["reason"]) if event["event"] == "Finished" else "" if event["event"] == "Started" else ended
            )
    return ended


def located(options: argparse.Namespace) -> Path:
    """The file of a case, or a finding's folder."""
    path = Path(options.case)
    if path.exists():
        return path
    if not options.case.upper().startswith("SH-"):
        raise Mistake(f"{options.case!r} is no file, no folder of a finding and no bug's id (SH-...)")
    return folder(options)


def folder(options: argparse.Namespace) -> Path:
    """The folder of the bug whose id was given."""
    from shakeout.corpus.database import NAME, Database

    directory = existing(options.directory)
    with Database.read(directory / NAME) as database:
        return directory / database.bug(options.case).id


def print_json(value: Any) -> None:
    """For programs."""
    print(json.dumps(value, indent=1))

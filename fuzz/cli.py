"""The command ``shakeout``: parses, calls, and turns every mistake into one line and its own exit status."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sqlite3
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from shakeout.corpus.interpreter import add_working_directory
from shakeout.fuzz.commands import campaigns, corpus, findings, gate, intake, inventory, nightly, triage
from shakeout.fuzz.commands.places import Mistake, allow_named
from shakeout.fuzz.ground.exits import Exit

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    add_working_directory()  # where a user's own kernels are
    parser = _parser()
    options = parser.parse_args(arguments)
    allow_named(options)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        with _ended_by_signals():
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


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """What a job in CI or a closed terminal sends is like Ctrl-C, for commands that have no better answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # What is ignored, as nohup has it, stays ignored.
    heard = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explained(error: Exception) -> int:
    """The status of an error that has a meaning to people; a defect of ours otherwise."""
    from shakeout.corpus.codec import MalformedCase
    from shakeout.corpus.database import DatabaseError, ImpossibleDecision, ImpossibleMove, UnknownBug
    from shakeout.fuzz.campaign.config import ConfigError
    from shakeout.fuzz.workers.zygote_client import Interrupted, ZygoteBroken
    from shakeout.targets.target import UnknownKnob, UnknownTarget

    if isinstance(error, ZygoteBroken):
        print(f"shakeout: the target could not be loaded:\n{error}", file=sys.stderr)
        return Exit.INFRASTRUCTURE
    if isinstance(error, Interrupted):
        return Exit.INTERRUPTED
    mistaken = ConfigError, MalformedCase, UnknownTarget, UnknownKnob, UnknownBug, ImpossibleDecision, ImpossibleMove
    if isinstance(error, mistaken):
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


def _parser() -> argparse.ArgumentParser:
    from shakeout import __version__

    statuses = "\n".join(f"  {int(one):<4} {one.meaning}" for one in Exit)
    parser = argparse.ArgumentParser(
        prog="shakeout",
        description="Shakes the bugs out of deep-learning stacks: grows networks and compares with eager PyTorch.",
        epilog=f"exit status:\n{statuses}\n\nStart with: shakeout run --minutes 5",
        formatter_class=argparse.RawDescriptionHelpFormatter,
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

    for group in (campaigns, corpus, gate, nightly, triage, findings, intake, inventory):
        group.add_commands(add)
    return parser

"""A search that somebody waits for: what they see of it meanwhile, and how they end it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from shakeout.fuzz.ground import events

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Line", "Stop", "interruptible"]

#: What asks a command to end: Ctrl-C, a job's end in CI, a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Without a live display, a line so often.
PLAIN_EVERY = 5.0


@dataclass(slots=True)
class Stop:
    """Whether to stop.

    Attributes:
        asked: somebody asked for it.
        until: the time, as ``time.monotonic`` gives it, at which a budget is used up; None for no budget.
    """

    asked: bool = False
    until: float | None = None

    def __call__(self) -> bool:
        """Whether to stop, for either reason."""
        return self.asked or (self.until is not None and time.monotonic() >= self.until)


@contextlib.contextmanager
def interruptible() -> Iterator[Stop]:
    """Ctrl-C asks to stop, and so does a signal that ends a process; a second one does not wait."""
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(number, before[signal.Signals(number)])

    # What is ignored, as nohup has it, stays ignored.
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Line:
    """The progress, as one line that changes or as a line now and then; a context manager."""

    def __init__(self, console: Console, *, live: bool) -> None:
        from rich.status import Status

        self._console = console
        self._status = Status("starting", console=console) if live else None
        self._told = 0.0

    def __enter__(self) -> Line:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def warming(self, event: events.Event) -> None:
        """What the crew is at."""
        if isinstance(event, events.Warming) and not event.done:
            self.say(event.step, force=True)

    def note(self, text: str) -> None:
        """What stays to be seen."""
        self._console.print(f"      {text}", soft_wrap=True, markup=False)

    def say(self, text: str, *, force: bool = False) -> None:
        """What the search is at; without a live display ``force`` shows it in any case."""
        if self._status is not None:
            from rich.markup import escape

            self._status.update(escape(text))
        elif force or time.monotonic() - self._told > PLAIN_EVERY:
            self._told = time.monotonic()
            self.note(text)

"""A search that somebody waits for: what they see of it meanwhile, and how they end it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from shakeout.fuzz import events

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Line", "Stop", "interruptible"]

#: Without a live display, a line so often.
PLAIN_EVERY = 5.0


@dataclass(slots=True)
class Stop:
    """Whether somebody asked to stop."""

    asked: bool = False

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.asked


@contextlib.contextmanager
def interruptible() -> Iterator[Stop]:
    """Ctrl-C asks to stop; a second one does not wait."""
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        stop.asked = True
        signal.signal(number, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


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

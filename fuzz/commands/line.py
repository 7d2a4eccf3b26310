"""The progress of a search, as one line that a person sees."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shakeout.fuzz.ground import events

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Line"]

#: Without a live display, a line so often.
PLAIN_EVERY = 5.0


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
        """What the pool is at."""
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

"""A search that somebody waits for, and how they end it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

__all__ = ["Stop", "interruptible"]

#: What asks a command to end: Ctrl-C, a job's end in CI, a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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

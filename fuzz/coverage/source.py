"""What every source of coverage has: it is armed in a process, and then tells what was hit for the first time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from shakeout.fuzz.coverage.hits import Hits

__all__ = ["FOREIGN", "Armed", "Source"]

#: What a process says that ends of a breakpoint which is none of ours; traps.c says it.
FOREIGN = "shakeout: this breakpoint is none of coverage's"


@dataclass(frozen=True, slots=True)
class Armed:
    """One library that was armed, or could not be.

    Attributes:
        name: of the library's file, or of what was asked for.
        functions: how many are watched.
        seconds: that arming took.
        reason: why it is not watched, or not as finely as it could be; empty if it is.
    """

    name: str
    functions: int = 0
    seconds: float = 0.0
    reason: str = ""


class Source(Protocol):
    """A source of coverage in one process. Nothing of it raises: what cannot be watched is told by ``arm``, once.

    Arm before workers are forked: they inherit what is armed, and each has hits of its own.
    """

    name: str

    def arm(self) -> tuple[Armed, ...]:
        """Watch what is loaded by now and was not watched; what became of each, and nothing the next time."""
        ...

    def take(self) -> tuple[Hits, ...]:
        """What was hit for the first time in this process since the last call, and is not known of the campaign."""
        ...

    def settle(self, seconds: float) -> None:
        """Between two cases: look closer at what was hit, and at what was loaded, for about so long at most."""
        ...

    def before_fork(self) -> None:
        """Forget what this process hit itself, so that its children tell it, and what the campaign knows by now."""
        ...

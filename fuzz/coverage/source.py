"""What every source of coverage has: it is armed in a process, and then tells what was hit for the first time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from shakeout.corpus.case import Case
    from shakeout.fuzz.coverage.hits import Hits

__all__ = ["FOREIGN", "Armed", "Source"]

#: What a process says that ends of a breakpoint which is none of ours; traps.c says it.
FOREIGN = "shakeout: this breakpoint is none of coverage's"


@dataclass(frozen=True, slots=True)
class Armed:
    """One thing that is watched, or cannot be.

    Attributes:
        name: of the library's file, or of what was asked for.
        watched: how many functions, lines or the like that are; 0 where nobody knows.
        kind: of those, in the plural.
        seconds: that arming took.
        reason: why it is not watched, or not as finely as it could be; empty if it is.
    """

    name: str
    watched: int = 0
    kind: str = "functions"
    seconds: float = 0.0
    reason: str = ""


class Source(Protocol):
    """A source of coverage in one process. What cannot be watched is told by ``arm``, once.

    Arm before workers are forked: they inherit what is armed, and each has hits of its own. Where one raises,
    ``Sources`` goes on without it.
    """

    name: str

    def arm(self) -> tuple[Armed, ...]:
        """Watch what is loaded by now and was not watched; what became of each, and nothing the next time."""
        ...

    def begin(self, case: Case) -> None:
        """A case is about to run."""
        ...

    def end(self, case: Case, status: str) -> None:
        """It has run, and that is what came of it: the ``status`` of its result."""
        ...

    def take(self) -> tuple[Hits, ...]:
        """What was hit for the first time in this process since the last call, and is not known of the campaign."""
        ...

    def rearm(self, keys: Collection[int]) -> frozenset[int]:
        """Tell these again if the next case hits them, whoever was told them before.

        Args:
            keys: numbers of ``Hits.features``, of any source.

        Returns:
            Those that are told again; what is told once only, or is no source's, is left out.
        """
        ...

    def look_closer(self, seconds: float) -> None:
        """Between two cases: look closer at what was hit, and at what was loaded, for about so long at most."""
        ...

    def before_fork(self, known: Sequence[Hits]) -> None:
        """Forget what this process hit itself, so that its children tell it.

        Args:
            known: what the campaign has hit since the last call, of every source: nobody need tell it again.
        """
        ...

"""A target that does only so many of the things of one kind: passes, patterns, lowerings, fusions.

Inside a worker the limit stays until the worker ends, so each such job has a worker of its own. What is counted is told
line by line as it happens, because a compiler may die before it is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shakeout.fuzz.ground.jobs import Trial
from shakeout.targets.registry import hook

__all__ = ["Gate", "Limit", "limit_process", "limited"]


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of what a compiler may do.

    Attributes:
        kind: of one of the parts of the target's ladder.
        most: only so many, in the order in which the compiler comes to them; None for all.
        without: the one with this number, counted from 0, is left out; None for none.
    """

    kind: str
    most: int | None = None
    without: int | None = None


@dataclass(slots=True)
class Gate:
    """Decides about one thing after the other.

    Attributes:
        limit: what is allowed.
        record: told of each thing, allowed or not, while the program is compiled for the first time.
        count: that came so far.
        rounds: how often the program was compiled; an oracle may want to see it twice.
        seen: what was decided, by key.
    """

    limit: Limit
    record: Callable[[str], None] = lambda name: None
    count: int = 0
    rounds: int = 0
    seen: dict[Any, bool] = field(default_factory=dict)

    def begin(self) -> None:
        """The program is compiled anew: count from the start."""
        self.rounds += 1
        self.count = 0
        self.seen.clear()

    def __call__(self, name: str, key: Any = None) -> bool:
        """Whether the compiler may do it; what comes again under the same key is decided as before."""
        if key is not None and key in self.seen:
            return self.seen[key]
        allowed = (self.limit.most is None or self.count < self.limit.most) and self.count != self.limit.without
        self.count += 1
        if key is not None:
            self.seen[key] = allowed
        if self.rounds < 2:
            self.record(" ".join(name.split()))
        return allowed


# --- for workers ------------------------------------------------------------------------------------------------------


def limit_process(job: Trial) -> None:
    """Limit the compilers of this process from now on, and write down what they come to."""
    if job.limit:
        gate = Gate(Limit(job.limit, job.most, job.without), _written(Path(job.record)))
        in_force.append(hook(job.target, job.limit)(gate))
        in_force[-1].__enter__()


#: Limits of this process; a context that nobody holds would end.
in_force: list[contextlib.AbstractContextManager[Any]] = []


def _written(path: Path) -> Callable[[str], None]:
    file = path.open("w", encoding="utf-8")

    def record(name: str) -> None:
        file.write(name + "\n")
        file.flush()

    return record


@contextlib.contextmanager
def limited(target: str, limit: Limit | None) -> Iterator[list[str]]:
    """Limit a target in this process meanwhile; what it came to, in order."""
    names: list[str] = []
    with hook(target, limit.kind)(Gate(limit, names.append)) if limit is not None else contextlib.nullcontext():
        yield names

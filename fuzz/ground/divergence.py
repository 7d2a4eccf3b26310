"""Where a wrong value first shows: the first operator of a program with which the target's answer goes wrong.

The target runs growing beginnings of the program under the case's own setting. A beginning returns what the rest of
the program would use and nothing else, so that fusion sees nearly what it saw, and a wrong value that the rest depends
on is among its results. The boundary between right and wrong is found by bisection. Even where a later operator hides
an earlier wrong value, what is found is an operator without which all is right and with which something is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shakeout.corpus.case import Case
from shakeout.oracles.verdict import Verdict

__all__ = ["MOST_RUNS", "Divergence", "beginning", "boundary", "search"]

#: Bisection of a hundred operators takes seven runs.
MOST_RUNS = 8

#: Seconds for all of it: three times the whole program's run, for beginnings are half as long on average; and no search
#: where one run takes so long that the limit of a case would be met.
LEAST_SECONDS = 5.0
SHARE = 3.0
TOO_LONG = 15.0


@dataclass(frozen=True, slots=True)
class Divergence:
    """What was found.

    Attributes:
        call: number of the first operator's call.
        operator: that operator.
        message: what is wrong behind it, in one line.
        runs: of the target that it took.
    """

    call: int
    operator: str
    message: str
    runs: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"call": self.call, "operator": self.operator, "message": self.message, "runs": self.runs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Divergence:
        """Read what ``to_json`` wrote."""
        return cls(**data)


def beginning(case: Case, count: int) -> Case | None:
    """The first ``count`` calls, returning what the other calls and the caller use; None if that is nothing."""
    program = case.program
    known = len(program.inputs) + sum(len(call.results) for call in program.calls[:count])
    used = {value for call in program.calls[count:] for value in call.operands()} | set(program.returns)
    # An input that nothing has written to is as it was, and one that was written to is looked at anyway.
    returns = tuple(sorted(value for value in used if len(program.inputs) <= value < known))
    if not returns:
        return None
    return replace(case, program=replace(program, calls=program.calls[:count], returns=returns))


def boundary(total: int, wrong: Callable[[int], bool | None], most: int = MOST_RUNS) -> int | None:
    """The least ``n`` that bisection finds with ``wrong(n)`` and not ``wrong(n - 1)``.

    Args:
        total: is known to be wrong, and 0 to be right.
        wrong: asked of lengths in between; None gives up.
        most: how often it is asked.
    """
    right, bad = 0, total
    while bad - right > 1:
        if most == 0:
            return None
        most -= 1
        middle = (right + bad) // 2
        answer = wrong(middle)
        if answer is None:
            return None
        right, bad = (right, middle) if answer else (middle, bad)
    return bad


def search(
    case: Case,
    told: Verdict,
    judge: Callable[[Case], Verdict | None],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Divergence | None:
    """Find the first operator with which a target goes wrong.

    Args:
        case: whose program has several calls.
        told: its failing verdict.
        judge: the same oracle's verdict on a beginning; None if it cannot be run.
        seconds: that the target took for the whole case.
        clock: by which the search is ended, in seconds.
    """
    if len(case.program.calls) < 2 or seconds > TOO_LONG:
        return None
    until = clock() + max(LEAST_SECONDS, SHARE * seconds)
    failing = {len(case.program.calls): told}
    runs = 0

    def wrong(count: int) -> bool | None:
        nonlocal runs
        if clock() > until:
            return None
        part = beginning(case, count)
        if part is None:
            return False
        runs += 1
        verdict = judge(part)
        if verdict is not None and verdict.outcome == "fail":
            failing[count] = verdict
            return True
        return False

    found = boundary(len(case.program.calls), wrong)
    if found is None:
        return None
    return Divergence(found - 1, case.program.calls[found - 1].operator, failing[found].message.splitlines()[0], runs)

"""Known bugs recognised in grown cases: by how a case fails and what it is made of, or before it runs by the latter.

A known bug is one whose smallest case ships, as a public report or as a regression, and that the installed versions
have: the campaign has just replayed it, or its status says so for exactly these releases. So each of them expires.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shakeout.corpus import known, regressions
from shakeout.corpus.case import Case
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.subprogram import Match, needs, occurrences, reaches

__all__ = ["Remembered", "contained", "expected", "recognised", "shipped_cases"]

_OUTPUT = re.compile(r"output (\d+)")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A known bug that the installed versions have: its id, its smallest case, and how that fails."""

    id: str
    case: Case
    failure: Failure


def expected(versions: Mapping[str, str]) -> list[Remembered]:
    """The regressions that fail with the installed versions, as far as somebody has tried exactly these."""
    return [
        Remembered(bug.id, bug.case, Failure(bug.case.setting.target, **bug.failure))
        for bug in regressions.load_all()
        if bug.expected(versions) == "fails"
    ]


@functools.cache
def shipped_cases() -> dict[str, Case]:
    """The smallest case of every known bug and regression that ships, by id."""
    return {bug.id: bug.case for bug in known.load_all()} | {bug.id: bug.case for bug in regressions.load_all()}


def recognised(case: Case, result: Result, bugs: Iterable[Remembered]) -> str:
    """The id of the known bug that a failing case shows; empty if it shows none of them.

    Both are asked for: the case fails as the bug's smallest case does (target, oracle, symptom, and the message of an
    exception), and that smallest case occurs in it, fed with what it needs. Where the place of the failure is known,
    the occurrence must lead to it.
    """
    failure = failure_of(result)
    for bug in bugs:
        if failure != bug.failure or not needs(bug.case, case):
            continue
        if any(_leads(case, match, result) for match in occurrences(bug.case, case)):
            return bug.id
    return ""


def contained(case: Case, ids: Sequence[str]) -> str:
    """The first of some known bugs whose smallest case occurs in a case, fed with what it needs; empty if none does."""
    for id_ in ids:
        small = shipped_cases().get(id_)
        if small is not None and needs(small, case) and next(occurrences(small, case), None) is not None:
            return id_
    return ""


def _leads(case: Case, match: Match, result: Result) -> bool:
    """Whether an occurrence stands where the case fails, as far as that is known."""
    if result.divergence is not None and result.divergence.call not in match:
        return False
    if result.failure is None or (output := _OUTPUT.fullmatch(result.failure.place)) is None:
        return True
    number = int(output[1])
    returns = case.program.returns
    return number < len(returns) and reaches(case.program, match, returns[number])

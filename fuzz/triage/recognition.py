"""Bugs recognised in grown cases: by how a case fails and what it is made of, or before it runs by the latter.

A known bug is one whose smallest case ships, as a public report or as a regression, and that the installed versions
have: the campaign has just replayed it, or its status says so for exactly these releases. So each of them expires. A
campaign's own bugs are recognised in the same way, each by the smallest cases of its findings.
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
from shakeout.fuzz.triage.subprogram import Dissected, leading_to, needs, occurrences

__all__ = ["Recognition", "Remembered", "contained", "expected", "shipped_cases"]

_OUTPUT = re.compile(r"output (\d+)")


@dataclass(frozen=True, slots=True)
class Remembered:
    """A bug by which findings are recognised: its id, its smallest case, and how that fails."""

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


class Recognition:
    """Smallest cases by which findings are recognised, in tables: a finding is compared with few of them.

    A smallest case is filed under its failure, and there under that one of its operators' families under which the
    fewest are filed. So it is looked at for findings that fail alike and have such an operator, and what it is made of
    is compared only if they have all the others too.

    Attributes:
        compared: how many smallest cases were compared with findings, operator by operator.
    """

    def __init__(self, bugs: Iterable[Remembered] = ()) -> None:
        self.compared = 0
        self._filed: dict[Failure, dict[str, list[tuple[str, Dissected]]]] = {}
        self._cases: set[tuple[Failure, str]] = set()
        for bug in bugs:
            self.add(bug)

    def add(self, bug: Remembered) -> None:
        """File one more; a case that is filed already is not filed again."""
        small = Dissected(bug.case)
        # What has no operators would occur in everything.
        if not small.families or (bug.failure, bug.case.id) in self._cases:
            return
        self._cases.add((bug.failure, bug.case.id))
        shelves = self._filed.setdefault(bug.failure, {})
        chosen = min(sorted(small.families), key=lambda family: len(shelves.get(family, ())))
        shelves.setdefault(chosen, []).append((bug.id, small))

    def find(self, case: Case, result: Result) -> str:
        """The id of the bug that a failing case shows; empty if it shows none of them.

        Both are asked for: the case fails as the bug's smallest case does (target, oracle, symptom, and the message of
        an exception), and that smallest case occurs in it, fed with what it needs. Where the place of the failure is
        known, the occurrence must lead to it.
        """
        failure = failure_of(result)
        shelves = None if failure is None else self._filed.get(failure)
        if not shelves:
            return ""
        large = Dissected(case)
        blamed, diverges = _blamed(large, result), result.divergence

        def shows(small: Dissected) -> bool:
            self.compared += 1
            return needs(small, large) and any(
                diverges is None or diverges.call in match for match in occurrences(small, large, blamed)
            )

        for family in large.families:
            for id_, small in shelves.get(family, ()):
                if small.families <= large.families and shows(small):
                    return id_
        return ""


def contained(case: Case, ids: Sequence[str]) -> str:
    """The first of some known bugs whose smallest case occurs in a case, fed with what it needs; empty if none does."""
    large = Dissected(case)
    for id_ in ids:
        small = _dissected(id_)
        if small is not None and needs(small, large) and next(occurrences(small, large), None) is not None:
            return id_
    return ""


@functools.cache
def _dissected(id_: str) -> Dissected | None:
    found = shipped_cases().get(id_)
    return None if found is None else Dissected(found)


def _blamed(large: Dissected, result: Result) -> frozenset[int] | None:
    """The calls that may be to blame for what a case shows; None where nothing is known of that."""
    if result.failure is None or (output := _OUTPUT.fullmatch(result.failure.place)) is None:
        return None
    returns = large.case.program.returns
    return leading_to(large, returns[int(output[1])]) if int(output[1]) < len(returns) else frozenset()

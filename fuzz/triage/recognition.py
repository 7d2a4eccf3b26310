"""Bugs recognised in grown cases: by how a case fails and what it is made of, or before it runs by the latter.

A known bug is one whose smallest case ships, as a public report or as a regression, and that the installed versions
have: the campaign has just replayed it, or its status says so for exactly these releases. So each of them expires. A
campaign's own bugs are recognised in the same way, each by the smallest cases of its findings.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shakeout.corpus import known, regressions
from shakeout.corpus.case import Case
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.subprogram import Match, needs, occurrences, reaches

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
        self._filed: dict[Failure, dict[str, list[tuple[Counter[str], Remembered]]]] = {}
        self._cases: set[tuple[Failure, str]] = set()
        for bug in bugs:
            self.add(bug)

    def add(self, bug: Remembered) -> None:
        """File one more; a case that is filed already is not filed again."""
        families = _families(bug.case)
        # What has no operators would occur in everything.
        if not families or (bug.failure, bug.case.id) in self._cases:
            return
        self._cases.add((bug.failure, bug.case.id))
        shelves = self._filed.setdefault(bug.failure, {})
        chosen = min(sorted(families), key=lambda family: len(shelves.get(family, ())))
        shelves.setdefault(chosen, []).append((families, bug))

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
        families = _families(case)
        for family in families:
            for wanted, bug in shelves.get(family, ()):
                if wanted <= families and self._shows(case, result, bug):
                    return bug.id
        return ""

    def _shows(self, case: Case, result: Result, bug: Remembered) -> bool:
        self.compared += 1
        return needs(bug.case, case) and any(_leads(case, match, result) for match in occurrences(bug.case, case))


def _families(case: Case) -> Counter[str]:
    words = vocabulary(case.program.vocabulary)
    return Counter(map(words.family, case.program.operators()))


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

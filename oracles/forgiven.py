"""What is forgiven, by which rule and behind which operator: a rule that forgives often has to be looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import Case
from shakeout.corpus.vocabularies import vocabulary
from shakeout.oracles.verdict import Outcome, Verdict

if TYPE_CHECKING:
    import torch

__all__ = ["Forgiven", "forgiven", "maker"]


@dataclass(slots=True)
class Forgiven:
    """Elements that were excused in the tensors of one part of a case, by rule and operator."""

    _elements: Counter[tuple[str, str]] = field(default_factory=Counter)

    def excuse(
        self, suspects: torch.Tensor, rules: Iterable[tuple[str, torch.Tensor]], operator: str, *, count: bool = True
    ) -> torch.Tensor:
        """Those of the suspects that no rule excuses; each other one counts for the first rule that does.

        That is counted once none is left: more is asked about a tensor until then, and in the end it fails.
        """
        found: list[tuple[str, int]] = []
        left = suspects
        for rule, elements in rules:
            if number := int((left & elements).sum()):
                found.append((rule, number))
                left = left & ~elements
        if count and not bool(left.any()):
            for rule, number in found:
                self._elements[rule, operator] += number
        return left

    def to_json(self) -> list[list[Any]]:
        """Rule, operator and elements, most first."""
        return [[rule, operator, number] for (rule, operator), number in self._elements.most_common()]


def maker(case: Case, value: int) -> str:
    """The operator that computed a value, past those that only move it; empty for what the program is given."""
    program = case.program
    words = vocabulary(program.vocabulary)
    while (position := program.producer(value)) is not None:
        call = program.calls[position]
        operands = call.operands()
        if call.regions or words.traits(call.operator).exactness != "moves" or not operands:
            return call.operator
        value = operands[0]
    return ""


def forgiven(verdict: Verdict) -> list[tuple[str, str]]:
    """By which rules a verdict forgives, with the operator, which is empty where the case as a whole was forgiven."""
    if verdict.outcome is not Outcome.UNKNOWN:
        return []
    told = verdict.evidence.get("forgiven")
    if told:
        return [(f"{verdict.oracle}: {rule}", operator) for rule, operator, _ in told]
    return [(f"{verdict.oracle}: {verdict.symptom}", "")]

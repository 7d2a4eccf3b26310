"""Validation: how many calls drawn from a rule are accepted, and how many accepted calls the rule accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shakeout.generators.choices import Choices
from shakeout.generators.rules.propose import Limits, Proposal, propose
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.trace import Trace

__all__ = ["Validation", "as_trace", "measured", "validate"]


@dataclass(frozen=True, slots=True)
class Validation:
    """Counts.

    Attributes:
        drawn: calls that were drawn from the rule and executed.
        accepted: those that the operator took.
        right: those that it took and whose results have the predicted types.
        held_out: accepted traces that the rule had not seen.
        taken: those of them that the rule accepts.
        wrong: the first drawn calls that went wrong, as they were executed.
    """

    drawn: int
    accepted: int
    right: int
    held_out: int
    taken: int
    wrong: tuple[Trace, ...] = ()

    @property
    def precision(self) -> float | None:
        """Share of the drawn calls that were accepted with the predicted types; None where nothing was drawn."""
        return self.right / self.drawn if self.drawn else None

    @property
    def completeness(self) -> float | None:
        """Share of the held-out calls that the rule accepts; None where there are none."""
        return self.taken / self.held_out if self.held_out else None


def validate(
    rule: Rule,
    choices: Choices,
    execute: Callable[[Trace], Trace | None],
    draws: int = 24,
    held_out: Sequence[Trace] = (),
    limits: Limits = Limits(),  # noqa: B008
) -> Validation:
    """Draw calls from a rule, have them executed, and compare.

    Args:
        rule: the rule.
        choices: makes the draws.
        execute: runs a call without results on operands of the given types and says what came of it; None where
            nothing can be said, and the call does not count.
        draws: how many calls.
        held_out: traces that the rule was not learnt from; rejected ones are not looked at.
        limits: how large a call may be.
    """
    drawn = accepted = right = 0
    wrong: list[Trace] = []
    for _ in range(draws):
        proposal = propose(rule, choices, (), limits)
        if proposal is None:
            continue
        call = as_trace(rule, proposal)
        outcome = execute(call)
        if outcome is None:
            continue
        drawn += 1
        accepted += outcome.accepted
        # A rule that cannot tell what comes out is judged by acceptance alone.
        as_told = outcome.accepted and (not rule.predicts or rule.predict(call) == outcome.results)
        right += as_told
        if not as_told and len(wrong) < 4:
            wrong.append(outcome)
    valid = [trace for trace in held_out if trace.accepted]
    return Validation(drawn, accepted, right, len(valid), sum(map(rule.accepts, valid)), tuple(wrong))


def as_trace(rule: Rule, proposal: Proposal) -> Trace:
    """A proposal all of whose operands are fresh, as a call that was not executed yet."""
    args, kwargs, fresh = proposal
    return Trace(rule.variant.operator, args, kwargs, fresh, source="augmented")


def measured(rule: Rule, validation: Validation) -> Rule:
    """The rule with what was measured of it."""
    return replace(rule, precision=validation.precision, completeness=validation.completeness)

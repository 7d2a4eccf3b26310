"""Learns rules, and measures on accepted calls that were not shown to it how much of what is accepted a rule takes."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from shakeout.generators.rules.learn import Learnt, by_variant, learn
from shakeout.generators.rules.trace import Trace

__all__ = ["held_out", "learn_measured"]

#: One accepted call in so many is held out, if there are at least so many.
HELD, FEWEST = 4, 12


def held_out(call: Trace) -> bool:
    """Whether a call is held out: by a hash, so that it is the same calls whenever and wherever one asks."""
    text = repr((call.args, call.kwargs, call.operands))
    return zlib.crc32(text.encode()) % HELD == 0


def learn_measured(traces: Iterable[Trace]) -> list[Learnt]:
    """The rule of each variant, with its completeness; one that cannot be learnt stops nobody.

    Args:
        traces: of one operator.
    """
    found: list[Learnt] = []
    for variant, group in by_variant(traces).items():
        if not any(call.accepted for call in group):
            continue  # no way to call it, but a mistake that was made
        try:
            found.append(_completed(group))
        except (ArithmeticError, ValueError, KeyError, IndexError, TypeError) as problem:
            found.append(Learnt(variant, None, (f"could not be learnt: {type(problem).__name__}: {problem}",)))
    return found


def _completed(group: Sequence[Trace]) -> Learnt:
    held = _held(group)
    kept = set(map(id, held))
    learnt = learn([call for call in group if id(call) not in kept])
    if learnt.rule is None or not held:
        return learnt
    share = sum(map(learnt.rule.accepts, held)) / len(held)
    return replace(learnt, rule=replace(learnt.rule, completeness=share))


def _held(group: Sequence[Trace]) -> list[Trace]:
    """The accepted calls that are held out.

    Dtypes are listed in a rule and not generalised, so one that few calls have is no test of it: those all stay.
    """
    accepted = [call for call in group if call.accepted]
    if len(accepted) < FEWEST:
        return []
    counts = Counter(tuple(operand.dtype for operand in call.operands) for call in accepted)
    return [
        call
        for call in accepted
        if held_out(call) and counts[tuple(operand.dtype for operand in call.operands)] >= FEWEST
    ]

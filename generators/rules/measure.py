"""Learns rules and measures them: on fresh calls drawn from each, and on accepted calls that it was not shown.

Where a drawn call shows that a rule is wrong, it is learnt anew with that call among its traces, as
counterexample-guided synthesis does (Solar-Lezama et al., ASPLOS 2006). What is measured in the end was drawn after the
last of these.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from shakeout.generators.choices import SeededChoices
from shakeout.generators.rules.examine import Execute
from shakeout.generators.rules.learn import Learnt, by_variant, learn
from shakeout.generators.rules.propose import Limits
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.trace import Trace, Variant
from shakeout.generators.rules.validate import measured, validate
from shakeout.generators.vocabularies.records import Spread

__all__ = ["DRAWS", "held_out", "learn_measured"]

#: Fresh calls of one rule. Of a rule that is right 98 times in 100, forty calls show one mistake on average.
DRAWS = 40
#: How often a rule is learnt anew from calls that it was wrong about.
ROUNDS = 3
#: One accepted call in so many is held out, if there are at least so many.
HELD, FEWEST = 4, 12
#: Nothing else is decided beyond, and kernels take their time.
LIMITS = Limits(size=12, attribute=12)


def held_out(call: Trace) -> bool:
    """Whether a call is held out: by a hash, so that it is the same calls whenever and wherever one asks."""
    text = repr((call.args, call.kwargs, call.operands))
    return zlib.crc32(text.encode()) % HELD == 0


def learn_measured(
    traces: Iterable[Trace], spreads: Mapping[Variant, Sequence[Spread]], execute: Execute
) -> list[Learnt]:
    """The rule of each variant, with its precision and its completeness; one that cannot be learnt stops nobody.

    Args:
        traces: of one operator.
        spreads: which values the operands of a variant need.
        execute: runs a call.
    """
    found: list[Learnt] = []
    for variant, group in by_variant(traces).items():
        if not any(call.accepted for call in group):
            continue  # no way to call it, but a mistake that was made
        try:
            found.append(_refined(group, spreads.get(variant, ()), execute))
        except Exception as problem:  # the reference of a kernel may be anything
            found.append(Learnt(variant, None, (f"could not be learnt: {type(problem).__name__}: {problem}",)))
    return found


def _refined(group: Sequence[Trace], spreads: Sequence[Spread], execute: Execute) -> Learnt:
    """The rule of one variant, learnt again from what it was wrong about."""
    held = _held(group)
    kept = set(map(id, held))
    known = [call for call in group if id(call) not in kept]
    learnt = learn(known)
    best: Rule | None = None
    for number in range(ROUNDS + 1):
        if learnt.rule is None:
            break
        ran: list[Trace] = []
        choices = SeededChoices(zlib.crc32(f"{number} {learnt.variant}".encode()))
        found = validate(learnt.rule, choices, _told(execute, spreads, ran), DRAWS, held, LIMITS)
        rule = measured(learnt.rule, found)
        if best is None or _worth(rule) >= _worth(best):
            best = rule
        if found.right == found.drawn or number == ROUNDS:
            break
        known += ran
        learnt = learn(known)
    return learnt if best is None else Learnt(learnt.variant, best, best.notes)


def _told(execute: Execute, spreads: Sequence[Spread], ran: list[Trace]) -> Callable[[Trace], Trace | None]:
    """Runs calls of one variant, and keeps what came of them."""

    def run(call: Trace) -> Trace | None:
        done = execute(call, spreads)
        if done is not None:
            ran.append(done)
        return done

    return run


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


def _worth(rule: Rule) -> float:
    return (rule.precision or 0.0) + (rule.completeness or 0.0) + float(rule.predicts)

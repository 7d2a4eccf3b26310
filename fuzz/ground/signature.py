"""The first, simple signature of a failure: equal for failures that probably have one cause.

Small programs are told apart by their operators. In larger ones most operators are bystanders; there the first operator
with which the values go wrong stands for them, or, where that is not known, the one that made the output, or for an
exception its message without numbers. Around a user's kernel all are
bystanders; there the dtype that it is given tells failures apart. Inside a runtime every operator is one.
"""

from __future__ import annotations

from shakeout.corpus.case import Case
from shakeout.corpus.observation import Raised
from shakeout.corpus.program import scoped
from shakeout.fuzz.ground.divergence import Divergence
from shakeout.oracles.verdict import Verdict
from shakeout.targets.registry import target

__all__ = ["INTERNAL", "SMALL", "signature", "title"]

#: Prefix of failures that are Shakeout's own, so that nobody reports them upstream.
INTERNAL = "SHAKEOUT-INTERNAL"

#: Programs of at most this many calls are named by all their operators.
SMALL = 3


def signature(
    case: Case, verdict: Verdict, error: Raised | None, stage: str = "", divergence: Divergence | None = None
) -> str:
    """Target, stage, oracle, symptom and what is to blame, as one line."""
    parts = [case.setting.target, *([stage] if stage not in ("", case.setting.target) else [])]
    parts += [verdict.oracle, verdict.symptom]
    if error is not None and verdict.oracle == "exception":
        if error.owner == "shakeout":
            parts.insert(0, INTERNAL)
        parts += [error.template, *error.frames[-1:]]
    else:
        parts.append(_blamed(case, verdict, divergence))
    return " | ".join(parts)


def title(target: str, symptom: str, message: str, stage: str = "") -> str:
    """One line for a finding. An exception's message begins with its class, which is the symptom too."""
    text = message if message.startswith(symptom) else f"{symptom}. {message}"
    where = f"{target} ({stage})" if stage not in ("", target) else target
    return f"{where}: {text}".splitlines()[0][:200]


def _blamed(case: Case, verdict: Verdict, divergence: Divergence | None) -> str:
    program = case.program
    operators = program.operators()
    if case.setting.target in operators:
        return _dtypes(case)  # a user's kernel is tested, and nothing around it
    if "bits" in target(case.setting.target).facts.promises:
        return "any network"  # a runtime is tested, and nothing that runs in it
    if len(operators) > SMALL and divergence is not None:
        return divergence.operator
    if len(operators) > SMALL and verdict.place.startswith("output "):
        producer = program.producer(program.returns[int(verdict.place.removeprefix("output "))])
        if producer is not None:
            return program.calls[producer].operator
    return "+".join(sorted(set(operators))) if len(operators) <= SMALL else "a network"


def _dtypes(case: Case) -> str:
    """What the kernel under test is given: a dtype, if it is one in all calls."""
    scope = [(call, types) for call, types in scoped(case.program) if call.operator == case.setting.target]
    given = [types[call.operands()[0]] for call, types in scope if call.operands()]
    found = {type_.dtype for type_ in given if type_ is not None}
    return found.pop() if len(found) == 1 else "several dtypes"

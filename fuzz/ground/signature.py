"""The first, simple signature of a failure, equal for failures that probably have one cause, and its title in words.

Small programs are told apart by their operators. In larger ones most operators are bystanders; there the first operator
with which the values go wrong stands for them, or, where that is not known, the one that made the output, or for an
exception its message without numbers. Around a user's kernel all are
bystanders; there the dtype that it is given tells failures apart. Inside a runtime every operator is one.
"""

from __future__ import annotations

from shakeout.corpus.case import Case
from shakeout.corpus.observation import Raised
from shakeout.corpus.program import scoped, walk
from shakeout.corpus.vocabularies.operator import identify
from shakeout.fuzz.ground.divergence import Divergence
from shakeout.fuzz.ground.results import LOSSES, Result
from shakeout.oracles.verdict import Verdict
from shakeout.targets.registry import target

__all__ = ["INTERNAL", "SMALL", "headline", "signature", "spoken", "title", "what"]

#: Prefix of failures that are Shakeout's own, so that nobody reports them upstream.
INTERNAL = "SHAKEOUT-INTERNAL"

#: Programs of at most this many calls are named by all their operators.
SMALL = 3

#: Titles name the operators of up to so many calls, which is what a minimised case has.
NAMED = 4

#: Characters of a title: what a line of a terminal or of a tracker's list shows.
LONGEST = 120

_LOST = {"crash": "crash", "hang": "hang", "memory": "out of memory"}


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
    return f"{_where(target, stage)}: {text}".splitlines()[0][:200]


def headline(case: Case, result: Result) -> str:
    """One line for a bug, from its smallest case: ``inductor: wrong value: cumsum of int32``.

    Of an exception the message follows, since one operator may raise several. A case that passes has nothing to tell
    but what it is made of.
    """
    where, program = _where(case.setting.target, result.stage), spoken(case)
    verdict = result.failure
    if verdict is None:
        return f"{where}: {program}"
    if len(case.program.operators()) > SMALL and result.divergence is not None:
        program += f", first wrong behind {_name(result.divergence.operator)}"
    text = f"{where}: {what(verdict)}: {program}"
    if verdict.oracle == "exception":
        said = (verdict.message.splitlines() or [""])[0].removeprefix(f"{verdict.symptom}: ").strip()
        text += f": {said}" if said else ""
    return text if len(text) <= LONGEST else text[: LONGEST - 3].rstrip() + "..."


def what(verdict: Verdict) -> str:
    """What a failure is, in words: ``wrong value``, ``wrong write to an input``, ``crash (SIGFPE)``."""
    if verdict.oracle in LOSSES:
        return f"{_LOST[verdict.oracle]} ({verdict.symptom})"
    if verdict.oracle == "mutation" and verdict.symptom == "wrong mutation":
        return "wrong write to an input"
    symptom, later, _ = verdict.symptom.partition(" on a later call")
    symptom = {"nondeterministic": "other values in each run"}.get(symptom, symptom)
    return f"{symptom}{' of a gradient' if verdict.oracle == 'gradient' and 'gradient' not in symptom else ''}{later}"


def spoken(case: Case) -> str:
    """What a case is made of, in words: ``zeros and add of float32``, ``a network of 14 operators``."""
    calls = list(walk(case.program.calls))
    if len(calls) > NAMED:
        return f"a network of {len(calls)} operators"
    names = list(dict.fromkeys(_name(call.operator) for call in calls)) or ["no operator"]
    made = [result for call in calls for result in call.results if result is not None]
    dtypes = list(dict.fromkeys(one.dtype for one in [given.type for given in case.program.inputs] or made))
    return _listed(names) + (f" of {_listed(dtypes)}" if dtypes else "")


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _name(operator: str) -> str:
    """An operator as people say it; special methods have no underscores but that of the in-place form."""
    known = identify(operator)
    if not (known.name.startswith("__") and known.name.endswith("__")):
        return known.name
    if known.base in ("__getitem__", "__setitem__"):
        return "indexing" if known.base == "__getitem__" else "assignment to an index"
    return known.base.strip("_") + ("_" if known.in_place else "")


def _where(target: str, stage: str) -> str:
    return f"{target} ({stage})" if stage not in ("", target) else target


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

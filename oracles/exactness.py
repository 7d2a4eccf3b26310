"""Programs whose results are exact in floating point, so that the verdict is equality of numbers, without tolerance.

Whole numbers, added and multiplied, stay whole numbers. As long as every sum of magnitudes along the way keeps below
the least whole number that a format cannot hold (2**24 in float32), each partial sum is exact in whatever order it is
taken, with whatever terms are fused, and every right implementation gives the same numbers. Whether a program keeps to
that is proven for each case, on its own inputs: its values are computed in double precision next to a majorant of
theirs, in which each input is its magnitude and each difference a sum; and the reference must show just these values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from shakeout.corpus.case import Case
from shakeout.corpus.edit import live
from shakeout.corpus.observation import PARTS
from shakeout.corpus.program import Arg, Call, TensorType
from shakeout.corpus.vocabularies import Vocabulary, vocabulary
from shakeout.corpus.vocabularies.operator import identify
from shakeout.oracles.verdict import REFERENCE, Answers, Question

if TYPE_CHECKING:
    import torch

__all__ = ["EXACT", "LIMITS", "candidate", "chained", "elementary", "majorised", "proven"]

#: The observation that proves it: the program in double precision, or an error that says what is not proven.
EXACT = Question("exact")

#: The whole numbers up to here are in a format without a gap.
LIMITS = {"float64": 2.0**52, "float32": 2.0**24, "float16": 2.0**11, "bfloat16": 2.0**8}

#: Keyword arguments that are factors or terms.
_COEFFICIENTS = frozenset("alpha beta value other".split())


def elementary(case: Case) -> bool:
    """Whether all that a program rounds are sums, products, quotients and roots of its operands.

    Then replicas have every rounding error that a right implementation may have. An operator that is computed from
    series or tables (``erf``, ``lgamma``) rounds within, where nothing moves it.
    """
    if case.program.structured():
        return False
    words = vocabulary(case.program.vocabulary)
    known = map(words.traits, set(case.program.operators()))
    return all(traits.exactness or traits.rounded for traits in known)


def chained(case: Case, value: int) -> bool:
    """Whether what makes a value may keep more precision on the way than the reference: it has two steps at least.

    Between two operators, or within one that adds up or is made of several, numbers may stay in a wider format. Within
    one that rounds once there is nothing to keep: if it takes another decision than the reference (``x > 0.1`` in half
    precision, where the number is rounded, or not), it is another function.
    """
    program = case.program
    if program.structured():
        return True
    words = vocabulary(program.vocabulary)
    every, types = range(len(program.calls)), program.types()
    steps = 0
    for position in live(program, every, (value,)):
        call = program.calls[position]
        traits = words.traits(call.operator)
        if traits.exactness == "moves" and not words.written(call):
            steps += _casts(call, types)
            continue
        plain = (traits.once or traits.exactness or traits.rounded or traits.compares) and not traits.addition
        # To some decimals a number is rounded between a product and a quotient.
        scaled = words.family(call.operator) == "round" and len(call.args) + len(call.kwargs) > 1
        steps += 1 if plain and not scaled else 2
    return steps > 1


def _casts(call: Call, types: Sequence[TensorType | None]) -> bool:
    """Whether what only moves numbers rounds them to another format."""
    told = {type_.dtype for type_ in (*call.results, *(types[n] for n in call.operands())) if type_ is not None}
    return len([dtype for dtype in told if dtype.startswith(("float", "bfloat", "complex"))]) > 1


def majorised(call: Call, words: Vocabulary) -> Call:
    """The call whose result on magnitudes bounds every partial sum of this one.

    A number among the arguments of an elementwise operator becomes its magnitude; what else an argument means, a
    dimension say, stays.
    """
    from dataclasses import replace

    traits = words.traits(call.operator)
    operator = identify(call.operator).named(traits.majorant) if traits.majorant else call.operator
    args, kwargs = call.args, call.kwargs
    if traits.scalars:
        args = tuple(_magnitude(arg) for arg in args)
    kwargs = tuple((key, _magnitude(arg) if key in _COEFFICIENTS else arg) for key, arg in kwargs)
    return replace(call, operator=operator, args=args, kwargs=kwargs)


def _magnitude(arg: Arg) -> Arg:
    return abs(arg) if isinstance(arg, int | float) and not isinstance(arg, bool) else arg


def candidate(case: Case) -> bool:
    """Whether a case looks exact: operators of the closure, whole numbers, and inputs that share nothing.

    Not one with regions: under autocast they compute in formats that no type tells.
    """
    if case.program.structured() or case.setting.cotangent == "fractional":
        return False
    words = vocabulary(case.program.vocabulary)
    kinds = {words.traits(operator).exactness for operator in case.program.operators()}
    if "" in kinds or (case.setting.mode == "training" and "choices" in kinds):
        return False
    for inputs in case.input_sets:
        if inputs.shared():
            return False
        for storage, dtype in ((inputs.storages[view.storage], view.dtype) for view in inputs.views):
            if storage.dtype != dtype or dtype.startswith(("complex", "float8")):
                return False
            if not dtype.startswith(("float", "bfloat")):
                continue
            values = storage.values
            literal = values.kind == "literal" and all(float(x).is_integer() for x in values.items)  # type: ignore[arg-type]
            if not (values.kind == "integers" or literal):
                return False
    return True


def proven(answers: Answers) -> bool:
    """Whether the proof came out, and the reference shows the very values of double precision."""
    exact, reference = answers.get(EXACT), answers[REFERENCE]
    if exact is None or exact.error is not None or len(exact.calls) != len(reference.calls) or not exact.calls:
        return False
    return all(
        len(want[part]) == len(got[part]) and all(map(_same, want[part], got[part]))
        for want, got in zip(reference.calls, exact.calls, strict=True)
        for part in PARTS
        if part != "random state"
    )


def _same(narrow: torch.Tensor | None, wide: torch.Tensor | None) -> bool:
    import torch

    if narrow is None or wide is None:
        return narrow is wide
    if narrow.shape != wide.shape:
        return False
    return bool(torch.equal(narrow.to(wide.dtype), wide))

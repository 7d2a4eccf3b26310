"""Calls that show what values hide: a sign behind a zero, the value at a place, a number below every tolerance.

Each is proposed behind a value on which it has something to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from shakeout.corpus.program import Arg, reference, references
from shakeout.corpus.vocabularies.torch_traits import family
from shakeout.generators.growth import Growth, Step
from shakeout.generators.numbers import python_number

__all__ = ["observe"]

#: What is below this lies within the absolute tolerance of most comparisons.
TINY = 1e-4

_REDUCTIONS = frozenset(
    "sum mean prod amax amin max min var std norm vector_norm logsumexp any all median nansum nanmean trace "
    "count_nonzero dot softmax log_softmax argmax argmin".split()
)

#: Calls, one after the other, each an operator and its arguments; ``_LAST`` stands for the result of the one before.
Calls: TypeAlias = "list[tuple[str, tuple[Arg, ...]]]"


def observe(growth: Growth, value: int) -> bool:
    """Look at a value, if it hides something.

    Args:
        growth: the program.
        value: number of the value.

    Returns:
        Whether calls were added.
    """
    made = growth.made[value]
    step = growth.steps[made] if made >= 0 else None
    return any(_kept(growth, found(growth, value, step)) for found in _LOOKS)


def _kept(growth: Growth, calls: Calls) -> bool:
    def run() -> None:
        for operator, args in calls:
            last = len(growth.tensors) - 1
            args = tuple([reference(last) if arg is _LAST else arg for arg in args])
            growth.run(operator, args, (), tuple(references(args)), ())

    return bool(calls) and all(growth.permits(operator) for operator, _ in calls) and growth.attempt(run)


_LAST = "the result before"


def _place(growth: Growth, value: int, step: Step | None) -> Calls:
    """What lies at places that were found: of equal elements any may be named, but it has to be one of them."""
    if step is None or not step.operands or growth.dtypes[value] != "int64":
        return []
    traits, source = growth.words.traits(step.operator), step.operands[0]
    if not traits.ties or source in growth.dead:
        return []
    looked, found = growth.shapes[source], growth.shapes[value]
    dimension = dict(step.kwargs).get("dim")
    if dimension is None and traits.dimension < len(step.args):
        dimension = step.args[traits.dimension]
    if type(dimension) is not int:
        if traits.whole:
            return [("torch.take", (reference(source), reference(value)))]
        dimension = len(looked) - 1
    if looked and len(looked) == len(found):
        return [("torch.gather", (reference(source), dimension, reference(value)))]
    if len(looked) == len(found) + 1:
        gather = ("torch.gather", (reference(source), dimension, _LAST))
        return [("torch.unsqueeze", (reference(value), dimension)), gather]
    return []


def _comparison(growth: Growth, value: int, step: Step | None) -> Calls:
    """A decision by what was added up, or found."""
    choices, dtype = growth.choices, growth.dtypes[value]
    if step is None or family(step.operator) not in _REDUCTIONS or dtype.startswith("complex"):
        return []
    name = choices.pick(("gt", "le", "eq", "ne", "ge", "lt", "isfinite", "isnan"))
    if name.startswith("is"):
        return [(f"torch.{name}", (reference(value),))]
    tensor = growth.tensors[value]
    # Whole numbers meet the threshold itself.
    met = growth.sampler.kind == "integers" and tensor.numel() == 1 and choices.boolean(0.5)
    threshold = tensor.item() if met else python_number(choices, growth.config.reach, dtype)
    return [(f"torch.{name}", (reference(value), threshold))]


def _sign(growth: Growth, value: int, step: Step | None) -> Calls:
    """Zeros have signs, of which only division, ``signbit`` and ``copysign`` tell."""
    tensor, choices = growth.tensors[value], growth.choices
    if not tensor.is_floating_point() or tensor.dtype.itemsize < 2 or not bool((tensor == 0).any()):
        return []
    kinds = ["signbit", "copysign", "signbit"]
    if growth.config.special:
        kinds += ["reciprocal", "reciprocal"]
    match choices.pick(kinds):
        case "copysign":
            others = [n for n in growth.usable() if growth.dtypes[n] == growth.dtypes[value]]
            magnitudes = [n for n in others if growth.shapes[n] == growth.shapes[value]]
            return [("torch.copysign", (reference(choices.pick(magnitudes)), reference(value)))]
        case name:
            return [(f"torch.{name}", (reference(value),))]


def _factor(growth: Growth, value: int, step: Step | None) -> Calls:
    """Tiny results, times what makes them ordinary: an error that every absolute tolerance lets pass stands out."""
    tensor = growth.tensors[value]
    if step is None or not tensor.is_floating_point() or tensor.dtype.itemsize < 4:
        return []
    sizes = tensor.detach().abs()
    small = sizes[(sizes > 0) & (sizes < TINY)]
    if not small.numel():
        return []
    digits = math.ceil(-math.log10(max(small.amax().item(), 1e-30)))
    return [("torch.mul", (reference(value), float(10**digits)))]


_LOOKS: tuple[Callable[[Growth, int, Step | None], Calls], ...] = (_place, _comparison, _sign, _factor)

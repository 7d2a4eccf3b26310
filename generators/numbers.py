"""Python numbers among the arguments of calls: which ones show something, and how far a case may go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from shakeout.corpus.program import Arg
from shakeout.generators.choices import Choices

__all__ = ["PLAIN", "Number", "Reach", "attribute", "python_number"]

Number: TypeAlias = bool | int | float

#: How far numbers go: those that keep whole numbers whole, those whose results are mostly ordinary, or all.
Reach: TypeAlias = Literal["plain", "ordinary", "any"]

PLAIN: tuple[Number, ...] = (1, 2, 0, -1, 0.5, 2.0, True)

#: No narrow dtype holds these: whoever rounds a number to the tensor's dtype before computing, and whoever does not,
#: differ.
_FRACTIONS = (0.1, 0.3, 1 / 3, 0.7, -0.1, 1.1, 2.3, -2.7, 1e-3, 100.1, 3.14159)

#: A factor or a power that a compiler may take for one, and that is not: some round to one in a narrow dtype.
_BESIDE_ONE = (1.0000001, 0.9999999, 1.001, 0.999, 1.01, 0.99, -1.001, 1 + 2**-9)

#: What is added to a number beside these is lost, or is all that is left.
_NEAR = (1e-4, 1e-6, 1e-8, 1e4, -1e4, 1e6, -1e-6)
_FAR = (1e-8, 1e8, 1e10, 1e12, 1e14, -1e14, 1e-30, 1e30)

_NOT_FINITE = (math.nan, math.inf, -math.inf)

#: Beside widths of integers, and divisors that no shift replaces.
_WHOLE = (3, -3, 7, 10, -7, 100, 127, 255, 256)
_LARGE = (2**15, 2**16 + 1, 2**24 + 1, 2**31 - 1, 2**31, -(2**31))

#: Of each reach the families of numbers, and how often each is drawn.
_FAMILIES: dict[Reach, tuple[tuple[Sequence[Number], float], ...]] = {
    "plain": ((PLAIN, 1.0),),
    "ordinary": ((PLAIN, 0.4), (_FRACTIONS, 0.22), (_BESIDE_ONE, 0.16), (_NEAR, 0.14), ((-0.0,), 0.08)),
    "any": (
        (PLAIN, 0.3), (_FRACTIONS, 0.16), (_BESIDE_ONE, 0.12), (_NEAR, 0.08), (_FAR, 0.12), ((-0.0,), 0.1),
        (_NOT_FINITE, 0.12),
    ),
}  # fmt: skip
_FAMILIES_OF_INTEGERS: dict[Reach, tuple[tuple[Sequence[Number], float], ...]] = {
    "plain": ((PLAIN, 1.0),),
    "ordinary": ((PLAIN, 0.4), (_WHOLE, 0.35), (_LARGE, 0.1), (_FRACTIONS, 0.15)),
    "any": ((PLAIN, 0.3), (_WHOLE, 0.3), (_LARGE, 0.2), (_FRACTIONS, 0.1), ((-0.0, *_NOT_FINITE), 0.1)),
}


def python_number(choices: Choices, reach: Reach, dtype: str = "float32") -> Number:
    """A number to compute with a tensor of a dtype."""
    whole = dtype.startswith(("int", "uint"))
    return choices.pick(choices.weighted((_FAMILIES_OF_INTEGERS if whole else _FAMILIES)[reach]))


def attribute(choices: Choices, seen: Sequence[Arg], reach: Reach) -> Arg:
    """One of the values that an attribute was seen with, or, of a fraction, now and then another number."""
    found = choices.pick(seen)
    return python_number(choices, reach) if isinstance(found, float) and choices.boolean(0.2) else found

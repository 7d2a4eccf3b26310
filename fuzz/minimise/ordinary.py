"""Which numbers a person expects in a small case: as elements of inputs, as factors, as dimensions, as counts.

A case whose inputs are zeros, or that multiplies by zero, looks as if it were about zeros. So of equally large cases
the one with ordinary numbers is the simpler one, and a zero that is left is one that matters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from shakeout.corpus.program import Arg, Call, Ref, TensorType
from shakeout.corpus.vocabularies import Vocabulary
from shakeout.generators.rules.parameter_names import names_dimension, parameters

__all__ = ["Role", "argument_cost", "as_element", "counted", "item_cost", "of_equals", "rank_of", "role", "simpler"]

#: What a whole or real number among the arguments of a call is. A ``factor`` is computed with; a ``dimension`` is one
#: of the first operand, ``last`` one where people mean the last; a ``count`` is all else: a size, a place, a padding.
Role = Literal["factor", "dimension", "last", "count"]

#: Parameters that are computed with, as torch's schemas and functions call them.
_FACTORS = frozenset(
    "alpha beta value other exponent fill_value min max weight scale negative_slope lambd threshold multiplier".split()
)

#: The first so many places of all inputs together count 1, 2, 3 ...; then it begins anew: every integer dtype holds
#: these numbers.
_COUNTED = 64

#: The same for formats of eight bits, of which the coarsest holds the whole numbers up to 8.
_COUNTED_IN_EIGHT_BITS = 8


def counted(place: int, dtype: str) -> int:
    """The ordinary number at a place, counted from 0 over all elements of one set of inputs: 1, 2, 3 and so on."""
    if dtype == "bool":
        return 1
    return place % (_COUNTED_IN_EIGHT_BITS if dtype.startswith("float8") else _COUNTED) + 1


def item_cost(item: Arg) -> float:
    """How far an element or a factor is from what a person would write: 1, 2, 3, -1 ..., then 0, then all others."""
    if isinstance(item, complex):
        return item_cost(item.real) + (0.7 + item_cost(item.imag) if item.imag else 0)
    if not isinstance(item, int | float):
        return 2
    if not math.isfinite(item):
        return 14 + (item != item) + (item < 0)
    if item == 0:
        return 10.5 if math.copysign(1, item) < 0 else 10
    if item != int(item):
        return 11 + min(len(repr(item)), 24) / 10
    digits = min(len(str(abs(int(item)))), 30) / 100
    if abs(item) >= 100:
        return 10.6 + digits  # is chosen for what it is, as a zero is
    # 1, 2, 3, -1, 4, 5, -2 ... and from ten on by the number of digits.
    return min(abs(item), 10 + digits) * 0.7 + (item < 0) * 1.8


def as_element(item: Any, dtype: str) -> Any:
    """A number as an element of a dtype."""
    if dtype.startswith("complex"):
        return complex(item)
    if isinstance(item, complex):
        item = item.real
    if dtype.startswith(("float", "bfloat")):
        return float(item)
    whole = int(item) if math.isfinite(item) else 0
    if dtype == "bool":
        return bool(whole)
    bits = int("".join(filter(str.isdigit, dtype)) or 8)
    low, high = (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return min(max(whole, low), high)


def _count_cost(item: Arg) -> float:
    """How far a size, a place or an amount is from being simple: 0, 1, 2, -1, and then all others."""
    if isinstance(item, complex):
        return _count_cost(item.real) + _count_cost(item.imag)
    if isinstance(item, bool):
        return int(item)
    if not isinstance(item, int | float) or not math.isfinite(item) or item != int(item):
        return item_cost(item)
    if item == 0:
        return 6 if math.copysign(1, item) < 0 else 0
    # 1, 2, -1, 3, -2 ... and from ten on by the number of digits.
    return min(abs(item), 10 + len(str(int(abs(item)))) / 100) * 0.9 + (item < 0) * 1.5


def _dimension_cost(item: int, rank: int | None) -> float:
    """How far a dimension is from the first one, or from the last of ``rank``; a negative one is so from -1.

    The two ways to count are not compared: what is written in the one stays in it.
    """
    away = -1 - item if item < 0 else item if rank is None else rank - 1 - item
    return min(abs(away), 10) * 0.9


def argument_cost(arg: Arg, role: Role, rank: int | None = None) -> float:
    """How far a number among the arguments of a call is from being simple; ``rank`` is the first operand's."""
    if role in ("dimension", "last") and isinstance(arg, int) and not isinstance(arg, bool):
        return _dimension_cost(arg, rank if role == "last" else None)
    return item_cost(arg) if role == "factor" and not isinstance(arg, bool) else _count_cost(arg)


def simpler(number: int | float, role: Role, rank: int | None = None) -> Iterator[int | float]:
    """Simpler numbers to try in place of one among the arguments, simplest first."""
    found: list[int | float] = []
    for step in _steps(number, role, rank):
        step = float(step) if isinstance(number, float) else step
        if argument_cost(step, role, rank) < argument_cost(number, role, rank) and step not in found:
            found.append(step)
            yield step


def _steps(number: int | float, role: Role, rank: int | None) -> list[int | float]:
    if role in ("dimension", "last") and isinstance(number, int):
        if number < 0:
            return [-1, number + 1]
        if role == "last" and rank is not None:
            return [rank - 1, number + 1] if number < rank else []
        return [0, 1, number // 2, number - 1]
    if role == "factor" and number == 0:
        return [1, 2, -1]
    steps: list[int | float] = [1, 2, 3, -1, 0] if role == "factor" else [0, 1, 2, -1]
    if math.isfinite(number):
        whole = int(number)
        steps += [whole, round(number, 1), abs(number), whole // 2, whole - 1 if whole > 0 else whole + 1]
    return steps


def role(call: Call, key: int | str, words: Vocabulary) -> Role:
    """What the argument of a call at a position, or under a name, is."""
    traits = words.traits(call.operator)
    if isinstance(key, str):
        name = key
    else:
        # Alone in its place, whatever takes all that is left counts as one: names of such lists are dimensions as well.
        integers = [isinstance(arg, int) and not isinstance(arg, bool) for arg in call.args]
        names, variadic = parameters(call.operator, len(call.args), [name for name, _ in call.kwargs], integers)
        place = min(key, len(names) - 1) if variadic else key
        name = names[place] if 0 <= place < len(names) else ""
    if names_dimension(name):
        return "last" if traits.last else "dimension"
    if traits.compares:
        return "count"  # people compare with zero first of all
    return "factor" if name in _FACTORS or (not name and traits.scalars) else "count"


def of_equals(call: Call, words: Vocabulary) -> bool:
    """Whether a call is a difference, or a quotient, of a value and itself."""
    first = [arg.index for arg in call.args[:2] if isinstance(arg, Ref)]
    traits = words.traits(call.operator)
    return len(first) == 2 and first[0] == first[1] and bool(traits.majorant or traits.division)


def rank_of(call: Call, types: Sequence[TensorType | None]) -> int | None:
    """The rank of a call's first operand, given the types of the values where it stands; None if it is not known."""
    type_ = next((types[number] for number in call.operands() if number < len(types)), None)
    return None if type_ is None else len(type_.shape)

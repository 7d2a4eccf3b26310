"""What is known of an operator beside how it is run: what it writes to, adds up, may not be asked, or leaves open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Addition", "Exactness", "Hazard", "Traits"]

#: Meanings that a case may not depend on; ``Traits.hazards`` says what each of them is.
Hazard = Literal["random", "uninitialised", "strides", "duplicates", "ties"]

#: How whole numbers stay whole: elements are moved, or multiplied and added, or chosen; empty where they do not.
Exactness = Literal["", "moves", "sums", "choices"]

#: What many terms are made of: products of operands, factors of one product, operands with coefficients of magnitude
#: one at most, or squares and products of differences; empty where nothing is added up.
Addition = Literal["", "products", "factors", "linear", "squares"]

#: Traits under which a call, or its results, have to be looked at while a program grows.
_LOUD = (
    "division",
    "shift",
    "ties",
    "random",
    "counts",
    "loops",
    "finite",
    "pivots",
    "apart",
    "sampled",
    "attends",
    "unwritten",
    "pairs",
    "unordered",
    "ambiguous",
)


@dataclass(frozen=True, slots=True)
class Traits:
    """The traits of one operator; by default nothing is known, which is right for an operator that nobody described.

    A vocabulary tells them (``vocabulary.traits(operator)``); nothing else has tables of operators' names.

    Attributes:
        hazards: meanings that a case may not depend on. ``random``: draws from a generator. ``uninitialised``: shows
            memory that nobody wrote. ``strides``: the values depend on how the operand lies in memory. ``duplicates``:
            two indices may write to one place and the order is not defined. ``ties``: equal keys may come in any order.
        in_place: whether it writes to its first argument.
        internal: whether it is one that programs are not written with.
        sized_by_values: the sizes of its results follow from the values of its operands, not from their sizes alone.
        sized: whole numbers among its arguments are sizes of its result.
        scatters: the places that it writes to are counted along a dimension that is among its arguments.
        compares: asks whether two numbers are equal, or which one is larger.
        reinterprets: given a dtype, it shows the same bytes as that.
        exactness: what becomes of whole numbers.
        rounded: rounds once, as IEEE 754 demands, though not to whole numbers.
        scalars: numbers among its positional arguments are factors or terms.
        majorant: of a difference the name of the sum that majorises it; empty for everything else.
        addition: what it adds up, or multiplies, many terms of.
        transforms: adds up whole numbers in floating point.
        waves: makes sums of terms of magnitude one, and rounds at that magnitude whatever is left.
        homogeneous: of degree one in its first operand, and the result is new memory.
        once: computes a function of each element in one step, in single precision at least, and rounds once.
        elementwise: computes each element from the same element of its only operand.
        division: has a quotient, which of the least whole number and -1 does not exist.
        shift: shifts by amounts that must be below the width.
        counts: makes as many elements as an operand's largest element says.
        pairs: makes all combinations of its operand's elements.
        loops: computes as many terms as an operand says.
        finite: its iterations may not end, or crash, on what is not a number.
        pivots: takes places of rows, counted from 1, that are not checked.
        eliminates: exchanges rows of a matrix, each time by which of what is left is largest, or inverts it: of what is
            singular but for rounding errors anything may be left.
        apart: compares all pairs of rows, and its backward pass crashes if there is none.
        sampled: takes places in an image, which it reflects until they are inside, or reads where it comes out.
        attends: takes queries, keys and values, whose numbers are not checked.
        unwritten: reads pivots that nobody wrote, unless it is told a driver that has none.
        elsewhere: writes over an operand without a name that says so, or reads other elements than the one it writes.
        alike: given a number, it writes that number wherever it writes.
        reshapes: changes the sizes of its operand itself, not only its elements.
        tamed: draws random numbers, and has attributes with which it does not.
        ascending: undefined on an operand that is not ascending.
        places: gives places of elements, and which of several equal ones is meant is not promised.
        unordered: has an option under which the order of its results is not defined.
        ambiguous: positions of results that are unique only up to a sign, a phase or an order.
        meaningless: no result is determined by the operands alone.
        dimension: where the dimension stands among the arguments of one that gives places.
        whole: without a dimension it looks at all elements.
        last: people ask it for the last dimension.
        random, ties: that hazard; of ``ties`` what gives places of elements has it as well.
        plain: operands have to lie in memory row by row.
        quiet: neither a call nor its results have to be looked at.
    """

    hazards: frozenset[Hazard] = frozenset()
    in_place: bool = False
    internal: bool = False
    sized_by_values: bool = False
    sized: bool = False
    scatters: bool = False
    compares: bool = False
    reinterprets: bool = False
    exactness: Exactness = ""
    rounded: bool = False
    scalars: bool = False
    majorant: str = ""
    addition: Addition = ""
    transforms: bool = False
    waves: bool = False
    homogeneous: bool = False
    once: bool = False
    elementwise: bool = False
    division: bool = False
    shift: bool = False
    counts: bool = False
    pairs: bool = False
    loops: bool = False
    finite: bool = False
    pivots: bool = False
    eliminates: bool = False
    apart: bool = False
    sampled: bool = False
    attends: bool = False
    unwritten: bool = False
    elsewhere: bool = False
    alike: bool = False
    reshapes: bool = False
    tamed: bool = False
    ascending: bool = False
    places: bool = False
    unordered: bool = False
    ambiguous: frozenset[int] = frozenset()
    meaningless: bool = False
    dimension: int = 1
    whole: bool = False
    last: bool = False
    # What the hot loop of growth asks, decided once.
    random: bool = field(init=False)
    ties: bool = field(init=False)
    plain: bool = field(init=False)
    quiet: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "random", "random" in self.hazards)
        object.__setattr__(self, "ties", "ties" in self.hazards or self.places)
        object.__setattr__(self, "plain", "strides" in self.hazards)
        object.__setattr__(self, "quiet", not any(getattr(self, name) for name in _LOUD))

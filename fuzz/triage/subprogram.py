"""Whether the smallest program of one bug occurs inside another program: operators, dataflow, dtypes and attributes.

Strict on purpose: what is not found only costs time, and what is found by mistake would hide a bug.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from shakeout.corpus.case import Case
from shakeout.corpus.program import Arg, Call, Name, Program, Ref, Region, Slice, TensorType
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.triage.bug_signature import dtype_class, layout_of, needed

__all__ = ["Dissected", "Match", "leading_to", "needs", "occurrences"]

#: For each call of the small program the call of the large one that stands for it.
Match = tuple[int, ...]

#: Occurrences that are looked at: a small program of common operators may occur in a large one in hundreds of ways.
MOST = 64


class Dissected:
    """A case with what is asked of it each time that it is compared with another one, found out once.

    Attributes:
        case: the case.
        families: how often it has an operator of each family, those in regions too.
    """

    def __init__(self, case: Case) -> None:
        words = vocabulary(case.program.vocabulary)
        self.case = case
        self.families = Counter(map(words.family, case.program.operators()))

    @functools.cached_property
    def calls(self) -> list[tuple[str, bool]]:
        """For each call the family of its operator, and whether it writes to an operand."""
        words = vocabulary(self.case.program.vocabulary)
        return [(words.family(call.operator), bool(words.written(call))) for call in self.case.program.calls]

    @functools.cached_property
    def depends(self) -> list[frozenset[int]]:
        """For each call, the calls that its operands are computed from, or were written to by, before it."""
        return _depends(self.case.program)

    @functools.cached_property
    def types(self) -> Sequence[TensorType | None]:
        """The type of each value."""
        return self.case.program.types()

    @functools.cached_property
    def needed(self) -> frozenset[str]:
        """What is special about its inputs."""
        return frozenset(needed(self.case))

    @functools.cached_property
    def layouts(self) -> frozenset[str]:
        """What is special about their layout."""
        return frozenset(filter(None, layout_of(self.case).split("+")))


def occurrences(small: Dissected, large: Dissected, within: Collection[int] | None = None) -> Iterator[Match]:
    """Where the small case's program occurs in the large one's, at most ``MOST`` times; nothing for an empty program.

    Args:
        small: whose program is looked for.
        large: where it is looked for.
        within: only there, by the numbers of calls; None for everywhere.

    An operator stands for one of its family that writes where that writes, with the same arguments: operands of the
    same classes of dtype, scalars of the same sign, the same words. Where the small program hands a result on, the
    large one does, perhaps through other operators.
    """
    a, b = small.case.program, large.case.program
    if not a.calls or a.vocabulary != b.vocabulary or a.around != b.around:
        return
    if not _setting_fits(small.case, large.case):
        return
    places = range(len(large.calls)) if within is None else sorted(within)
    yield from itertools.islice(_matched(small, large, places, ()), MOST)


def needs(small: Dissected, large: Dissected) -> bool:
    """Whether the large case is fed with what the small one could not do without: special values, extents, layouts."""
    there = large.needed
    for word in small.needed:
        kind, _, number = word.partition(" ")
        if kind == "extent":
            extents = [int(other.partition(" ")[2]) for other in there if other.startswith("extent ")]
            if not extents or max(extents) < int(number):
                return False
        elif word != "far from zero" and word not in there and "special values" not in there:
            return False
    return small.layouts <= large.layouts


def leading_to(large: Dissected, value: int) -> frozenset[int]:
    """The calls from which a value is computed: those of an occurrence that is to blame for it are all among them."""
    producer = large.case.program.producer(value)
    return frozenset() if producer is None else large.depends[producer] | {producer}


def _setting_fits(small: Case, large: Case) -> bool:
    a, b = small.setting, large.setting
    knobs = dict(b.knobs)
    return (
        (a.target, a.device) == (b.target, b.device)
        and all(knobs.get(name, _Absent) == value for name, value in a.knobs)
        and (a.mode == "inference" or b.mode == "training")
        and (len(small.input_sets) == 1 or len(large.input_sets) > 1)
    )


class _Absent:
    """A knob at its default."""


def _depends(program: Program) -> list[frozenset[int]]:
    """For each call, the calls that its operands are computed from, or were written to by, before it.

    A write makes a value depend on what was written; that it may reach other views of the same memory is left out.
    """
    start, words = len(program.inputs), vocabulary(program.vocabulary)
    producers = [position for position, call in enumerate(program.calls) for _ in call.results]
    writers: dict[int, set[int]] = {}
    found: list[frozenset[int]] = []
    for position, call in enumerate(program.calls):
        direct: set[int] = set()
        for number in call.operands():
            if number >= start:
                direct.add(producers[number - start])
            direct |= writers.get(number, set())
        found.append(frozenset(direct.union(*(found[one] for one in direct))))
        if words.written(call) and call.operands():
            writers.setdefault(call.operands()[0], set()).add(position)
    return found


def _matched(small: Dissected, large: Dissected, places: Sequence[int], chosen: Match) -> Iterator[Match]:
    position = len(chosen)
    if position == len(small.calls):
        yield chosen
        return
    for candidate in places:
        if candidate not in chosen and _fits(small, large, chosen, position, candidate):
            yield from _matched(small, large, places, (*chosen, candidate))


def _fits(small: Dissected, large: Dissected, chosen: Match, position: int, candidate: int) -> bool:
    if small.calls[position] != large.calls[candidate]:
        return False
    # Where the small program hands on a result, or writes to what is used later.
    if not all(chosen[earlier] in large.depends[candidate] for earlier in small.depends[position]):
        return False
    a, b = small.case.program.calls[position], large.case.program.calls[candidate]
    return _arguments_fit(small, large, a, b) and _regions_fit(a, b)


def _arguments_fit(small: Dissected, large: Dissected, a: Call, b: Call) -> bool:
    # One more attribute may ask for something else, as a rounding mode does.
    keywords = dict(b.kwargs)
    if len(a.args) != len(b.args) or {name for name, _ in a.kwargs} != set(keywords):
        return False
    pairs = [*zip(a.args, b.args, strict=True), *((value, keywords[name]) for name, value in a.kwargs)]
    return all(_argument_fits(small, large, x, y) for x, y in pairs)


def _regions_fit(a: Call, b: Call) -> bool:
    """Whether two calls have the same regions but for sizes: what is left of a region by the minimiser matters."""
    return len(a.regions) == len(b.regions) and all(map(_region_fits, a.regions, b.regions))


def _region_fits(a: Region, b: Region) -> bool:
    same = len(a.captures) == len(b.captures) and a.returns == b.returns and len(a.calls) == len(b.calls)
    same = same and [one.dtype for one in a.parameters] == [one.dtype for one in b.parameters]
    return same and all(
        (x.operator, x.args, x.kwargs, len(x.results)) == (y.operator, y.args, y.kwargs, len(y.results))
        and _regions_fit(x, y)
        for x, y in zip(a.calls, b.calls, strict=True)
    )


def _argument_fits(small: Dissected, large: Dissected, a: Arg, b: Arg) -> bool:
    match a:
        case Ref():
            if not isinstance(b, Ref):
                return False
            return _operand_fits(small.types[a.index], large.types[b.index])
        case bool() | str() | None | Name():
            return type(a) is type(b) and a == b
        case int() | float():
            # A scalar stands for a scalar. That it is negative, zero or no number is often the point.
            return isinstance(b, int | float) and not isinstance(b, bool) and _sort(a) == _sort(b)
        case tuple():
            return isinstance(b, tuple) and _all_fit(small, large, a, b)
        case Slice():
            if not isinstance(b, Slice):
                return False
            parts = ((a.start, b.start), (a.stop, b.stop), (a.step, b.step))
            return all(_argument_fits(small, large, x, y) for x, y in parts)
    return type(a) is type(b) and a == b


def _operand_fits(a: TensorType | None, b: TensorType | None) -> bool:
    """Whether two tensors are of one class of dtype, and both have elements or none."""
    if a is None or b is None:
        return False
    return dtype_class(a.dtype) == dtype_class(b.dtype) and (0 in a.shape) == (0 in b.shape)


def _all_fit(small: Dissected, large: Dissected, a: Sequence[Arg], b: Sequence[Arg]) -> bool:
    if all(isinstance(item, int) and not isinstance(item, bool) for item in (*a, *b)):
        return True  # sizes, dimensions, kernels: as many as the tensor has dimensions
    return len(a) <= len(b) and all(_argument_fits(small, large, x, y) for x, y in zip(a, b, strict=False))


def _sort(number: float) -> tuple[bool, bool, bool]:
    return (number < 0, number != number, number in (float("inf"), float("-inf")))

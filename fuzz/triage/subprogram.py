"""Whether the smallest program of one bug occurs inside another program: operators, dataflow, dtypes and attributes.

Strict on purpose: what is not found only costs time, and what is found by mistake would hide a bug.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from shakeout.corpus.case import Case
from shakeout.corpus.program import Arg, Call, Name, Program, Ref, Region, Slice, TensorType
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.triage.bug_signature import dtype_class, layout_of, needed

__all__ = ["Match", "needs", "occurrences", "reaches"]

#: For each call of the small program the call of the large one that stands for it.
Match = tuple[int, ...]

#: Occurrences that are looked at: a small program of common operators may occur in a large one in hundreds of ways.
MOST = 64


def occurrences(small: Case, large: Case) -> Iterator[Match]:
    """Where the small case's program occurs in the large one's, at most ``MOST`` times; nothing for an empty program.

    An operator stands for one of its family that writes where that writes, with the same arguments: operands of the
    same classes of dtype, scalars of the same sign, the same words. Where the small program hands a result on, the
    large one does, perhaps through other operators.
    """
    if not small.program.calls or small.program.vocabulary != large.program.vocabulary:
        return
    if small.program.around != large.program.around:
        return
    if not _setting_fits(small, large):
        return
    yield from itertools.islice(_matched(small.program, large.program, _depends(large.program), ()), MOST)


def needs(small: Case, large: Case) -> bool:
    """Whether the large case is fed with what the small one could not do without: special values, extents, layouts."""
    there = set(needed(large))
    for word in needed(small):
        kind, _, number = word.partition(" ")
        if kind == "extent":
            extents = [int(other.partition(" ")[2]) for other in there if other.startswith("extent ")]
            if not extents or max(extents) < int(number):
                return False
        elif word != "far from zero" and word not in there and "special values" not in there:
            return False
    layouts = [set(filter(None, layout_of(case).split("+"))) for case in (small, large)]
    return layouts[0] <= layouts[1]


def reaches(program: Program, match: Match, value: int) -> bool:
    """Whether a value is computed from every result of a match that nothing else of it uses."""
    depends = _depends(program)
    producer = program.producer(value)
    if producer is None:
        return False
    last = [one for one in match if not any(one in depends[other] for other in match if other != one)]
    return all(one == producer or one in depends[producer] for one in last)


def _setting_fits(small: Case, large: Case) -> bool:
    a, b = small.setting, large.setting
    knobs = dict(b.knobs)
    return (
        (a.target, a.device) == (b.target, b.device)
        and all(knobs.get(name, _Absent) == value for name, value in a.knobs)
        and (a.mode == "inference" or b.mode == "training")
        and (len(small.calls) == 1 or len(large.calls) > 1)
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


def _matched(small: Program, large: Program, depends: list[frozenset[int]], chosen: Match) -> Iterator[Match]:
    if len(chosen) == len(small.calls):
        yield chosen
        return
    position = len(chosen)
    for candidate in range(len(large.calls)):
        if candidate not in chosen and _fits(small, large, depends, chosen, position, candidate):
            yield from _matched(small, large, depends, (*chosen, candidate))


def _fits(
    small: Program, large: Program, depends: list[frozenset[int]], chosen: Match, position: int, candidate: int
) -> bool:
    a, b = small.calls[position], large.calls[candidate]
    words = vocabulary(small.vocabulary)  # which is that of both
    if words.family(a.operator) != words.family(b.operator) or bool(words.written(a)) != bool(words.written(b)):
        return False
    if not _arguments_fit(small, large, a, b) or not _regions_fit(a, b):
        return False
    # Where the small program hands on a result, or writes to what is used later.
    return all(chosen[earlier] in depends[candidate] for earlier in _depends(small)[position])


def _arguments_fit(small: Program, large: Program, a: Call, b: Call) -> bool:
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


def _argument_fits(small: Program, large: Program, a: Arg, b: Arg) -> bool:
    match a:
        case Ref():
            if not isinstance(b, Ref):
                return False
            return _operand_fits(small.types()[a.index], large.types()[b.index])
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


def _all_fit(small: Program, large: Program, a: Sequence[Arg], b: Sequence[Arg]) -> bool:
    if all(isinstance(item, int) and not isinstance(item, bool) for item in (*a, *b)):
        return True  # sizes, dimensions, kernels: as many as the tensor has dimensions
    return len(a) <= len(b) and all(_argument_fits(small, large, x, y) for x, y in zip(a, b, strict=False))


def _sort(number: float) -> tuple[bool, bool, bool]:
    return (number < 0, number != number, number in (float("inf"), float("-inf")))

"""Neighbours of a recorded call: the same structure with other sizes, attributes and dtypes.

Which of them an operator takes, and which it rejects, tells a precondition from an accident of the samples. The kinds
of neighbours are those of NeuRI (Liu et al., ESEC/FSE 2023), with zero-size dimensions, attributes at the bounds that
sizes set, sizes that change together, and dtypes added.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from shakeout.corpus.program import Arg, Slice, TensorType
from shakeout.generators.rules.trace import Path, Trace, attributes, variant_of

__all__ = ["DTYPES", "Place", "changed", "integers", "neighbours", "resized", "retyped"]

#: A dimension (operand, axis) or an attribute (its path).
Place: TypeAlias = "tuple[str, Any]"

#: Elements of one operand of a neighbour: what is larger says nothing else.
MAX_ELEMENTS = 1 << 12
#: Of any attribute, up or down: beyond, results become large.
MAX_ATTRIBUTE = 64
#: Places up to which every subset is tried; of more, as many are drawn.
SUBSETS = 6

#: At which operators are tried: one of each kind that torch treats alike, and those that are often left out.
DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "int64", "int32", "int16", "int8", "uint8", "bool"),
)

_ATTRIBUTES = (0, -2, 1, -1, 2, 3)


def integers(trace: Trace) -> dict[Place, int]:
    """Every dimension and integer attribute of a call, with its value."""
    found: dict[Place, int] = {
        ("size", (number, axis)): size
        for number, operand in enumerate(trace.operands)
        for axis, size in enumerate(operand.shape)
    }
    for _, path, kind in attributes(variant_of(trace)):
        if kind == "int":
            found["attribute", path] = _at(trace, path)
    return found


def _at(trace: Trace, path: Path) -> Any:
    first, *rest = path
    arg: Any = trace.args[first] if isinstance(first, int) else dict(trace.kwargs)[first]
    for position in rest:
        arg = (arg.start, arg.stop, arg.step)[position] if isinstance(arg, Slice) else arg[position]  # type: ignore[index]
    return arg


def changed(trace: Trace, values: Mapping[Place, int]) -> Trace | None:
    """The call with other integers; None if one is too large or a size is negative."""
    shapes = [list(operand.shape) for operand in trace.operands]
    args, kwargs = list(trace.args), dict(trace.kwargs)
    for (kind, where), value in values.items():
        if kind == "size":
            if value < 0:
                return None
            shapes[where[0]][where[1]] = value
        elif abs(value) > MAX_ATTRIBUTE:
            return None
        elif isinstance(where[0], int):
            args[where[0]] = _put(args[where[0]], where[1:], value)
        else:
            kwargs[where[0]] = _put(kwargs[where[0]], where[1:], value)
    for shape in shapes:
        count = 1
        for size in shape:
            count *= max(size, 1)
        if count > MAX_ELEMENTS:
            return None
    operands = tuple(TensorType(old.dtype, tuple(shape)) for old, shape in zip(trace.operands, shapes, strict=True))
    return _bare(replace(trace, args=tuple(args), kwargs=tuple(sorted(kwargs.items())), operands=operands))


def _put(arg: Arg, rest: Path, value: int) -> Arg:
    if not rest:
        return value
    position = rest[0]
    assert isinstance(position, int)
    if isinstance(arg, Slice):
        parts = [arg.start, arg.stop, arg.step]
        parts[position] = _put(parts[position], rest[1:], value)
        return Slice(*parts)
    assert isinstance(arg, tuple)
    return (*arg[:position], _put(arg[position], rest[1:], value), *arg[position + 1 :])


def _bare(trace: Trace) -> Trace:
    """Without what an execution showed."""
    return replace(trace, results=(), form="tensor", error="", source="augmented")


def neighbours(trace: Trace, limit: int) -> list[Trace]:
    """Up to so many neighbours of a call that was accepted, of every kind some, none twice."""
    kinds = [
        _attributes(trace),
        _together(trace),
        _single(trace),
        _boundaries(trace),
        _pairs(trace),
        _subsets(trace),
    ]
    return _distinct(_in_turn(kinds), {_key(trace)}, limit)


def retyped(trace: Trace, dtypes: Sequence[str] = DTYPES) -> list[Trace]:
    """The call at other dtypes: all operands of the first one's dtype together, then each of those alone."""
    if not trace.operands:
        return []
    main = trace.operands[0].dtype
    alike = [number for number, operand in enumerate(trace.operands) if operand.dtype == main]
    groups = [alike, *([number] for number in alike if len(alike) > 1)]
    found = []
    for group in groups:
        for dtype in dtypes if group is alike else ("float64", "float16", "int64", "bool", "complex64"):
            if dtype != main:
                operands = tuple(
                    replace(operand, dtype=dtype) if number in group else operand
                    for number, operand in enumerate(trace.operands)
                )
                found.append(_bare(replace(trace, operands=operands)))
    return found


def resized(trace: Trace, classes: Sequence[Sequence[Place]], limit: int) -> list[Trace]:
    """The call with other sizes, where it is known which of them must agree.

    Args:
        trace: a call that was accepted.
        classes: the dimensions that change together.
        limit: calls at most.
    """
    choose = random.Random(zlib.crc32(repr(_key(trace)).encode()))
    sizes = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12)

    def drawn() -> Iterator[dict[Place, int]]:
        for attempt in range(3 * limit):
            few = sizes if attempt % 3 else sizes[:5]
            picked = [choose.choice(few) if choose.random() < 0.7 else None for _ in classes]
            yield {
                place: size
                for size, places in zip(picked, classes, strict=True)
                if size is not None
                for place in places
            }

    return _distinct((changed(trace, values) for values in drawn() if values), {_key(trace)}, limit)


def _key(trace: Trace) -> tuple[object, ...]:
    # The repr tells 1 from True and 0.0 from -0.0.
    return repr((trace.args, trace.kwargs)), trace.operands


def _distinct(found: Iterable[Trace | None], known: set[tuple[object, ...]], limit: int) -> list[Trace]:
    kept: list[Trace] = []
    for trace in found:
        if trace is None or (key := _key(trace)) in known:
            continue
        known.add(key)
        kept.append(trace)
        if len(kept) == limit:
            break
    return kept


def _in_turn(kinds: Sequence[Iterator[Trace | None]]) -> Iterator[Trace | None]:
    """One of each in turn, so that a limit cuts repetitions and not kinds."""
    pending = list(kinds)
    while pending:
        for kind in list(pending):
            try:
                yield next(kind)
            except StopIteration:
                pending.remove(kind)


@dataclass(frozen=True, slots=True)
class _Parts:
    sizes: dict[Place, int]
    attributes: dict[Place, int]


def _parts(trace: Trace) -> _Parts:
    found = integers(trace)
    return _Parts(
        {place: value for place, value in found.items() if place[0] == "size"},
        {place: value for place, value in found.items() if place[0] == "attribute"},
    )


def _tied(sizes: Mapping[Place, int]) -> list[list[Place]]:
    """Dimensions of one size: often they are one dimension."""
    groups: dict[int, list[Place]] = {}
    for place, size in sizes.items():
        groups.setdefault(size, []).append(place)
    return list(groups.values())


def _attributes(trace: Trace) -> Iterator[Trace | None]:
    for place, old in _parts(trace).attributes.items():
        for value in (*_ATTRIBUTES, old + 1, old - 1, -old, old * 2, old + 2):
            yield changed(trace, {place: value})


def _single(trace: Trace) -> Iterator[Trace | None]:
    for delta in (1, 0, 2, -1, 3):
        for place, size in _parts(trace).sizes.items():
            yield changed(trace, {place: size + delta if delta else 0})
    for place in _parts(trace).sizes:
        yield changed(trace, {place: 1})


def _together(trace: Trace) -> Iterator[Trace | None]:
    """Dimensions of one size change together; and all dimensions at once."""
    sizes = _parts(trace).sizes
    groups = _tied(sizes)
    for delta in (1, 2, 3, -1):
        for group in groups:
            yield changed(trace, {place: sizes[place] + delta for place in group})
    for value in (0, 1, 2):
        for group in groups:
            yield changed(trace, dict.fromkeys(group, value))
    for factor, delta in ((1, 1), (2, 0), (1, 2), (3, 0), (1, 3)):
        yield changed(trace, {place: factor * size + delta for place, size in sizes.items()})


def _boundaries(trace: Trace) -> Iterator[Trace | None]:
    """Attributes at the bounds that sizes, ranks and other attributes set."""
    parts = _parts(trace)
    ranks = {len(operand.shape) for operand in trace.operands}
    bounds = sorted({*parts.sizes.values(), *ranks})[:6]
    for place, old in parts.attributes.items():
        for bound in bounds:
            for value in (bound - 1, bound, bound + 1, -bound, -bound - 1):
                if value != old:
                    yield changed(trace, {place: value})


def _pairs(trace: Trace) -> Iterator[Trace | None]:
    """Two integers swap their values, or are moved together."""
    found = integers(trace)
    for (one, first), (other, second) in itertools.combinations(found.items(), 2):
        if first != second:
            yield changed(trace, {one: second, other: first})
        yield changed(trace, {one: first + 1, other: second + 1})
        yield changed(trace, {one: first + 2, other: second + 2})


def _subsets(trace: Trace) -> Iterator[Trace | None]:
    found = integers(trace)
    places = list(found)
    choose = random.Random(zlib.crc32(repr(_key(trace)).encode()))
    every = [group for n in range(3, len(places) + 1) for group in itertools.combinations(places, n)][: 1 << SUBSETS]
    if len(places) > SUBSETS:
        every = [tuple(place for place in places if choose.random() < 0.5) for _ in range(1 << SUBSETS)]
    for group in every:
        for delta in (2, 1, 3):
            yield changed(trace, {place: found[place] + delta for place in group})

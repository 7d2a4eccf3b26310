"""Passes over the numbers that inputs hold: ordinary ones in place of what was drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from shakeout.corpus.case import Case, InputSet, Storage, Values
from shakeout.fuzz.minimise.edit import as_literal, chunks
from shakeout.fuzz.minimise.order import COUNTS, element_cost
from shakeout.fuzz.minimise.ordinary import as_element, counted, item_cost
from shakeout.fuzz.minimise.tensors import ELEMENTWISE

__all__ = ["numbers", "values"]

#: Where up to so many elements are zero each is asked whether it has to be one, where there are more, eighths of them.
#: So a tensor of zeros that have to be zeros costs some tens of tries at most, and a reader of few zeros knows.
ZEROS = 8


def values(case: Case) -> Iterator[Case]:
    """Ordinary numbers in place of all that the inputs hold, then of what one of them holds: 1, 2, 3; ones; zeros."""
    all_of = [(s, n) for s, inputs in enumerate(case.input_sets) for n in range(len(inputs.storages))]
    if len(all_of) > 1:
        for fill in _FILLS:
            made = case
            for s, n in all_of:
                made = _refilled(made, s, n, fill(made.input_sets[s].storages[n], _first(made.input_sets[s], n)))
            yield made
    for s, n in all_of:
        storage, first = case.input_sets[s].storages[n], _first(case.input_sets[s], n)
        for fill in _FILLS:
            yield _refilled(case, s, n, fill(storage, first))
        for drawn in _drawn(storage):
            yield _refilled(case, s, n, drawn)


def numbers(case: Case) -> Iterator[Case]:
    """Single elements made simpler: halves of a tensor, quarters, then one by one."""
    for s, inputs in enumerate(case.input_sets):
        for n, storage in enumerate(inputs.storages):
            if storage.size <= ELEMENTWISE:
                for items in _simpler_items(as_literal(storage), _first(inputs, n)):
                    literal = Values("literal", items=items)
                    yield _refilled(case, s, n, Storage(storage.dtype, storage.size, literal))


def _first(inputs: InputSet, number: int) -> int:
    """The place of a storage's first element among all of a set of inputs."""
    return sum(storage.size for storage in inputs.storages[:number])


def _simpler_items(storage: Storage, first: int) -> Iterator[tuple[Any, ...]]:
    """The elements of a storage, which are written out, with simpler ones among them."""
    items, dtype = storage.values.items, storage.dtype
    for rounding in (_away_from_zero, round):
        yield tuple(as_element(rounding(i) if isinstance(i, float) and math.isfinite(i) else i, dtype) for i in items)
    yield items
    few = sum(item == 0 for item in items) <= ZEROS
    for chunk in chunks(len(items)):
        zeros = few or len(chunk) * ZEROS >= len(items)
        changed = [place for place in chunk if item_cost(items[place]) > item_cost(1) and (zeros or items[place] != 0)]
        if not changed:
            continue
        steps = _ladder(items[changed[0]]) if len(chunk) == 1 else (1, 0)
        for step in (None, *steps):
            new = list(items)
            for place in changed:
                number = as_element(counted(first + place, dtype) if step is None else step, dtype)
                at = first + place, dtype
                if element_cost(number, *at) < element_cost(items[place], *at):
                    new[place] = number
            yield tuple(new)


def _away_from_zero(item: float) -> float:
    """The next whole number of at least this magnitude: a fraction does not become zero."""
    return math.copysign(math.ceil(abs(item)), item)


def _ladder(item: Any) -> list[Any]:
    """Simpler numbers to try in place of one."""
    if isinstance(item, complex):
        return [1, 0, complex(round(item.real), 0), item.real] if math.isfinite(abs(item)) else [1, 0]
    if isinstance(item, bool):
        return [True]
    if not math.isfinite(item):
        return [1, 2, 0, abs(item)]
    if item == 0:
        return [1, -1, 0]  # of a sign that matters, a zero without one
    near = [_away_from_zero(item), round(item), math.trunc(item), round(item, 1), abs(item)]
    if isinstance(item, int) or item == int(item):
        near += [int(item) // 2, int(item) - (item > 0) + (item < 0)]
    found: list[Any] = []
    for number in (1, 2, 3, -1, 0, *near):
        if item_cost(number) < item_cost(item) and number not in found:
            found.append(number)
    return found


def _drawn(storage: Storage) -> Iterator[Storage]:
    """A storage that is too large to be written out, with numbers from a small range."""
    if storage.size > ELEMENTWISE:
        for values in (Values("integers", 0, 0, 1), Values("integers", 0, -2, 2), Values("uniform", 0, -2, 2)):
            if not (values.kind == "uniform" and not storage.dtype.startswith(("float", "bfloat", "complex"))):
                yield Storage(storage.dtype, storage.size, values)


def _counting(storage: Storage, first: int) -> Storage:
    if storage.size > ELEMENTWISE:
        low, high = (1, 1) if storage.dtype == "bool" else COUNTS
        return Storage(storage.dtype, storage.size, Values("integers", 0, low, high))
    dtype = storage.dtype
    items = tuple(as_element(counted(first + place, dtype), dtype) for place in range(storage.size))
    return Storage(dtype, storage.size, Values("literal", items=items))


def _constant(storage: Storage, number: int) -> Storage:
    if storage.size <= ELEMENTWISE:
        items = (as_element(number, storage.dtype),) * storage.size
        return Storage(storage.dtype, storage.size, Values("literal", items=items))
    return Storage(storage.dtype, storage.size, Values("integers", 0, number, number))


#: All elements of a storage in one ordinary way, given the place of its first one; the most ordinary way first.
_FILLS: tuple[Callable[[Storage, int], Storage], ...] = (
    _counting,
    lambda storage, first: _constant(storage, 1),
    lambda storage, first: _constant(storage, 0),
)


def _refilled(case: Case, number: int, place: int, storage: Storage) -> Case:
    """The case with one storage of one input set replaced."""
    inputs = case.input_sets[number]
    storages = (*inputs.storages[:place], storage, *inputs.storages[place + 1 :])
    return replace(
        case, input_sets=(*case.input_sets[:number], replace(inputs, storages=storages), *case.input_sets[number + 1 :])
    )

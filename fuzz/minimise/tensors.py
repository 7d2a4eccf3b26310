"""Passes over the inputs: smaller shapes, fewer dimensions, simpler dtypes and layouts."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from shakeout.corpus import blobs
from shakeout.corpus.case import Case, InputSet, Storage, Values, View, contiguous
from shakeout.corpus.edit import with_inputs
from shakeout.corpus.program import Arg, Call, Name, everywhere
from shakeout.corpus.storage import ladder_of
from shakeout.corpus.vocabularies import vocabulary
from shakeout.fuzz.minimise.edit import compacted, dense, items_of, own_storage, shaped
from shakeout.fuzz.minimise.order import simpler_dtypes
from shakeout.fuzz.minimise.ordinary import as_element, item_cost
from shakeout.generators.sizes import scaled

if TYPE_CHECKING:
    import torch

__all__ = ["ELEMENTWISE", "capped", "dtypes", "ladder", "layouts", "ranks", "resized"]

#: A storage is looked at element by element up to this size; a larger one as a whole.
ELEMENTWISE = 64


def ladder(number: int, least: int = 1) -> list[int]:
    """Smaller whole numbers to try in place of one, smallest first.

    Small ones first, because most failures need no more; then a half, for thresholds; then one and two less, for the
    last steps and for what depends on a number being odd.
    """
    steps = (least, least + 1, least + 2, least + 3, number // 2, number - number // 4, number - 2, number - 1)
    return sorted({step for step in steps if least <= step < number})


# --- shapes -----------------------------------------------------------------------------------------------------------


def capped(case: Case) -> Iterator[Case]:
    """Every size of every input cut to some small number at once."""
    largest = max((extent for inputs in case.input_sets for view in inputs.views for extent in view.shape), default=0)
    for cap in (1, 2, 3, 4, 8):
        if cap < largest:
            yield from _resized(case, lambda s, i, d, extent: min(extent, cap), {})  # noqa: B023
            sizes = sorted({e for view in case.input_sets[0].views for e in view.shape if e > cap}, reverse=True)
            yield from _resized(case, lambda s, i, d, extent: min(extent, cap), dict.fromkeys(sizes, cap))  # noqa: B023


def resized(case: Case) -> Iterator[Case]:
    """One size made smaller wherever it occurs, then in one dimension of one input only."""
    for number in range(len(case.input_sets)):
        sizes = sorted({extent for view in case.input_sets[number].views for extent in view.shape if extent > 1})
        for old in reversed(sizes):
            places = _places(case, number, old)
            for new in ladder(old):
                yield from _resized(case, _at(places, number, old, new), {})
                if number == 0:
                    yield from _resized(case, _at(places, number, old, new), {old: new})
        for old in reversed(sizes):
            places = _places(case, number, old)
            for place in sorted(places) if len(places) > 1 else ():
                for new in ladder(old):
                    yield from _resized(case, _at({place}, number, old, new), {})


def _places(case: Case, number: int, old: int) -> set[tuple[int, int]]:
    """Inputs and dimensions that have a size in one input set."""
    views = case.input_sets[number].views
    return {(i, d) for i, view in enumerate(views) for d, extent in enumerate(view.shape) if extent == old}


def _at(places: set[tuple[int, int]], number: int, old: int, new: int) -> Callable[[int, int, int, int], int]:
    """A change of those places; in other input sets only where they have the same size."""

    def change(s: int, i: int, d: int, extent: int) -> int:
        return new if (i, d) in places and extent == old else extent

    return change


def _resized(case: Case, change: Callable[[int, int, int, int], int], sizes: Mapping[int, int]) -> Iterator[Case]:
    """The case with other sizes of its inputs, and of what its calls name where ``sizes`` says so.

    The first elements are left. Where that takes away an input's least simple one, as a NaN that may be what matters,
    the same with the last elements follows.

    Args:
        case: the case.
        change: from input set, input, dimension and size to the new size.
        sizes: old to new; whole numbers among the arguments that follow.
    """
    words = vocabulary(case.program.vocabulary)
    calls = (
        tuple(everywhere(call, lambda one: scaled(one, sizes, words)) for call in case.program.calls)
        if sizes
        else case.program.calls
    )
    if sizes and calls == case.program.calls:
        return
    shapes = [
        {
            i: shape
            for i, view in enumerate(inputs.views)
            if (shape := tuple(change(s, i, d, extent) for d, extent in enumerate(view.shape))) != view.shape
        }
        for s, inputs in enumerate(case.input_sets)
    ]
    for last in (False, True):
        sets = [shaped(inputs, cut, last=last) for inputs, cut in zip(case.input_sets, shapes, strict=True)]
        made = compacted(with_inputs(case, sets))
        if made.input_sets == case.input_sets:
            return
        yield replace(made, program=replace(made.program, calls=calls))
        if all(map(operator.le, _least_simple(case), _least_simple(made))):
            return


def _least_simple(case: Case) -> list[float]:
    """How far the least simple element of each input is from being simple; 0 of a large one."""
    storages = [inputs.storages[view.storage] for inputs in case.input_sets for view in inputs.views]
    return [
        max(map(item_cost, items_of(storage)), default=0.0) if storage.size <= ELEMENTWISE else 0.0
        for storage in storages
    ]


# --- dimensions -------------------------------------------------------------------------------------------------------


def ranks(case: Case) -> Iterator[Case]:
    """Inputs without one of their dimensions of size 1: all that have it, then one of them."""
    views = case.input_sets[0].views
    most = max((len(view.shape) for view in views), default=0)
    for dimension in range(most):
        having = [i for i in range(len(views)) if _single(case, i, dimension)]
        full = [i for i in having if len(views[i].shape) == most]
        for chosen in {tuple(having), tuple(full)}:
            if chosen:
                made = _squeezed(case, dict.fromkeys(chosen, dimension))
                yield made
                calls = tuple(
                    everywhere(call, functools.partial(_lowered, dimension=dimension, rank=most))
                    for call in case.program.calls
                )
                if calls != case.program.calls:
                    yield replace(made, program=replace(made.program, calls=calls))
    for i, view in enumerate(views):
        for dimension in range(len(view.shape)):
            if _single(case, i, dimension):
                yield _squeezed(case, {i: dimension})


def _single(case: Case, number: int, dimension: int) -> bool:
    shapes = [inputs.views[number].shape for inputs in case.input_sets]
    return all(dimension < len(shape) and shape[dimension] == 1 for shape in shapes)


def _squeezed(case: Case, dimensions: Mapping[int, int]) -> Case:
    sets = []
    for inputs in case.input_sets:
        views = list(inputs.views)
        for number, d in dimensions.items():
            view = views[number]
            shape, strides = view.shape[:d] + view.shape[d + 1 :], view.strides[:d] + view.strides[d + 1 :]
            views[number] = replace(view, shape=shape, strides=strides)
        sets.append(replace(inputs, views=tuple(views)))
    return with_inputs(case, sets)


def _lowered(call: Call, dimension: int, rank: int) -> Call:
    """The call with dimensions among its arguments counted without one of them, from the same end as before."""

    def number(arg: int) -> int:
        if arg < 0:
            return arg + 1 if -rank <= arg < dimension - rank else arg
        return arg - 1 if arg > dimension else arg

    def other(arg: int) -> bool:
        return arg not in (dimension, dimension - rank)

    def lower(arg: Arg, inside: bool = False) -> Arg:
        match arg:
            case bool():
                return arg
            case int():
                return arg if inside else number(arg)
            case tuple() if sorted(map(repr, arg)) == sorted(map(repr, range(rank))):
                return tuple(number(item) for item in arg if isinstance(item, int) and other(item))
            case tuple() if len(arg) == rank and arg[dimension] in (1, -1):
                return arg[:dimension] + arg[dimension + 1 :]
            case tuple() if arg and all(isinstance(item, int) and not isinstance(item, bool) for item in arg):
                return tuple(number(item) for item in arg if isinstance(item, int) and other(item))
        return arg

    return replace(
        call,
        args=tuple(lower(arg) for arg in call.args),
        kwargs=tuple((key, lower(value)) for key, value in call.kwargs),
    )


# --- dtypes -----------------------------------------------------------------------------------------------------------


def dtypes(case: Case) -> Iterator[Case]:
    """A simpler dtype: for all inputs of any other one, for all of one dtype, then for one input."""
    views = case.input_sets[0].views
    present = sorted({view.dtype for view in views}, key=lambda dtype: -len(simpler_dtypes(dtype)))
    if len(present) > 1:
        for new in simpler_dtypes(present[0])[:2]:
            yield from _converted(case, lambda i, dtype: new if new in simpler_dtypes(dtype) else dtype, None)  # noqa: B023
    for old in present:
        for new in simpler_dtypes(old):
            yield from _converted(case, lambda i, dtype: new if dtype == old else dtype, None)  # noqa: B023
            yield from _converted(case, lambda i, dtype: new if dtype == old else dtype, (old, new))  # noqa: B023
    for number, view in enumerate(views):
        if sum(other.dtype == view.dtype for other in views) > 1:
            for new in simpler_dtypes(view.dtype):
                yield from _converted(case, lambda i, dtype: new if i == number else dtype, None)  # noqa: B023


def _converted(case: Case, change: Callable[[int, str], str], names: tuple[str, str] | None) -> Iterator[Case]:
    """The case with other dtypes of its inputs, and with one named by its calls replaced as well."""
    calls = case.program.calls
    if names is not None:
        calls = tuple(everywhere(call, functools.partial(_renamed, old=names[0], new=names[1])) for call in calls)
        if calls == case.program.calls:
            return
    sets = []
    for inputs in case.input_sets:
        storages, views = list(inputs.storages), list(inputs.views)
        for number, view in enumerate(views):
            new = change(number, view.dtype)
            if new == view.dtype:
                continue
            sharing = [other for other in inputs.views if other.storage == view.storage]
            storage = storages[view.storage] if len(sharing) == 1 else inputs.storages[view.storage]
            if len(sharing) > 1 and any(change(i, v.dtype) != new for i, v in enumerate(inputs.views) if v in sharing):
                return  # they would not share any more
            if storage.dtype != view.dtype:
                view, storage = own_storage(view, storage)
                view = replace(view, storage=len(storages))
                storages.append(storage)
            floating = new.startswith(("float", "bfloat", "complex"))
            views[number] = replace(view, dtype=new, requires_grad=view.requires_grad and floating)
            storages[view.storage] = _cast(storage, new)
        sets.append(InputSet(tuple(storages), tuple(views)))
    made = with_inputs(case, sets)
    yield replace(made, program=replace(made.program, calls=calls))


def _renamed(call: Call, old: str, new: str) -> Call:
    def rename(arg: Arg) -> Arg:
        return Name(f"torch.{new}") if arg == Name(f"torch.{old}") else arg

    return replace(
        call,
        args=tuple(rename(arg) for arg in call.args),
        kwargs=tuple((key, rename(value)) for key, value in call.kwargs),
    )


def _cast(storage: Storage, dtype: str) -> Storage:
    """The storage in another dtype, with values as that can hold them."""
    if storage.values.kind == "blob":
        return blobs.rewritten(storage, lambda flat: _converted_to(flat, dtype))
    return Storage(dtype, storage.size, _values_as(storage, dtype))


def _converted_to(flat: torch.Tensor, dtype: str) -> torch.Tensor:
    """Elements in another dtype; what that cannot hold becomes zero or its nearest end."""
    import torch

    from shakeout.generators.values import DTYPES

    new = DTYPES[dtype]
    real = flat.real if flat.is_complex() and not new.is_complex else flat
    if new.is_floating_point or new.is_complex:
        return real.to(new)
    wide = real.to(torch.float64).nan_to_num(0.0, 0.0, 0.0)
    if new == torch.bool:
        return wide.to(torch.int64) != 0
    bounds = torch.iinfo(new)
    return wide.clamp(float(bounds.min), float(bounds.max) / (2 if bounds.bits > 32 else 1)).to(new)


def _values_as(storage: Storage, dtype: str) -> Values:
    """The values of a storage as another dtype can hold them."""
    values = storage.values
    floating = dtype.startswith(("float", "bfloat"))
    if values.kind == "literal":
        return replace(values, items=tuple(as_element(item, dtype) for item in values.items))
    if values.kind == "integers" and storage.dtype == "bool":
        return replace(values, low=0, high=1)
    if values.kind == "ladder":
        return ladder_of(values, dtype)
    return values if floating or values.kind not in ("uniform", "beside") else replace(values, kind="integers")


# --- layouts ----------------------------------------------------------------------------------------------------------


def layouts(case: Case) -> Iterator[Case]:
    """Inputs with memory of their own and row-major: all, then one; else without gaps, or without an offset."""
    odd = [i for i in range(len(case.program.inputs)) if any(_odd(inputs, i) for inputs in case.input_sets)]
    if len(odd) > 1:
        yield _relaid(case, odd, lambda view: contiguous(view.shape))
    for number in odd:
        yield _relaid(case, [number], lambda view: contiguous(view.shape))
        yield _relaid(case, [number], dense)
        yield _shifted(case, number)


def _odd(inputs: InputSet, number: int) -> bool:
    view = inputs.views[number]
    storage = inputs.storages[view.storage]
    shared = sum(other.storage == view.storage for other in inputs.views) > 1
    whole = view.strides == contiguous(view.shape) and storage.size == math.prod(view.shape)
    return shared or not whole or view.offset > 0 or storage.dtype != view.dtype


def _relaid(case: Case, chosen: Sequence[int], strides: Callable[[View], tuple[int, ...]]) -> Case:
    sets = []
    for inputs in case.input_sets:
        storages, views = list(inputs.storages), list(inputs.views)
        for number in chosen:
            view = views[number]
            if _odd(inputs, number):
                moved, storage = own_storage(view, inputs.storages[view.storage], strides(view))
                views[number] = replace(moved, storage=len(storages))
                storages.append(storage)
        sets.append(InputSet(tuple(storages), tuple(views)))
    return with_inputs(case, sets)


def _shifted(case: Case, number: int) -> Case:
    """The case with one input at the beginning of its storage."""
    sets = []
    for inputs in case.input_sets:
        views = list(inputs.views)
        views[number] = replace(views[number], offset=0)
        sets.append(replace(inputs, views=tuple(views)))
    return compacted(with_inputs(case, sets))

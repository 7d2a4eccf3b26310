"""Building blocks of the passes: runs of positions, windows on other storages, and values that take results' places."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shakeout.corpus import blobs
from shakeout.corpus.case import Case, InputSet, Storage, Values, View, contiguous
from shakeout.corpus.edit import Fresh
from shakeout.corpus.vocabularies import vocabulary

if TYPE_CHECKING:
    import torch

__all__ = [
    "LITERAL",
    "as_literal",
    "chunks",
    "compacted",
    "dense",
    "filled_like",
    "invented",
    "items_of",
    "own_storage",
    "recorded",
    "shaped",
]

#: Elements up to which a storage's values are written out when it changes its shape: longer lists tell a reader
#: nothing, and a range with a seed keeps the case short.
LITERAL = 256


def chunks(count: int, largest: int | None = None) -> Iterator[range]:
    """Runs of positions to try at once: halves, quarters and so on down to single ones, the last positions first."""
    length = max(count // 2 if largest is None else largest, 1)
    while count:
        for stop in range(count, 0, -length):
            yield range(max(stop - length, 0), stop)
        if length == 1:
            return
        length = max(length // 2, 1)


# --- inputs -----------------------------------------------------------------------------------------------------------


def items_of(storage: Storage) -> tuple[Any, ...]:
    """The elements of a storage as Python numbers."""
    if storage.values.kind == "literal":
        return storage.values.items
    import torch

    from shakeout.generators.values import tensor_of

    tensor = tensor_of(storage)
    if str(tensor.dtype) == "torch.complex32":
        return tuple(tensor.to(torch.complex64).tolist()) if tensor.numel() else ()
    return tuple(tensor.tolist())


def as_literal(storage: Storage) -> Storage:
    """The same storage with its elements written out."""
    items = items_of(storage)
    return Storage(storage.dtype, len(items), Values("literal", items=items))


def _offsets(view: View) -> Iterator[int]:
    """The place of each element of a window, row by row."""
    for index in itertools.product(*(range(extent) for extent in view.shape)):
        yield view.offset + sum(i * step for i, step in zip(index, view.strides, strict=True))


def _reach(view: View) -> int:
    """Elements that the storage of a window must have, counted in the window's dtype."""
    if 0 in view.shape:
        return 0
    return view.offset + 1 + sum((extent - 1) * step for extent, step in zip(view.shape, view.strides, strict=True))


def filled_like(storage: Storage, size: int) -> Storage:
    """A storage of another size with values of the same kind: the first ones, or new ones behind them."""
    values = storage.values
    if values.kind == "blob":
        return _cut_down(storage, lambda flat: flat[:size]) if size < storage.size else storage
    if values.kind == "literal":
        items = (*values.items[:size], *(values.items[:1] or (0,)) * max(size - len(values.items), 0))
        values = replace(values, items=items)
    return Storage(storage.dtype, size, values)


def _relaid(flat: torch.Tensor, view: View, strides: tuple[int, ...]) -> torch.Tensor:
    """The elements of a window in flat memory of their own, dense with these strides."""
    from shakeout.corpus.standalone import strided
    from shakeout.generators.values import DTYPES

    window = strided(flat, DTYPES[view.dtype], view.shape, view.strides, view.offset)
    memory = window.new_empty(math.prod(view.shape))
    memory.as_strided(view.shape, strides).copy_(window)
    return memory


def _cut_down(storage: Storage, change: Callable[[torch.Tensor], torch.Tensor]) -> Storage:
    """A part of a blob's values: written out if there are few, else a blob of their own."""
    part = blobs.rewritten(storage, change)
    return as_literal(part) if part.size <= LITERAL else part


def own_storage(view: View, storage: Storage, strides: tuple[int, ...] | None = None) -> tuple[View, Storage]:
    """The same elements in a storage of their own: row-major, or dense with these strides.

    A window that reads bytes as another dtype gets that dtype's own elements; ``None`` strides mean row-major.
    """
    strides = contiguous(view.shape) if strides is None else strides
    count = math.prod(view.shape)
    moved = replace(view, strides=strides, offset=0)
    if storage.values.kind == "blob":
        return moved, _cut_down(storage, lambda flat: _relaid(flat, view, strides))
    if count > LITERAL or storage.size > 1 << 16:
        # One whose dtype differs from the storage's takes a range of its own, in the same bounds.
        values = storage.values
        if values.kind == "literal":
            values = Values("integers", 0, 0, 2)
        return moved, Storage(view.dtype, count, values)
    found = dict(zip(_offsets(moved), _elements(view, storage), strict=True))
    return moved, Storage(view.dtype, count, Values("literal", items=tuple(found[i] for i in range(count))))


def _elements(view: View, storage: Storage) -> list[Any]:
    """The elements of a window, row by row."""
    if view.dtype == storage.dtype:
        items = items_of(storage)
        return [items[place] for place in _offsets(view)]
    from shakeout.corpus.standalone import strided
    from shakeout.generators.values import DTYPES, tensor_of

    found: list[Any] = (
        strided(tensor_of(storage), DTYPES[view.dtype], view.shape, view.strides, view.offset).reshape(-1).tolist()
    )
    return found


def dense(view: View) -> tuple[int, ...]:
    """The strides of a window without gaps that keeps the order of the dimensions in memory."""
    order = sorted(range(len(view.shape)), key=lambda i: (-view.strides[i] if view.shape[i] > 1 else 0, i))
    strides, step = [0] * len(view.shape), 1
    for dimension in reversed(order):
        strides[dimension] = step
        step *= max(view.shape[dimension], 1)
    return tuple(strides)


def shaped(inputs: InputSet, shapes: Mapping[int, tuple[int, ...]], *, last: bool = False) -> InputSet:
    """The set with some inputs cut down to smaller shapes of the same rank.

    What is left keeps its values, as far as values are written out, and its layout: a dense tensor stays dense, any
    other keeps its strides. Of a dense one the first elements of each dimension are left, or the last ones.
    """
    storages, views = list(inputs.storages), list(inputs.views)
    for number, shape in shapes.items():
        view, storage = views[number], storages[views[number].storage]
        cut = replace(view, shape=shape)
        skipped = zip(view.shape, shape, view.strides, strict=True) if last else ()
        end = replace(cut, offset=sum((extent - left) * step for extent, left, step in skipped))
        alone = sum(other.storage == view.storage for other in views) == 1 and view.dtype == storage.dtype
        if alone and view.strides == contiguous(view.shape) and view.offset == 0:
            views[number], storages[view.storage] = own_storage(end, storage)
        elif alone and view.strides == dense(view) and view.offset == 0:
            views[number], storages[view.storage] = own_storage(end, storage, dense(cut))
        else:
            views[number] = cut
            if alone:
                storages[view.storage] = filled_like(storage, min(max(_reach(cut), 0), storage.size))
    return InputSet(tuple(storages), tuple(views))


def compacted(case: Case) -> Case:
    """The case without what no input looks at behind the last element of a storage."""
    sets = []
    for inputs in case.input_sets:
        storages = list(inputs.storages)
        for number, storage in enumerate(storages):
            views = [view for view in inputs.views if view.storage == number]
            if all(view.dtype == storage.dtype for view in views):
                storages[number] = filled_like(storage, min(storage.size, max(_reach(view) for view in views)))
        sets.append(InputSet(tuple(storages), inputs.views))
    return replace(case, input_sets=tuple(sets))


# --- values as the reference computes them ----------------------------------------------------------------------------


def recorded(case: Case, keep: frozenset[int]) -> dict[int, Fresh] | None:
    """Inputs in place of the results that kept calls take from calls which are dropped.

    Each holds what the reference computes there, and lies in memory as it does there: as a window on an input's storage
    where it is one.

    Args:
        case: a case that was validated.
        keep: positions of the calls that are kept.

    Returns:
        By number of the value; None if the reference does not get so far.
    """
    wanted = _cut(case, keep)
    if not wanted:
        return {}
    found: list[dict[int, tuple[View, Storage | None]]] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of the program is no news to who minimises it
            for inputs in case.input_sets:
                found.append(_recorded(case, inputs, keep, wanted))
    except Exception:  # whatever torch raises: then there is no such candidate
        return None
    types = case.program.types()
    result = {}
    for number in wanted:
        if (type_ := types[number]) is None:
            return None
        result[number] = Fresh(type_, tuple(places[number] for places in found))
    return result


def invented(case: Case, keep: frozenset[int]) -> dict[int, Fresh] | None:
    """Like ``recorded``, with small numbers from a range: for a case whose reference must not run in this process."""
    types = case.program.types()
    result = {}
    for number in _cut(case, keep):
        if (type_ := types[number]) is None:
            return None
        floating = type_.dtype.startswith(("float", "bfloat", "complex"))
        low, high = (0, 1) if type_.dtype == "bool" else (-2, 2) if floating else (0, 3)
        storage = Storage(type_.dtype, math.prod(type_.shape), Values("integers", 1, low, high))
        view = View(0, type_.dtype, type_.shape, contiguous(type_.shape))
        result[number] = Fresh(type_, ((view, storage),) * len(case.input_sets))
    return result


def _cut(case: Case, keep: frozenset[int]) -> set[int]:
    """Numbers of the results that kept calls take from dropped ones."""
    program = case.program
    producers = [position for position, call in enumerate(program.calls) for _ in call.results]
    start = len(program.inputs)
    return {
        number
        for position in keep
        for number in program.calls[position].operands()
        if number >= start and producers[number - start] not in keep
    }


def _recorded(
    case: Case, inputs: InputSet, keep: frozenset[int], wanted: set[int]
) -> dict[int, tuple[View, Storage | None]]:
    import torch

    from shakeout.corpus.vocabularies import structured
    from shakeout.generators.inputsets import tensors_of

    training, words = case.setting.mode == "training", vocabulary(case.program.vocabulary)
    values: list[Any] = list(tensors_of(inputs, training))
    owners = {
        tensor.untyped_storage()._cdata: view.storage
        for tensor, view in zip(values, inputs.views, strict=True)
        if tensor.numel()
    }
    versions = [tensor._version for tensor in values]
    found: dict[int, tuple[View, Storage | None]] = {}
    with torch.set_grad_enabled(training), structured.within(case.program, words.value):
        for position, call in enumerate(case.program.calls):
            if position in keep:
                changed = [tensor._version for tensor in values[: len(versions)]] != versions
                for number in sorted(wanted - found.keys()):
                    if number < len(values):
                        found[number] = _place(values[number], {} if changed else owners, blobs.held(case))
            values.extend(words.call(call, values))
    return found


def _place(tensor: torch.Tensor, owners: Mapping[int, int], held: Sequence[Storage]) -> tuple[View, Storage | None]:
    """The window that a tensor is, on an input's storage or on one with its memory.

    A large one keeps its very values only as a blob, which only a case that holds blobs has a place for.
    """
    import torch

    from shakeout.corpus.standalone import memory
    from shakeout.generators.values import NAMES

    dtype = NAMES[tensor.dtype]
    plain = tensor.resolve_conj().resolve_neg()
    shape, strides = tuple(map(int, plain.shape)), tuple(map(int, plain.stride()))
    leaf = tensor.requires_grad and (tensor.is_floating_point() or tensor.is_complex())
    view = View(0, dtype, shape, strides, int(plain.storage_offset()), leaf)
    owner = owners.get(plain.untyped_storage()._cdata) if plain.numel() else None
    if owner is not None:
        return replace(view, storage=owner), None
    flat = memory(plain)
    if flat.numel() <= 16 * LITERAL:
        wide = flat.to(torch.complex64) if dtype == "complex32" else flat
        items = tuple(wide.tolist()) if flat.numel() else ()
        return view, Storage(dtype, flat.numel(), Values("literal", items=items))
    if held:
        return view, blobs.stored(flat, held)
    return view, Storage(dtype, flat.numel(), _range(flat))


def _range(flat: torch.Tensor) -> Values:
    """Values about as large as those of a tensor that is too long to be written out."""
    import torch

    if flat.dtype == torch.bool:
        return Values("integers", 0, 0, 1)
    real = torch.view_as_real(flat) if flat.is_complex() else flat
    real = real.to(torch.float64)
    real = real[real.isfinite()]
    low, high = (float(real.min()), float(real.max())) if real.numel() else (0.0, 1.0)
    low, high = math.floor(max(low, -1e9)), math.ceil(min(high, 1e9))
    floating = flat.is_floating_point() or flat.is_complex()
    return Values("uniform" if floating else "integers", 0, low, max(high, low + 1) if floating else max(high, low))

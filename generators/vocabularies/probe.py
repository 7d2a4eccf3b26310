"""Finds out by trying what may be varied about a recorded call: sizes, ranks, dtypes; and what it writes to."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from shakeout.corpus.program import Arg
from shakeout.corpus.vocabularies import owner
from shakeout.generators.definedness import before
from shakeout.generators.values import plain
from shakeout.generators.vocabularies.records import Record, Slot, Spread

__all__ = ["Draft", "DraftSlot", "probe", "retype"]

#: Sizes are tried one by one on records of at most this many dimensions.
MAX_DIMENSIONS = 14
#: Shapes on which a call whose operands share one shape is tried, by rank.
SHAPES = ((), (3,), (2, 3), (2, 1, 3), (2, 3, 1, 2), (1, 2, 1, 2, 3))


@dataclass(frozen=True, slots=True)
class DraftSlot:
    """A tensor of a traced call; ``literal`` as in ``Spread``."""

    dtype: str
    shape: tuple[int, ...]
    literal: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Draft:
    """A traced call before anything was tried; ``main`` is the dtype that its slots call ``T``."""

    operator: str
    args: tuple[Arg, ...]
    kwargs: tuple[tuple[str, Arg], ...]
    slots: tuple[DraftSlot, ...]
    main: torch.dtype


def _dtype(slot: str, main: torch.dtype) -> torch.dtype:
    if slot == "T":
        return main
    if slot == "R":
        return main.to_real() if main.is_complex else main
    return getattr(torch, slot)  # type: ignore[no-any-return]


@functools.lru_cache(1 << 14)
def operand(slot: str, shape: tuple[int, ...], spread: Spread, main: torch.dtype) -> torch.Tensor:
    """Some tensor that a slot should accept."""
    dtype = _dtype(slot, main)
    size = math.prod(shape)
    if spread.literal is not None and len(spread.literal) == size:
        held = torch.uint64 if max(spread.literal, default=0) >= 2**63 else torch.int64
        return torch.tensor(spread.literal, dtype=held).to(dtype).reshape(shape)
    if spread.kind == "definite":
        eye = 4 * torch.eye(shape[-1], dtype=torch.float64) + 0.5
        return eye.expand(shape).contiguous().to(dtype)
    if spread.kind in ("index", "distinct"):
        least, last = int(spread.low or 0), int(spread.high or 0)
        steps = torch.arange(size, dtype=torch.int64) % min(last - least + 1, 2**62) + least
        return steps.to(dtype).reshape(shape)
    # Values that do not repeat soon, positive and away from the edges of domains.
    low, high = -1.5, 1.7
    if spread.low is not None and spread.high is not None:
        low, high = spread.low, min(spread.high, spread.low + 4)
    if not dtype.is_floating_point and not dtype.is_complex:
        low, high = (spread.low if spread.low is not None else 1), max(high, 3)
        values = torch.arange(size, dtype=torch.float64) % max(int(high - low), 1) + low
    else:
        values = (torch.arange(size, dtype=torch.float64) * 0.61803398875 + 0.31) % 1 * (high - low) + low
    if spread.kind == "sorted":
        return values.reshape(shape).sort(-1).values.to(dtype) if shape else values.reshape(shape).to(dtype)
    return values.reshape(shape).to(dtype)


def _run(
    operator: str,
    args: tuple[Arg, ...],
    kwargs: tuple[tuple[str, Arg], ...],
    tensors: Sequence[torch.Tensor],
) -> Any:
    """The result of a call, or None if torch rejects it or it is no tensor."""
    # Torch does not check pivots, nor numbers of keys and values: with sizes that do not fit, it would write or read
    # past its operands, and the heap would decide what is found out about this operator and the next.
    words = owner(operator)
    kind = words.traits(operator)
    if (kind.pivots or kind.attends) and before(kind, tensors, (), args, kwargs) is not None:
        return None
    try:
        function = words.resolve(operator)
        result = function(
            *(words.value(arg, tensors) for arg in args), **{k: words.value(v, tensors) for k, v in kwargs}
        )
    except Exception:
        return None
    if result is None:
        return () if operator.endswith("__setitem__") else None
    results = (result,) if isinstance(result, torch.Tensor) else result
    if not isinstance(results, list | tuple) or not 0 < len(results) <= 32:
        return None
    if not any(isinstance(item, torch.Tensor) for item in results):
        return None
    for item in results:
        if isinstance(item, torch.Tensor):
            if not plain(item) or item.numel() > 1 << 20:
                return None
        elif isinstance(item, list | tuple | dict):
            return None
    return results


def probe(draft: Draft, spreads: Sequence[Spread], dtypes: Sequence[str]) -> Record | None:
    """The record that a traced call gives, or None if it does not run again on other values."""
    record = Record(
        draft.operator,
        draft.args,
        draft.kwargs,
        tuple(Slot(slot.dtype, (), spread) for slot, spread in zip(draft.slots, spreads, strict=True)),
        (),
        (),
        (),
    )
    shapes = [slot.shape for slot in draft.slots]
    trial = _Trial(record, draft.main)
    if not trial.observe(shapes):
        return None
    classes, sizes, free = _classes(trial, shapes)
    ranks, broadcasts = _elastic(trial, shapes)
    accepted = [name for name in dtypes if _Trial(record, getattr(torch, name)).accepts(shapes)]
    if not any(slot.dtype in ("T", "R") for slot in record.slots):
        accepted = []  # nothing depends on it
    elif not accepted:
        return None
    return replace(
        record,
        slots=tuple(replace(slot, classes=numbers) for slot, numbers in zip(record.slots, classes, strict=True)),
        sizes=sizes,
        free=free,
        dtypes=tuple(accepted),
        mutates=trial.mutates,
        view=trial.view,
        ranks=ranks,
        broadcasts=broadcasts,
        draws=owner(record.operator).traits(record.operator).random,
        grad=trial.differentiates(shapes),
    )


def retype(source: Record, operator: str) -> Record | None:
    """The record of another operator that takes the same arguments, or None if it does not."""
    record = replace(source, operator=operator)
    shapes = [record.shape(i) for i in range(len(record.slots))]
    dtypes = source.dtypes or ("float32",)
    for name in dtypes:
        trial = _Trial(record, getattr(torch, name))
        if trial.observe(shapes):
            break
    else:
        return None
    accepted = tuple(n for n in source.dtypes if n == name or _Trial(record, getattr(torch, n)).accepts(shapes))
    ranks, broadcasts = _elastic(trial, shapes)
    draws = owner(operator).traits(operator).random
    return replace(
        record,
        dtypes=accepted,
        mutates=trial.mutates,
        view=trial.view,
        ranks=ranks,
        broadcasts=broadcasts,
        draws=draws,
        grad=trial.differentiates(shapes),
    )


class _Trial:
    """Runs one call on fresh operands of any shapes."""

    def __init__(self, record: Record, main: torch.dtype) -> None:
        self.record, self.main = record, main
        self.mutates: tuple[int, ...] = ()
        self.view = False

    def _operands(self, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
        return [
            operand(slot.dtype, shape, slot.spread, self.main).clone()
            for slot, shape in zip(self.record.slots, shapes, strict=True)
        ]

    def accepts(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Whether the call runs."""
        record = self.record
        try:
            tensors = self._operands(shapes)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        return _run(record.operator, record.args, record.kwargs, tensors) is not None

    def observe(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Whether the call runs, draws nothing and shows no result it does not own; also notes what it writes to."""
        record = self.record
        try:
            tensors = self._operands(shapes)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        versions = [tensor._version for tensor in tensors]
        state = torch.get_rng_state()
        results = _run(record.operator, record.args, record.kwargs, tensors)
        if results is None:
            return False
        if not torch.equal(state, torch.get_rng_state()):
            return False
        if owner(record.operator).traits(record.operator).random and not any(0 not in shape for shape in shapes):
            return False  # nothing is drawn for no elements
        pairs = zip(tensors, versions, strict=True)
        self.mutates = tuple(i for i, (tensor, version) in enumerate(pairs) if tensor._version != version)
        owned = {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}
        self.view = any(
            isinstance(item, torch.Tensor) and item.numel() > 0 and item.untyped_storage().data_ptr() in owned
            for item in results
        )
        return True

    def differentiates(self, shapes: Sequence[tuple[int, ...]]) -> bool:
        """Whether the call runs on leaves, and backwards if its result depends on them."""
        record = self.record
        tensors = self._operands(shapes)
        leaves = []
        with torch.enable_grad():
            for number, tensor in enumerate(tensors):
                if tensor.is_floating_point() or tensor.is_complex():
                    leaves.append(tensor.requires_grad_())
                    if number in self.mutates:
                        tensors[number] = tensor.clone()  # a leaf may not be written to
            results = _run(record.operator, record.args, record.kwargs, tensors)
            if results is None:
                return False
            roots = [item for item in results if isinstance(item, torch.Tensor) and item.requires_grad]
            if not roots:
                return True
            try:
                torch.autograd.grad(roots, leaves, [torch.ones_like(root) for root in roots], allow_unused=True)
            except RuntimeError:
                return False
        return True


def _classes(
    trial: _Trial, shapes: Sequence[tuple[int, ...]]
) -> tuple[list[tuple[int, ...]], tuple[int, ...], tuple[bool, ...]]:
    """Size classes: a dimension that may change alone is one, all others of equal size change together."""
    places = [(i, d) for i, shape in enumerate(shapes) for d in range(len(shape))]
    changed = [list(shape) for shape in shapes]
    numbers: dict[tuple[int, int], int] = {}
    sizes: list[int] = []
    free: list[bool] = []

    def accepts(where: Sequence[tuple[int, int]]) -> bool:
        for i, d in where:
            changed[i][d] += 1
        answer = trial.accepts([tuple(shape) for shape in changed])
        for i, d in where:
            changed[i][d] -= 1
        return answer

    linked: dict[int, list[tuple[int, int]]] = {}
    for i, d in places:
        if len(places) <= MAX_DIMENSIONS and accepts([(i, d)]):
            numbers[(i, d)] = len(sizes)
            sizes.append(shapes[i][d])
            free.append(True)
        else:
            linked.setdefault(shapes[i][d], []).append((i, d))
    for size, where in linked.items():
        for place in where:
            numbers[place] = len(sizes)
        sizes.append(size)
        free.append(len(where) > 1 and accepts(where))
    classes = [tuple(numbers[(i, d)] for d in range(len(shape))) for i, shape in enumerate(shapes)]
    return classes, tuple(sizes), tuple(free)


def _elastic(trial: _Trial, shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Which ranks all operands may have together, and whether they broadcast."""
    if not shapes or len(shapes) > 4 or len(set(shapes)) > 1:
        return 0, 0
    ranks = sum(1 << rank for rank, shape in enumerate(SHAPES) if trial.accepts([shape] * len(shapes)))
    broadcasts = 0
    if len(shapes) > 1 and ranks & 0b110 == 0b110:
        small, large = (3,), (2, 3)
        rest = [[small, (2, 1), ()][i % 3] for i in range(len(shapes) - 1)]
        broadcasts |= trial.accepts([large, *rest])
        broadcasts |= 2 * trial.accepts([small, *[large] * (len(shapes) - 1)])
    return ranks, broadcasts

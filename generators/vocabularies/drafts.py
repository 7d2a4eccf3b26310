"""What is kept of the calls that are heard of an operator, and the records that they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shakeout.corpus.program import Arg, Name, Ref, Slice
from shakeout.corpus.vocabularies import owner
from shakeout.generators.vocabularies.probe import Draft, probe
from shakeout.generators.vocabularies.records import Record, Spread

__all__ = [
    "LITERAL",
    "PER_OPERATOR",
    "PER_STRUCTURE",
    "Seen",
    "probed",
    "shapes_of",
    "spaced",
    "spreads_of",
    "structure",
    "thinned",
]

#: Records kept of one structure (kinds of arguments, ranks, dtypes), and of one operator: what is beyond says the same.
PER_STRUCTURE = 3
PER_OPERATOR = 40
#: A mask or an index of at most this many elements is kept as it is.
LITERAL = 64


class Seen:
    """What the values of one operand had in common over all samples of an operator."""

    __slots__ = ("count", "definite", "high", "low", "sorted")

    def __init__(self) -> None:
        self.low, self.high, self.count = float("inf"), float("-inf"), 0
        self.sorted = self.definite = True

    def add(self, tensor: torch.Tensor) -> None:
        """Look at one more operand."""
        if not tensor.numel() or self.count > 4000:
            return
        if tensor.dtype.is_floating_point and tensor.dtype.itemsize == 1:
            tensor = tensor.float()  # these are neither compared nor multiplied
        if tensor.is_complex():
            self.sorted = False
        else:
            # Of unsigned numbers torch tells no bounds, and NumPy has no bfloat16.
            array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).resolve_neg().numpy()
            low, high = (bound.item() + 0 for bound in (array.min(), array.max()))  # a number, not a bool
            self.low, self.high = min(self.low, low), max(self.high, high)
            if self.sorted:
                self.sorted = array.ndim > 0 and bool((array[..., 1:] >= array[..., :-1]).all())
        if self.definite:
            self.definite = _definite(tensor)
        self.count += tensor.numel()

    def spread(self, index: bool, literal: tuple[int, ...] | None, operator: str) -> Spread:
        """The values that the operand seems to need."""
        ordered = owner(operator).traits(operator).ascending
        if self.definite and self.count >= 8 and not index:
            return Spread("definite")
        bounded = self.low <= self.high and (0 <= self.low < float("inf") or (self.low >= -1 and self.high <= 1))
        known = self.low <= self.high and (index or (bounded and self.count >= 8))
        low, high = (self.low, self.high) if known else (None, None)
        if ordered and self.sorted and self.count >= 12:
            return Spread("sorted", low, high)
        if index:
            distinct = "duplicates" in owner(operator).traits(operator).hazards
            return Spread("distinct" if distinct else "index", low, high, literal)
        return Spread("any", low, high)


def _definite(tensor: torch.Tensor) -> bool:
    if tensor.dim() < 2 or tensor.shape[-1] != tensor.shape[-2] or not tensor.dtype.is_floating_point:
        return bool(tensor.is_complex()) and tensor.dim() >= 2 and tensor.shape[-1] == tensor.shape[-2]
    if not torch.allclose(tensor, tensor.mT, atol=1e-4):
        return False
    return bool((torch.linalg.cholesky_ex(tensor.float())[1] == 0).all()) and tensor.shape[-1] > 1


def structure(draft: Draft) -> tuple[Any, ...]:
    """What makes two calls of an operator the same kind of call."""

    def kind(arg: Arg) -> Any:
        match arg:
            case Ref(index):
                return ("t", draft.slots[index].dtype, len(draft.slots[index].shape))
            case bool() | str() | Name():
                return str(arg)
            case tuple():
                return tuple(kind(item) for item in arg)
            case Slice():
                return ("slice", arg.step is None)
        return type(arg).__name__

    return (tuple(map(kind, draft.args)), tuple((key, kind(value)) for key, value in draft.kwargs))


def shapes_of(draft: Draft) -> tuple[tuple[int, ...], ...]:
    """The shape of each slot."""
    return tuple(slot.shape for slot in draft.slots)


def probed(
    groups: dict[tuple[Any, ...], list[Draft]],
    seen: dict[tuple[str, int], Seen],
    dtypes: Sequence[str],
    known: Sequence[Record],
) -> list[Record]:
    """The records that drafts of one operator give, beside the known ones.

    Args:
        groups: drafts by their structure.
        seen: what the values of the operands had in common.
        dtypes: that are tried.
        known: records that are there already.
    """
    records: list[Record] = []
    have = {(record.args, record.kwargs, record.slots) for record in known}
    # One of each structure first, so that the cap cuts repetitions and not kinds.
    ordered = [group[i] for i in range(PER_STRUCTURE) for group in groups.values() if len(group) > i]
    for draft in spaced(ordered, PER_OPERATOR):
        record = probe(draft, spreads_of(draft, seen), dtypes)
        if record is not None and (record.args, record.kwargs, record.slots) not in have:
            records.append(record)
    return records


def spreads_of(draft: Draft, seen: dict[tuple[str, int], Seen]) -> tuple[Spread, ...]:
    """The values that each slot seems to need."""
    spreads = []
    for number, slot in enumerate(draft.slots):
        index = slot.dtype in ("int64", "int32")
        spreads.append(seen[(draft.operator, number)].spread(index, slot.literal, draft.operator))
    return tuple(spreads)


def spaced(items: list[Any], limit: int) -> list[Any]:
    """So many of the items at most, at equal distances."""
    if len(items) <= limit:
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def thinned(records: list[Record]) -> list[Record]:
    """As many records as are kept of one operator."""
    return spaced(records, PER_OPERATOR)

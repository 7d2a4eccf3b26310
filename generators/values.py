"""Fresh tensors: how an input lies in memory and what it holds, as a recipe that gives the same tensor again."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import torch

from shakeout.corpus import blobs
from shakeout.corpus.case import Storage, Values, View
from shakeout.corpus.storage import EXPONENTS
from shakeout.corpus.value_cache import filled
from shakeout.generators.choices import Choices
from shakeout.generators.vocabularies.records import Spread

__all__ = ["DTYPES", "NAMES", "Given", "InputSampler", "Layout", "fresh_layout", "plain", "tensor_of"]

#: Every dtype that a case can hold, by name and back. Torch has more: ``float8_e8m0fnu`` has neither zero nor sign, and
#: quantised ones, ``bits8`` and whatever has less than eight bits cannot be converted to or from numbers.
DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float32 float64 float16 bfloat16 complex64 complex128 complex32 bool uint8 int8 int16 int32 int64 "
        "uint16 uint32 uint64 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
    ).split()
    if hasattr(torch, name)
}
NAMES: dict[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}
_BYTES = {name: dtype.itemsize for name, dtype in DTYPES.items()}


def plain(tensor: torch.Tensor) -> bool:
    """Whether a case can hold the tensor: a dtype of ``DTYPES``, strided, in main memory."""
    return tensor.dtype in NAMES and tensor.layout == torch.strided and tensor.device.type == "cpu"


#: Bytes read as another dtype, where the values stay of ordinary size: (view, storage).
REINTERPRETED = (
    ("float32", "complex64"), ("complex64", "float32"), ("float64", "complex128"), ("complex128", "float64"),
    ("int8", "uint8"), ("uint8", "int8"), ("int32", "int64"), ("int16", "int32"), ("uint8", "int16"),
    ("int64", "int32"), ("uint8", "bool"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor of any sizes lies in its storage.

    Attributes:
        order: the dimensions from the slowest to the fastest in memory.
        steps: for each dimension, one element of so many is used.
        padding: for each dimension, so many elements behind it belong to nobody.
        expanded: dimensions with stride 0.
        offset: elements before the first.
    """

    order: tuple[int, ...]
    steps: tuple[int, ...]
    padding: tuple[int, ...]
    expanded: frozenset[int] = frozenset()
    offset: int = 0

    def place(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """The strides of a tensor of this shape, and how many elements its storage needs."""
        strides = [0] * len(shape)
        span = 1
        for dimension in reversed(self.order):
            if dimension in self.expanded:
                continue
            strides[dimension] = span * self.steps[dimension]
            span *= max(shape[dimension] * self.steps[dimension] + self.padding[dimension], 1)
        if 0 in shape:
            span = 0
        return tuple(strides), self.offset + span


@functools.cache
def row_major(rank: int) -> Layout:
    """The layout without anything special."""
    return Layout(tuple(range(rank)), (1,) * rank, (0,) * rank)


def fresh_layout(choices: Choices, shape: tuple[int, ...], *, writable: bool = False) -> Layout:
    """Some layout; one without two elements in one place if it is to be written to."""
    rank = len(shape)
    plain = row_major(rank)
    kinds = ["offset"]
    if rank:
        kinds += ["steps", "padded"]
        if not writable:
            kinds.append("expanded")
    if rank >= 2:
        kinds += ["transposed", "transposed", "permuted"]
    if rank in (4, 5):
        kinds += ["channels_last"] * 3
    match choices.pick(kinds):
        case "offset":
            return replace(plain, offset=choices.integer(1, 5))
        case "steps":
            steps = list(plain.steps)
            steps[choices.integer(0, rank - 1)] = choices.integer(2, 3)
            return replace(plain, steps=tuple(steps), offset=choices.integer(0, 1))
        case "padded":
            padding = list(plain.padding)
            padding[choices.integer(0, rank - 1)] = choices.integer(1, 3)
            return replace(plain, padding=tuple(padding), offset=choices.integer(0, 2))
        case "expanded":
            return replace(plain, expanded=frozenset([choices.integer(0, rank - 1)]))
        case "transposed":
            return replace(plain, order=(*plain.order[:-2], rank - 1, rank - 2))
        case "channels_last":
            return replace(plain, order=(0, *range(2, rank), 1))
    order = list(plain.order)
    for i in range(rank - 1, 0, -1):
        j = choices.integer(0, i)
        order[i], order[j] = order[j], order[i]
    return replace(plain, order=tuple(order))


@dataclass(frozen=True, slots=True)
class Given:
    """One input of a program being grown.

    Attributes:
        dtype: of the tensor; that of the storage may differ.
        shape: its sizes.
        layout: how it lies in memory; None for a window on a storage that others share or that is larger than it,
            which keeps ``window``.
        values: of the storage.
        storage_dtype: of the storage.
        shares: number of the input whose storage this one is a window on.
        window: strides and offset where no layout says them: in a shared storage, or in its own of ``size`` elements.
        size: elements of its own storage, where it has a window on that; None where the layout tells.
        parameter: belongs to the network and not to the call.
        requires_grad: a leaf that gets a gradient.
    """

    dtype: str
    shape: tuple[int, ...]
    layout: Layout | None
    values: Values
    storage_dtype: str
    shares: int | None = None
    window: tuple[tuple[int, ...], int] | None = None
    parameter: bool = False
    requires_grad: bool = False
    size: int | None = None

    def storage(self) -> Storage:
        """What it is a window on, if that is its own."""
        if self.size is not None:
            return Storage(self.storage_dtype, self.size, self.values)
        assert self.layout is not None
        if self.values.kind == "literal":
            return Storage(self.storage_dtype, len(self.values.items), self.values)
        _, size = self.layout.place(self.shape)
        if self.storage_dtype != self.dtype:
            size = math.ceil(size * _BYTES[self.dtype] / _BYTES[self.storage_dtype])
        return Storage(self.storage_dtype, size, self.values)

    def view(self, storage: int) -> View:
        """The window, on the storage of this number."""
        if self.window is not None:
            strides, offset = self.window
        else:
            assert self.layout is not None
            strides, offset = self.layout.place(self.shape)[0], self.layout.offset
        return View(storage, self.dtype, self.shape, strides, offset, self.requires_grad)


#: Seeds that a case starts from. Few, so that streams are met again; the values still differ by kind, range and dtype.
SEEDS = 32


def tensor_of(storage: Storage) -> torch.Tensor:
    """The storage's elements as a new flat tensor."""
    values = storage.values
    if values.kind == "literal":
        return torch.tensor(values.items, dtype=DTYPES[storage.dtype])
    if values.kind == "blob":
        return blobs.load(storage)
    return filled(DTYPES[storage.dtype], (storage.size,), values.kind, values.seed, values.low, values.high)


class InputSampler:
    """How the inputs of one case are drawn: which values, how often an unusual layout.

    Attributes:
        kind: ``integers``, ``uniform`` or ``special``.
        odd: probability of a layout other than row-major.
        literal: probability of the recorded elements where a few whole numbers were recorded.
        magnitudes: probability of values by magnitude: a ladder of exponents, or numbers beside simple fractions.
        few: probability that an index means few places, so that some are repeated and others missing.
    """

    __slots__ = ("_reach", "_seed", "choices", "few", "kind", "literal", "magnitudes", "odd")

    def __init__(self, choices: Choices, kind: str, odd: float) -> None:
        self.choices, self.kind, self.odd, self.literal = choices, kind, odd, 0.5
        self.magnitudes, self.few = 0.0, 0.0
        self._seed = choices.integer(0, SEEDS - 1)
        self._reach = choices.pick((2, 3, 1, 4))

    def values(self, dtype: str, spread: Spread, size: int) -> Values:
        """What to fill a storage of ``size`` elements with."""
        kind, dtype_ = self.kind, DTYPES[dtype]
        whole = not (dtype_.is_floating_point or dtype_.is_complex)
        self._seed += 1
        low: float = -self._reach
        high: float = self._reach
        if spread.low is not None and spread.high is not None:
            low, high = _inner(spread.low, min(spread.high, spread.low + 8))
            if spread.kind == "any" and kind == "special" and self.choices.boolean(0.5):
                kind = "uniform"
        if dtype == "bool":
            return Values("integers", self._seed, 0, 1)
        free = spread.kind == "any" and (spread.low is None or not whole)
        if free and self.choices.boolean(self.magnitudes):
            return self._by_magnitude(dtype, low, high, climbs=spread.low is None)
        if whole:
            if spread.kind in ("index", "distinct"):
                low, high, kind = int(low), int(spread.high if spread.high is not None else high), "integers"
                if spread.kind == "index" and low < high and self.choices.boolean(self.few):
                    low = self.choices.integer(low, high)
                    high = min(low + self.choices.integer(0, 1), high)
            # What is stored names the stream by its bounds, which are added up in 64 bits with a sign.
            low, high = (min(max(bound, -(2**62)), 2**62) for bound in (low, high))
            low, high = math.ceil(low), max(math.floor(high), math.ceil(low))
            if not dtype_.is_signed:
                low, high = max(low, 0), max(high, low, 0)
            return Values("special" if kind == "special" else "integers", self._seed, low, high)
        if kind == "integers" and math.ceil(low) >= math.floor(high):
            kind = "uniform"  # no two whole numbers in this range
        if kind == "integers":
            return Values("integers", self._seed, math.ceil(low), math.floor(high))
        low, high = round(low, 4), round(high, 4)
        return Values("special" if kind == "special" else "uniform", self._seed, low, max(high, low + 0.0625))

    def _by_magnitude(self, dtype: str, low: float, high: float, *, climbs: bool) -> Values:
        """A ladder, where nothing bounds the values, or numbers beside simple fractions."""
        whole = dtype.startswith(("int", "uint"))
        if climbs and (whole or self.choices.boolean(0.6)):
            least, most = EXPONENTS[dtype]
            if self.kind == "special" and not whole:
                # To the ends of what the dtype can hold, and beyond them.
                finite = torch.finfo(DTYPES[dtype])
                least, most = math.frexp(finite.tiny)[1] - 3, math.frexp(finite.max)[1] - 1
            return Values("ladder", self._seed, least, most)
        return Values("beside", self._seed, low, high)

    def given(self, dtype: str, shape: tuple[int, ...], spread: Spread, *, writable: bool, plain: bool) -> Given | None:
        """A fresh input, or None where there are no values such as the slot needs.

        Args:
            dtype: its dtype.
            shape: its sizes.
            spread: which values it needs.
            writable: it will be written to, so no two elements share a place.
            plain: it has to be row-major.
        """
        size = math.prod(shape)
        literal = self._literal(dtype, shape, spread, size)
        if literal is not None:
            return Given(dtype, shape, row_major(len(shape)), Values("literal", items=literal), dtype)
        if spread.kind in ("distinct", "sorted", "definite") and size:
            return None
        layout = row_major(len(shape))
        stored = dtype
        if not plain and self.choices.boolean(self.odd):
            layout = fresh_layout(self.choices, shape, writable=writable)
            if spread.low is None and self.choices.boolean(0.1):
                stored = self._reinterpreted(dtype)
        return Given(dtype, shape, layout, self.values(stored, spread, size), stored)

    def _reinterpreted(self, dtype: str) -> str:
        found = [stored for view, stored in REINTERPRETED if view == dtype]
        return self.choices.pick(found) if found else dtype

    def _literal(self, dtype: str, shape: tuple[int, ...], spread: Spread, size: int) -> tuple[float, ...] | None:
        """The elements themselves, where the slot needs what no range can say."""
        choices = self.choices
        if spread.kind == "distinct" and dtype != "bool":
            return distinct(choices, int(spread.low or 0), int(spread.high or 0), size)
        if spread.literal is not None and len(spread.literal) == size and choices.boolean(self.literal):
            if dtype == "bool":
                return tuple(bool(item) for item in spread.literal)
            return spread.literal
        if spread.kind == "sorted" and size <= 256 and shape:
            low = int(spread.low) if spread.low is not None else -4
            low = low if DTYPES[dtype].is_signed else max(low, 0)
            whole = DTYPES[dtype].is_floating_point is False
            rows: list[float] = []
            for _ in range(size // shape[-1] if shape[-1] else 0):
                at: float = low
                for _ in range(shape[-1]):
                    rows.append(at)
                    at += choices.integer(0, 2) if whole else choices.integer(0, 4) / 2
            return tuple(rows)
        if spread.kind == "definite" and size <= 256 and len(shape) >= 2:
            items = definite(choices, shape, -1 if DTYPES[dtype].is_signed else 0)
            wide = DTYPES[dtype].is_floating_point or DTYPES[dtype].is_complex
            return items if wide else tuple(map(int, items))
        return None


@functools.lru_cache(4096)
def _inner(low: float, high: float) -> tuple[float, float]:
    """Quarters within observed bounds: readable, and few, so that streams of values are met again."""
    least, most = math.ceil(4 * low) / 4, math.floor(4 * high) / 4
    return (least, most) if least < most else (low, high)


def distinct(choices: Choices, low: int, high: int, size: int) -> tuple[int, ...] | None:
    """``size`` whole numbers of [low, high] that all differ, as indices that must not meet; None if too few exist."""
    low = max(low, 0)  # -1 and the last index are one place
    pool = list(range(low, high + 1))
    if size > len(pool) or size > 256:
        return None
    for i in range(size):
        j = choices.integer(i, len(pool) - 1)
        pool[i], pool[j] = pool[j], pool[i]
    return tuple(pool[:size])


def definite(choices: Choices, shape: tuple[int, ...], least: int = -1) -> tuple[float, ...]:
    """Symmetric matrices of whole numbers from ``least`` whose diagonal outweighs each row, hence positive definite."""
    n = shape[-1]
    items: list[float] = []
    for _ in range(math.prod(shape[:-2])):
        rows = [[0] * n for _ in range(n)]
        for i in range(n):
            for j in range(i):
                rows[i][j] = rows[j][i] = choices.integer(least, 1)
        for i in range(n):
            rows[i][i] = n + choices.integer(1, 3)
        items += [float(item) for row in rows for item in row]
    return tuple(items)

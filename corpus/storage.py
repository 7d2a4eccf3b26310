"""Inputs of a case, described and not stored: a recipe fills a flat storage, and each input is a view of one storage.

A view has shape, strides, offset and perhaps another dtype than its storage. So any layout, overlap or sharing between
inputs has one notation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from shakeout.corpus.program import InvalidProgram

__all__ = [
    "EXPONENTS",
    "MAGNITUDES",
    "InputSet",
    "Storage",
    "ValueKind",
    "Values",
    "View",
    "blobs_of",
    "contiguous",
    "extreme",
    "ladder_of",
    "later_values",
]

ValueKind: TypeAlias = Literal["integers", "uniform", "special", "ladder", "beside", "literal", "blob"]

#: Kinds that are drawn by magnitude (``standalone.magnitudes``); the other drawn ones are in a range.
MAGNITUDES = frozenset({"ladder", "beside"})

#: Binary exponents of a ladder whose numbers, their squares and sums of some of them are ordinary numbers of the dtype,
#: none of them subnormal; of whole numbers those beyond what float32 tells apart, where the dtype has them.
EXPONENTS: Mapping[str, tuple[int, int]] = {
    "float64": (-60, 12), "complex128": (-60, 12), "float32": (-40, 12), "complex64": (-40, 12), "bfloat16": (-30, 6),
    "float16": (-12, 5), "complex32": (-12, 5), "float8_e4m3fn": (-5, 3), "float8_e4m3fnuz": (-5, 3),
    "float8_e5m2": (-10, 4), "float8_e5m2fnuz": (-10, 4), "int8": (2, 5), "uint8": (2, 6), "int16": (2, 13),
    "uint16": (2, 14), "int32": (14, 29), "uint32": (14, 30), "int64": (20, 40), "uint64": (20, 40),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Values:
    """How a storage is filled.

    Attributes:
        kind: ``integers`` (whole numbers in [low, high]), ``uniform`` (in [low, high), multiples of a power of
            two), ``special`` (as ``uniform`` or ``integers``, by dtype, with about a quarter of the elements
            replaced by NaN, infinities, signed zeros, subnormals or the extremes of integers), ``ladder`` (numbers of
            either sign and of all magnitudes from 2**low to 2**(high + 1)), ``beside`` (multiples in [low, high] of 1,
            1/2, 1/10 and 1/3, and the floating-point numbers next to them), ``literal`` or ``blob`` (in a file beside
            the case; ``blobs.py``).
        seed: of the counter-based hash, 0 to 2**31 - 1; the same seed gives the same values on every machine.
        low: least value; of a ladder the least exponent.
        high: largest value; of a ladder the largest exponent.
        items: the elements themselves (``literal``); complex ones as Python complex numbers.
        blob: SHA-256 of the elements' bytes, as 64 hexadecimal digits (``blob``).
        places: directories in which the blob's file is looked for, in order. Where a copy lies is no part of what a
            case is: it counts neither for equality nor for the text, and so not for the id.
    """

    kind: ValueKind
    seed: int = 0
    low: float = -2.0
    high: float = 2.0
    items: tuple[bool | int | float | complex, ...] = ()
    blob: str = ""
    places: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat piece of memory of ``size`` elements of ``dtype``."""

    dtype: str
    size: int
    values: Values


@dataclass(frozen=True, slots=True)
class View:
    """One input as a window on a storage; strides and offset count elements of ``dtype``.

    ``dtype`` differs from the storage's for an input that reinterprets the bytes.
    """

    storage: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    requires_grad: bool = False


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a row-major tensor of this shape, in elements."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class InputSet:
    """The tensors of one call, one view for each input of the program."""

    storages: tuple[Storage, ...]
    views: tuple[View, ...]

    def __post_init__(self) -> None:
        for position, view in enumerate(self.views):
            if not 0 <= view.storage < len(self.storages):
                raise InvalidProgram(f"input {position} is a view of storage {view.storage}, which does not exist")
            if len(view.shape) != len(view.strides):
                raise InvalidProgram(
                    f"input {position} has {len(view.shape)} dimensions but {len(view.strides)} strides"
                )

    def shared(self) -> bool:
        """Whether two inputs are views of one storage."""
        used = [view.storage for view in self.views]
        return len(set(used)) < len(used)


def blobs_of(input_sets: Sequence[InputSet]) -> tuple[Storage, ...]:
    """The storages whose values are blobs."""
    return tuple(storage for inputs in input_sets for storage in inputs.storages if storage.values.kind == "blob")


def extreme(storage: Storage) -> bool:
    """Whether what is drawn goes to the ends of the dtype: ``special``, or a ladder with subnormals and infinities."""
    values = storage.values
    if values.kind != "ladder" or storage.dtype not in EXPONENTS:
        return values.kind == "special"
    low, high = EXPONENTS[storage.dtype]
    return values.low < low or values.high > high


def ladder_of(values: Values, dtype: str) -> Values:
    """A ladder of those of its exponents that are ordinary in another dtype, or the nearest that is."""
    low, high = EXPONENTS.get(dtype, (2, 5))
    return replace(values, low=min(max(values.low, low), high), high=max(min(values.high, high), low))


def later_values(input_sets: Sequence[InputSet]) -> bool:
    """Whether a storage is filled in a way that format 1 of a case's text cannot say."""
    later = MAGNITUDES | {"blob"}
    return any(storage.values.kind in later for inputs in input_sets for storage in inputs.storages)

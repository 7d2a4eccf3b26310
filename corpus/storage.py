"""Inputs of a case, described and not stored: a recipe fills a flat storage, and each input is a view of one storage.

A view has shape, strides, offset and perhaps another dtype than its storage. So any layout, overlap or sharing between
inputs has one notation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from shakeout.corpus.program import InvalidProgram

__all__ = ["InputSet", "Storage", "Values", "View", "blobs_of", "contiguous"]

ValueKind = Literal["integers", "uniform", "special", "literal", "blob"]


@dataclass(frozen=True, slots=True)
class Values:
    """How a storage is filled.

    Attributes:
        kind: ``integers`` (whole numbers in [low, high]), ``uniform`` (in [low, high), multiples of a power of
            two), ``special`` (as ``uniform`` or ``integers``, by dtype, with about a quarter of the elements
            replaced by NaN, infinities, signed zeros, subnormals or the extremes of integers), ``literal`` or ``blob``
            (in a file beside the case; ``blobs.py``).
        seed: of the counter-based hash, 0 to 2**31 - 1; the same seed gives the same values on every machine.
        low: least value.
        high: largest value.
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

"""Where in a tensor a difference lies and how large it is there: a picture of it in few numbers, told to people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shakeout.oracles.explanation import scalar

if TYPE_CHECKING:
    import torch

__all__ = ["COLUMNS", "ROWS", "WORST", "Cell", "Extent", "Place", "extent"]

#: A tensor is looked at as a matrix, and that through a window of so many cells at most: what fits on a page, and what
#: may be stored with each failure, some kilobytes where all of a large tensor is wrong.
ROWS, COLUMNS = 16, 32

#: Elements that are written out.
WORST = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """A block of the matrix in which something is wrong.

    Attributes:
        row, column: of the block.
        wrong: elements in it that are.
        apart: the largest distance in it between expected and found; None where one of the two is no number there, or
            infinite.
    """

    row: int
    column: int
    wrong: int
    apart: float | None


@dataclass(frozen=True, slots=True)
class Place:
    """One wrong element: its index, both values as JSON, and their distance as in ``Cell``."""

    index: tuple[int, ...]
    expected: Any
    found: Any
    apart: float | None


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a tensor is wrong.

    It is taken as a matrix: columns are its last dimension, rows all dimensions before, in row-major order. A scalar is
    a matrix of one element.

    Attributes:
        shape: of the tensor.
        block: rows and columns of the matrix that a cell stands for; the last cells may stand for fewer.
        cells: those in which something is wrong, row by row.
        worst: the elements that are furthest off, those that are no number first.
    """

    shape: tuple[int, ...]
    block: tuple[int, int]
    cells: tuple[Cell, ...]
    worst: tuple[Place, ...]

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return _matrix(self.shape)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        (rows, columns), (high, wide) = self.matrix, self.block
        return -(-rows // high), -(-columns // wide)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "shape": list(self.shape),
            "block": list(self.block),
            "cells": [[cell.row, cell.column, cell.wrong, cell.apart] for cell in self.cells],
            "worst": [[list(one.index), one.expected, one.found, one.apart] for one in self.worst],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Extent:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is something else.
        """
        try:
            high, wide = (int(one) for one in data["block"])
            found = cls(
                shape=tuple(int(size) for size in data["shape"]),
                block=(high, wide),
                cells=tuple(Cell(int(r), int(c), int(n), _number(apart)) for r, c, n, apart in data["cells"]),
                worst=tuple(Place(tuple(map(int, i)), want, got, _number(by)) for i, want, got, by in data["worst"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not the extent of a difference: {type(error).__name__}: {error}") from None
        # Whoever draws it makes as many cells as this says.
        drawable = min(*found.shape, *found.block) >= 1 and all(
            one <= most for one, most in zip(found.grid, (ROWS, COLUMNS), strict=True)
        )
        if not drawable or len(found.cells) > ROWS * COLUMNS:
            raise ValueError(f"not the extent of a difference: blocks of {found.block} in a tensor of {found.shape}")
        return found


def extent(want: torch.Tensor, got: torch.Tensor, bad: torch.Tensor) -> Extent:
    """Where ``got`` is wrong.

    Args:
        want: what the reference gives; not empty.
        got: what is found, of the same shape and dtype.
        bad: bool, where they differ; at least once.
    """
    import torch

    shape = tuple(map(int, want.shape))
    rows, columns = _matrix(shape)
    high, wide = -(-rows // ROWS), -(-columns // COLUMNS)
    down, across = -(-rows // high), -(-columns // wide)
    # Only what is wrong is looked at: it is little mostly, and of a large tensor that is all there is room for.
    wrong = bad.reshape(-1).nonzero().reshape(-1)
    apart = _distance(want.reshape(-1)[wrong], got.reshape(-1)[wrong])
    # Infinite is what has no distance: it is the largest in its block, and comes first among the worst.
    apart.nan_to_num_(nan=math.inf, posinf=math.inf)
    cell = wrong // columns // high * across + wrong % columns // wide
    counts = cell.bincount(minlength=down * across)
    largest = torch.zeros_like(counts, dtype=apart.dtype).scatter_reduce_(0, cell, apart, "amax")
    cells = tuple(
        Cell(*divmod(number, across), count, _told(size))
        for number, (count, size) in enumerate(zip(counts.tolist(), largest.tolist(), strict=True))
        if count
    )
    first = apart.topk(min(WORST, apart.numel())).indices.sort().values  # to sort all would take longer than to run
    order = first[apart[first].argsort(descending=True, stable=True)]
    worst = []
    for number, size in zip(wrong[order].tolist(), apart[order].tolist(), strict=True):
        index = tuple(int(i) for i in torch.unravel_index(torch.tensor(number), shape)) if shape else ()
        worst.append(Place(index, scalar(want[index]), scalar(got[index]), _told(size)))
    return Extent(shape, (high, wide), cells, tuple(worst))


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(shape[:-1]), (shape[-1] if shape else 1)


def _distance(want: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """Element by element, in double precision: of whole numbers beyond 2**53 it is rounded."""
    import torch

    wide = torch.complex128 if want.dtype.is_complex else torch.float64
    return (got.to(wide) - want.to(wide)).abs()


def _told(apart: float) -> float | None:
    """Three digits tell enough."""
    rounded = float(f"{apart:.3g}")
    return rounded if math.isfinite(rounded) else None


def _number(value: Any) -> float | None:
    if value is None:
        return None
    number = float(value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{value!r} is no distance")
    return number

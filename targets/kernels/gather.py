"""Zero-copy gather: rows of a table are read where they lie, by lanes that begin at a line of memory.

Min et al.: Large Graph Convolutional Network Training with GPU-Oriented Data Communication Architecture (VLDB 2021).
A GPU reads host memory in lines of 128 bytes. A row that begins within a line costs each group of lanes a further one,
so the lanes are shifted: with ``off`` elements between the beginning of the line and that of the row, lane ``i`` takes
column ``i - off``, and those with a negative column do nothing. On a CPU the lanes are simulated, group by group, and
the lines that each group touches are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from shakeout.targets.kernels.declare import kernel
from shakeout.targets.kernels.invariants import differing, exactly

__all__ = ["LANES", "LINE", "gather_rows", "lines_touched"]

#: Bytes of a line.
LINE = 128

#: Lanes of a group, which read together: a warp.
LANES = 32


def _columns(begin: int, width: int, size: int, aligned: bool) -> Iterator[torch.Tensor]:
    """The columns that each group of lanes reads of a row.

    Args:
        begin: of the row, in bytes from the beginning of a line.
        width: of the row, in elements.
        size: of an element, in bytes.
        aligned: whether lanes are shifted so that each group begins at a line.
    """
    if not width:
        return
    off = begin % LINE // size if aligned else 0
    for first in range(-off, width, LANES):
        if first + LANES > 0:  # else the whole group lies before the row
            yield torch.arange(max(first, 0), min(first + LANES, width))


def _gathered(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    count, width = table.shape
    rows = index.to(torch.int64)
    if bool(((rows < 0) | (rows >= count)).any()):
        raise IndexError(f"index out of range of {count} rows")
    size = table.element_size()
    memory = table.as_strided((table.untyped_storage().nbytes() // size,), (1,), 0)
    result = table.new_empty(len(rows), width)
    for place, row in enumerate(rows.tolist()):
        begin = table.storage_offset() + row * table.stride(0)
        for columns in _columns(begin * size, width, size, aligned=True):
            result[place, columns] = memory[begin + columns]
    return result


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.shape = table.shape
        return _gathered(table, index)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        (index,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_add(0, index.to(torch.int64), gradient), None


# --- the second implementation, and what else holds ------------------------------------------------------------------


def gathered_one_by_one(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The rows as a loop over the index takes them."""
    return torch.stack([table[int(row)] for row in index]) if len(index) else table.new_empty(0, table.shape[1])


def lines_touched(table: torch.Tensor, row: int, aligned: bool) -> int:
    """How many lines the groups of lanes read for one row, those that several of them read counted for each."""
    size = table.element_size()
    begin = int(table.storage_offset() + row * table.stride(0)) * size
    groups = ((columns * size + begin).tolist() for columns in _columns(begin, table.shape[1], size, aligned))
    return sum((part[-1] + size - 1) // LINE - part[0] // LINE + 1 for part in groups)


def alignment_costs_no_line(kernel: Callable[..., Any], table: torch.Tensor, index: torch.Tensor) -> str | None:
    """Shifted lanes touch no more lines than others do, wherever in memory the rows lie, and every element once."""
    size, width = table.element_size(), table.shape[1]
    for begin in range(0, LINE, size):
        held = torch.empty(begin // size + width, dtype=table.dtype)[begin // size :].unsqueeze(0)
        shifted, plain = (lines_touched(held, 0, aligned) for aligned in (True, False))
        # Of elements of one or two bytes a group reads a part of a line only, and the shift may cost a group.
        if shifted > plain and LANES * size >= LINE:
            return f"{shifted} lines for a row of {width} elements at byte {begin} of a line, {plain} without the shift"
        read = list(_columns(begin, width, size, aligned=True))
        if (torch.cat(read).tolist() if read else []) != list(range(width)):
            return f"of a row of {width} elements at byte {begin} of a line not every element is read once"
    return None


def places_decide_nothing(kernel: Callable[..., Any], table: torch.Tensor, index: torch.Tensor) -> str | None:
    """A table that begins anywhere in its memory, or of which every other row is taken, gives the same rows."""
    wanted = gathered_one_by_one(table, index)
    for offset in (1, 3, 31):
        held = torch.cat([table.new_zeros(offset), table.flatten()])[offset:].view(table.shape)
        if said := differing(kernel(held, index), wanted):
            return f"at offset {offset}: {said}"
    spaced = torch.stack([table, torch.zeros_like(table)], 1).flatten(0, 1)[::2]
    if said := differing(kernel(spaced, index), wanted):
        return f"every other row: {said}"
    if said := differing(kernel(table, index.to(torch.int32)), wanted):
        return f"an index of 32 bits: {said}"
    return None


def outside_is_an_error(kernel: Callable[..., Any], table: torch.Tensor, index: torch.Tensor) -> str | None:
    """A row that does not exist is an IndexError, as indexing has it, and never another row."""
    for row in (len(table), -1):
        try:
            kernel(table, torch.cat([index, index.new_tensor([row])]))
        except IndexError:
            continue
        return f"row {row} of {len(table)} is given"
    return None


# --- the kernel -------------------------------------------------------------------------------------------------------


def selected(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of a table, by indexing."""
    return table.index_select(0, index)


def _examples() -> Iterator[Any]:
    yield torch.randn(5, 37), torch.tensor([0, 4, 2, 2, 3, 0])
    yield torch.randn(5, 3), torch.tensor([4, 4, 4])
    yield torch.randn(6, 40)[:, 1:34], torch.tensor([5, 0, 1], dtype=torch.int32)
    yield torch.arange(30, dtype=torch.uint8).reshape(3, 10), torch.tensor([2, 0])
    yield torch.randn(4, 9, dtype=torch.complex64), torch.tensor([1, 3])


@kernel(
    reference=selected,
    examples=_examples,
    invariants=(
        exactly(gathered_one_by_one),
        alignment_costs_no_line,
        places_decide_nothing,
        outside_is_an_error,
    ),
)
def gather_rows(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Rows of a table ``[n, d]``, in the order of an index ``[m]``.

    Raises:
        IndexError: there is no such row.
    """
    if table.dim() != 2 or index.dim() != 1 or index.dtype not in (torch.int32, torch.int64):
        raise NotImplementedError("a table of rows and an index of whole numbers")
    table = table.resolve_conj().resolve_neg()
    if table.stride(1) != 1:
        table = table.contiguous()  # a lane's neighbour in memory is the next column
    return _Gather.apply(table, index)  # type: ignore[no-any-return, no-untyped-call]

"""Broken variants of the gather."""

from tests.faults.systems import Broken

BROKEN = (
    Broken(
        "gather_rows",
        "the last group of lanes is left out",
        "for first in range(-off, width, LANES):",
        "for first in range(-off, max(width - LANES + 1, 1 - off), LANES):",
    ),
    Broken(
        "gather_rows",
        "the shift is in bytes, and not in elements",
        "off = begin % LINE // size if aligned else 0",
        "off = begin % LINE if aligned else 0",
    ),
    Broken(
        "gather_rows",
        "lanes before the row read the row before",
        "torch.arange(max(first, 0), min(first + LANES, width))",
        "torch.arange(first, min(first + LANES, width))",
    ),
    Broken(
        "gather_rows",
        "the place in memory of the table is left out",
        "begin = table.storage_offset() + row * table.stride(0)\n        for",
        "begin = row * table.stride(0)\n        for",
    ),
    Broken(
        "gather_rows",
        "a negative row counts from the end",
        "if bool(((rows < 0) | (rows >= count)).any()):",
        "if bool((rows >= count).any()):",
    ),
    Broken(
        "gather_rows",
        "gradients of a row that is taken twice are not added up",
        "gradient.new_zeros(ctx.shape).index_add(0, index.to(torch.int64), gradient)",
        "gradient.new_zeros(ctx.shape).index_copy(0, index.to(torch.int64), gradient)",
    ),
)

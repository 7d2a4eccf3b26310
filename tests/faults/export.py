"""Faults in torch.export's program: the module that it makes goes wrong in one operator."""

from __future__ import annotations

from typing import Any

import torch
from tests.faults.fault import Fault, inputs, numbers
from tests.faults.graphs import Graph, after, instead, off, some

aten = torch.ops.aten


def _fault(name: str, group: str, operators: tuple[Any, ...], wrong: Any, program: Any, *given: torch.Tensor) -> Fault:
    plant = Graph(operators, wrong, seam="export")
    return Fault(name, "mutant", group, "export", plant, program, (inputs(*given),))


EXPORT = (
    _fault("sine is off", "arithmetic rewrite", (aten.sin,), off(some("all")), torch.sin, numbers(6)),
    _fault("one cosine is off", "predicate dropped", (aten.cos,), off(some("one"), 1e-3), torch.cos, numbers(600)),
    _fault(
        "an in-place sum is made out of place",
        "mutation lost",
        (aten.add_,),
        instead(aten.add),
        lambda x: x.add_(1).sin(),
        numbers(6),
    ),
    _fault(
        "NaN is less than everything",
        "NaN rule",
        (aten.amax,),
        instead(lambda x, *a: aten.amax(x.nan_to_num(nan=-9.0), *a)),
        lambda x: torch.amax(x, 0),
        torch.tensor([1.0, float("nan"), 2.0]),
    ),
    _fault(
        "a cast keeps the sign of bytes",
        "narrow-integer wrap",
        (aten.to, aten._to_copy),
        after(lambda r: r.to(torch.int8).to(r.dtype)),
        lambda x: x.to(torch.int16),
        torch.tensor([1, 200, 255], dtype=torch.uint8),
    ),
)

"""A grid of faults in one operator: how many elements are wrong, and under which condition."""

from __future__ import annotations

from typing import Any

import torch
from tests.faults.fault import Fault, inputs, numbers
from tests.faults.graphs import Graph, Site, When, off, some

aten = torch.ops.aten


def _wide(site: Site, args: Any) -> bool:
    return max(args[0].shape, default=0) >= 8


def _odd(site: Site, args: Any) -> bool:
    return args[0].numel() % 2 == 1


def _nan(site: Site, args: Any) -> bool:
    return bool(args[0].isnan().any())


_CONDITIONS: dict[str, When] = {
    "always": lambda site, args: True,
    "a dimension of 8 or more": _wide,
    "an odd number of elements": _odd,
    "NaN among the elements": _nan,
}

_SPECIAL = numbers(11, 19)
_SPECIAL[3, 4] = float("nan")


def _product(x: torch.Tensor) -> torch.Tensor:
    return torch.mul(x, x).sin()


GRID = tuple(
    Fault(
        f"product of {size} wrong: {condition}",
        "trivial" if size == "all" and condition == "always" else "mutant",
        "grid",
        "aot_eager",
        Graph((aten.mul.Tensor,), off(some(size), 0.5), when),
        _product,
        (inputs(_SPECIAL if "NaN" in condition else numbers(11, 19)),),
    )
    for size in ("all", "1 %", "one")
    for condition, when in _CONDITIONS.items()
)

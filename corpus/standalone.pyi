"""Types of ``standalone.py``, whose text goes into scripts and stays free of annotations."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

nan: float
inf: float

def fill(dtype: torch.dtype, shape: tuple[int, ...], kind: str, seed: int, low: float, high: float) -> torch.Tensor: ...
def blob(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor: ...
def strided(
    storage: torch.Tensor,
    dtype: torch.dtype,
    shape: Sequence[int],
    strides: Sequence[int],
    offset: int | torch.SymInt,
) -> torch.Tensor: ...
def cotangent(output: torch.Tensor) -> torch.Tensor: ...
def observe(
    function: Callable[..., Any], arguments: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]: ...
def memory(tensor: torch.Tensor) -> torch.Tensor: ...
def aliases(tensors: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> list[int]: ...
def step(
    parameters: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
) -> None: ...
def shown(
    outputs: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor | None],
    held: Sequence[torch.Tensor],
    state: torch.Tensor,
) -> dict[str, Any]: ...
def run(
    bind: Callable[[list[torch.Tensor]], Any],
    arguments: Callable[[list[torch.Tensor]], list[torch.Tensor]],
    calls: Sequence[Callable[[], list[torch.Tensor]]],
    prepare: Callable[[Any], Callable[..., Any]],
) -> list[dict[str, Any]]: ...
def compare(
    name: str,
    want: torch.Tensor | None,
    got: torch.Tensor | None,
    tolerances: Mapping[str, tuple[float, float]],
    strides: bool = True,
) -> list[str]: ...
def differences(
    expected: Sequence[Mapping[str, Any]],
    actual: Sequence[Mapping[str, Any]],
    tolerances: Mapping[str, tuple[float, float]],
    promises: Collection[str],
) -> list[str]: ...
def main(
    prepare: Callable[[Any], Callable[..., Any]], stages: Sequence[tuple[str, Callable[..., Any]]] = ()
) -> int: ...
def isolated(
    prepare: Callable[[Any], Callable[..., Any]], limit: float, stages: Sequence[tuple[str, Callable[..., Any]]] = ()
) -> int: ...
def mark(calls: Sequence[Mapping[str, Any]]) -> str: ...
def repeated(prepare: Callable[[Any], Callable[..., Any]], limit: float) -> int: ...

"""Types of ``tvm_staged.py``, whose text goes into scripts and stays free of annotations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

def tvm_imported(function: Callable[..., Any], given: Sequence[torch.Tensor], decompositions: bool = True) -> Any: ...
def tvm_built(
    module: Any,
    pipeline: str = "default",
    passes: Sequence[str] = (),
    level: int | None = None,
    disabled: Sequence[str] = (),
    mode: str = "bytecode",
    llvm: int | None = None,
    cpu: str | None = None,
) -> Any: ...
def tvm_run(machine: Any, given: Sequence[torch.Tensor]) -> list[torch.Tensor]: ...
def tvm_stages(module: Any, unoptimised: Mapping[str, Any]) -> list[tuple[str, Callable[..., list[torch.Tensor]]]]: ...
def tvm_declined(error: BaseException | None) -> bool: ...

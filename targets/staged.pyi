"""Types of ``staged.py``, whose text goes into scripts and stays free of annotations."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

KEPT: dict[str, Any]
SPENT: dict[str, float]
STAGES: list[tuple[str, Callable[..., Any]]]

class Declined(Exception): ...

def stage(name: str) -> AbstractContextManager[None]: ...

class Exportable(torch.nn.Module):
    function: Callable[..., Any]
    def __init__(self, function: Callable[..., Any]) -> None: ...

def varying(given: Sequence[torch.Tensor]) -> Any: ...
def exported(
    function: Callable[..., Any], given: Sequence[torch.Tensor], strict: bool = False
) -> torch.export.ExportedProgram: ...
def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram: ...
def export_declined(error: BaseException | None) -> bool: ...

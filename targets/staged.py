"""What targets that export, import and compile in stages need; its functions are printed into their scripts.

Like ``corpus/standalone.py``: one text for the worker and for the report, independent of everything else in Shakeout.
``CALLS`` and ``arguments`` are the case's; ``KEPT``, ``SPENT`` and ``STAGES`` are where the worker looks.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from shakeout.corpus.standalone import CALLS, arguments

KEPT: dict[str, Any] = {}
SPENT: dict[str, float] = {}
STAGES: list[tuple[str, Callable[..., Any]]] = []


class Declined(Exception):
    """The compiler does not take such a program."""


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Name where an exception comes from, and measure the time."""
    began = time.perf_counter()
    try:
        yield
    except Exception as error:
        error.stage = getattr(error, "stage", name)  # type: ignore[attr-defined]
        raise
    finally:
        SPENT[name] = SPENT.get(name, 0.0) + time.perf_counter() - began


class Exportable(torch.nn.Module):
    """The network, function or module, as the module that torch.export wants."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: torch.Tensor) -> Any:
        """Call it."""
        return self.function(*given)


def varying(given: Sequence[torch.Tensor]) -> Any:
    """For each argument the dimensions whose size differs between the calls, as torch.export wants to be told."""
    shapes = [[t.shape for t in arguments(make())] for make in CALLS]
    dynamic = torch.export.Dim.DYNAMIC
    found = [
        {d: dynamic for d in range(t.dim()) if any(other[i][d] != t.shape[d] for other in shapes)}
        for i, t in enumerate(given)
    ]
    return (tuple(found),) if any(found) else None


def exported(
    function: Callable[..., Any], given: Sequence[torch.Tensor], strict: bool = False
) -> torch.export.ExportedProgram:
    """The network as torch.export sees it; kept for other settings of the same program."""
    key = f"exported, strict={strict}"
    if key not in KEPT:
        with stage("torch.export"):
            network = Exportable(function)
            KEPT[key] = torch.export.export(network, tuple(given), dynamic_shapes=varying(given), strict=strict)
    return KEPT[key]  # type: ignore[no-any-return]


def functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The exported program without writes; one that writes to its inputs is declined."""
    if "functional" not in KEPT:
        with stage("torch.export"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            KEPT["functional"] = program.run_decompositions({})
    signature = KEPT["functional"].graph_signature
    written = [*signature.user_inputs_to_mutate.values(), *signature.buffers_to_mutate.values()]
    written += signature.parameters_to_mutate.values()
    if written:
        raise Declined(f"the program writes to its inputs ({', '.join(sorted(set(written)))})")
    return KEPT["functional"]  # type: ignore[no-any-return]


def export_declined(error: BaseException | None) -> bool:
    """Whether torch.export says that it does not support the program, rather than fails on it."""
    words = {"Declined", "Unsupported", "UserError", "UnsupportedFakeTensorException", "DynamicOutputShapeException"}
    words |= {"DataDependentOutputException", "UnsupportedOperatorException", "GuardOnDataDependentSymNode"}
    words |= {"UnsupportedMutationAliasingException", "MissingOperatorWithoutDecomp", "NotImplementedError"}
    words |= {"ConstraintViolationError", "PendingUnbackedSymbolNotFound"}
    said = ("does not currently support", "currently banned", "currently not allowed", "does not yet handle")
    said += ("is banned in compile",)  # type: ignore[assignment]
    while error is not None:
        if type(error).__name__ in words or any(part in str(error) for part in said):
            return True
        error = getattr(error, "inner_exception", None) or error.__cause__
    return False

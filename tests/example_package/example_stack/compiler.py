"""A very small compiler: it runs a network operator by operator, and has some of them computed another way."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["PASSES", "Unsupported", "compile", "selected"]


class Unsupported(Exception):
    """The compiler does not take such a network."""


def _square(x: torch.Tensor) -> torch.Tensor:
    return x * x


def _reciprocal(x: torch.Tensor) -> torch.Tensor:
    return 1 / x


def _sine(x: torch.Tensor) -> torch.Tensor:
    return x - x**3 / 6  # right for small angles only


#: By name: the level from which on it is done, the operator, and what takes its place.
PASSES: dict[str, tuple[int, str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "square": (1, "square", _square),
    "reciprocal": (2, "reciprocal", _reciprocal),
    "fast_sine": (2, "sin", _sine),
}


def selected(level: int, disabled: Collection[str], fast_math: bool) -> list[str]:
    """The passes that are done."""
    return [
        name
        for name, (least, _, _) in PASSES.items()
        if least <= level and name not in disabled and (fast_math or name != "fast_sine")
    ]


def compile(
    function: Callable[..., Any], level: int = 2, disabled: Collection[str] = (), fast_math: bool = False
) -> Callable[..., Any]:
    """A function of the same arguments; raises Unsupported, when it is called, for what it does not take."""
    table = {PASSES[name][1]: PASSES[name][2] for name in selected(level, disabled, fast_math)}

    def run(*given: torch.Tensor) -> Any:
        if any(tensor.is_complex() for tensor in given):
            raise Unsupported("there are no complex numbers here")
        with _Rewriting(table):
            return function(*given)

    return run


class _Rewriting(TorchFunctionMode):
    def __init__(self, table: dict[str, Callable[[torch.Tensor], torch.Tensor]]) -> None:
        super().__init__()
        self.table = table

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rewrite = self.table.get(getattr(func, "__name__", ""))
        if rewrite is None or kwargs or len(args) != 1:
            return func(*args, **(kwargs or {}))
        return rewrite(args[0])

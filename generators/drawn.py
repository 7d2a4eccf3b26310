"""A program that a property test is given: callable, with its inputs, and printed as the source that it is."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.program import Program

__all__ = ["DrawnProgram"]


@dataclass(frozen=True, repr=False)
class DrawnProgram:
    """A program with inputs that eager PyTorch accepts; called like the function that it is.

    Attributes:
        case: the program, the recipe of its inputs, and eager PyTorch as the target. ``case.text`` can be stored.
    """

    case: Case

    @property
    def program(self) -> Program:
        """The program as a value: inputs, calls, types."""
        return self.case.program

    @functools.cached_property
    def function(self) -> Any:
        """The function behind it, from source text of its own, as a compiler wants it."""
        return self._namespace["program"]

    def inputs(self) -> list[torch.Tensor]:
        """Its inputs, new tensors with each call: a program may write to them."""
        made: list[torch.Tensor] = self._namespace["CALLS"][0]()
        return made

    def __call__(self, *inputs: torch.Tensor) -> tuple[Any, ...]:
        """What it returns for these inputs."""
        outputs: tuple[Any, ...] = self.function(*inputs)
        return outputs

    def __repr__(self) -> str:
        """Its source and that of its inputs."""
        return "\n\n".join(("", script.definition(self.program), *script.inputs(self.case), ""))

    @functools.cached_property
    def _namespace(self) -> dict[str, Any]:
        return script.load(self.case)

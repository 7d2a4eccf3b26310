"""What a property test is given: a program that can be called, or a case, printed as the source that they are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.program import Program

__all__ = ["DrawnCase", "DrawnProgram"]


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
        return _source(self.case)

    @functools.cached_property
    def _namespace(self) -> dict[str, Any]:
        return script.load(self.case)


class DrawnCase(Case):
    """A case that Hypothesis prints as its source; equal to the case that it is."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Case):
            return NotImplemented
        return (self.program, self.input_sets, self.setting) == (other.program, other.input_sets, other.setting)

    __hash__ = Case.__hash__

    def __repr__(self) -> str:
        """Its target and setting, its source and that of its inputs."""
        setting = self.setting
        knobs = ", ".join(f"{name}={value!r}" for name, value in setting.knobs) or "default knobs"
        return f"\n# {self.id} on {setting.target}, {setting.mode}, {knobs}{_source(self)}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same for Hypothesis, which would print each field of a dataclass."""
        for number, line in enumerate(repr(self).splitlines()):
            if number:
                printer.break_()
            printer.text(line)


def _source(case: Case) -> str:
    return "\n\n".join(("", script.definition(case.program), *script.inputs(case), ""))

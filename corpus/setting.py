"""Settings: everything that varies beside a program and its inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "COTANGENTS",
    "HISTORY",
    "OVERWRITES",
    "RANDOM",
    "REFUSALS",
    "SANITIZE",
    "Cotangent",
    "Knob",
    "KnobSpace",
    "Mode",
    "Promise",
    "Scalar",
    "Setting",
]

Scalar = None | bool | int | float | str
Mode = Literal["inference", "training"]

#: What gradients are asked for with: whole numbers that lie row-major in memory, or the same in column-major order,
#: with the first row in the place of every other (as behind a sum), as every second element of other memory, or
#: fractions.
Cotangent = Literal["whole", "transposed", "expanded", "sliced", "fractional"]
COTANGENTS: tuple[Cotangent, ...] = ("whole", "transposed", "expanded", "sliced", "fractional")

#: The knob that says what an artefact has been through before its first call, where a target has it.
HISTORY = "history"

#: The knob under which programs write to what the backward pass needs. Eager refuses that pass, so the reference keeps
#: copies of what autograd saves; a target that takes such things out of autograd's hands, and with them out of the
#: check that eager makes, must refuse as well or be right.
OVERWRITES = "overwrites"

#: The knob that has kernels built with a sanitizer's checks.
SANITIZE = "sanitize"

#: The knob under which nothing counts as "not supported": what a target refuses is a finding. Every target has it,
#: since it is not the target that it changes but what is made of its answer.
REFUSALS = "refusals"

#: The knob under which a compiler draws random numbers as the reference does. What a case that draws some computes
#: hangs on it, so that nobody leaves it out as long as the case does.
RANDOM = "fallback_random"

#: What a target promises beside equal meaning: ``bits`` (the reference's very bits, random state included; an offload
#: runtime does, a compiler does not), ``layout`` (the strides of its outputs, and which of them share memory),
#: ``writes`` (it takes programs that write to their inputs) and ``repeats`` (its own bits, each time it is prepared and
#: run).
Promise = Literal["bits", "layout", "writes", "repeats"]


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing that a target lets a setting vary; ``values[0]`` is the default.

    One that is not ``drawn`` holds for a whole campaign, where somebody pins it.
    """

    name: str
    values: tuple[Scalar, ...]
    help: str = ""
    drawn: bool = True

    @property
    def default(self) -> Scalar:
        """What holds when the setting does not name the knob."""
        return self.values[0]


KnobSpace = tuple[Knob, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that varies beside program and inputs.

    Attributes:
        target: name of the target (``inductor``, ``mypackage.kernels:my_conv2d``).
        knobs: sorted pairs; only what is off its default.
        mode: ``inference`` (under ``no_grad``) or ``training`` (gradients are part of what is compared).
        device: ``cpu`` or ``cuda``.
        cotangent: what gradients are asked for with; ``whole`` where there are none.
    """

    target: str
    knobs: tuple[tuple[str, Scalar], ...] = ()
    mode: Mode = "inference"
    device: str = "cpu"
    cotangent: Cotangent = "whole"

    def __post_init__(self) -> None:
        if self.mode == "inference" and self.cotangent != "whole":
            object.__setattr__(self, "cotangent", "whole")

    def knob(self, name: str, default: Scalar = None) -> Scalar:
        """The value of a knob, or ``default`` where the setting leaves it alone."""
        return dict(self.knobs).get(name, default)

    def told(self) -> Setting:
        """What the target is told of it: all but what is made of its answer."""
        return replace(self, knobs=tuple(pair for pair in self.knobs if pair[0] != REFUSALS))

"""Cases: a program, what it is fed with, and the setting it runs under.

Inputs are described, not stored: a flat storage is filled by a recipe and every input is a view of one storage
(shape, strides, offset, perhaps another dtype). So any layout, overlap or sharing between inputs has one notation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal

from shakeout.corpus.program import InvalidProgram, Program

__all__ = [
    "HISTORY",
    "SANITIZE",
    "Case",
    "InputSet",
    "Knob",
    "KnobSpace",
    "Promise",
    "Scalar",
    "Setting",
    "Storage",
    "Values",
    "View",
    "contiguous",
]

Scalar = None | bool | int | float | str
ValueKind = Literal["integers", "uniform", "special", "literal", "blob"]
Mode = Literal["inference", "training"]

#: The knob that says what an artefact has been through before its first call, where a target has it.
HISTORY = "history"

#: The knob that has kernels built with a sanitizer's checks.
SANITIZE = "sanitize"

#: What a target promises beside equal meaning: ``bits`` (the reference's very bits, random state included; an offload
#: runtime does, a compiler does not), ``layout`` (the strides of its outputs, and which of them share memory),
#: ``writes`` (it takes programs that write to their inputs) and ``repeats`` (its own bits, each time it is prepared and
#: run).
Promise = Literal["bits", "layout", "writes", "repeats"]


@dataclass(frozen=True, slots=True)
class Values:
    """How a storage is filled.

    Attributes:
        kind: ``integers`` (whole numbers in [low, high]), ``uniform`` (in [low, high), multiples of a power of
            two), ``special`` (as ``uniform`` or ``integers``, by dtype, with about a quarter of the elements
            replaced by NaN, infinities, signed zeros, subnormals or the extremes of integers), ``literal`` or ``blob``
            (in a file beside the case; ``blobs.py``).
        seed: of the counter-based hash, 0 to 2**31 - 1; the same seed gives the same values on every machine.
        low: least value.
        high: largest value.
        items: the elements themselves (``literal``); complex ones as Python complex numbers.
        blob: SHA-256 of the elements' bytes, as 64 hexadecimal digits (``blob``).
        places: directories in which the blob's file is looked for, in order. Where a copy lies is no part of what a
            case is: it counts neither for equality nor for the text, and so not for the id.
    """

    kind: ValueKind
    seed: int = 0
    low: float = -2.0
    high: float = 2.0
    items: tuple[bool | int | float | complex, ...] = ()
    blob: str = ""
    places: tuple[str, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat piece of memory of ``size`` elements of ``dtype``."""

    dtype: str
    size: int
    values: Values


@dataclass(frozen=True, slots=True)
class View:
    """One input as a window on a storage; strides and offset count elements of ``dtype``.

    ``dtype`` differs from the storage's for an input that reinterprets the bytes.
    """

    storage: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    requires_grad: bool = False


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a row-major tensor of this shape, in elements."""
    strides = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


@dataclass(frozen=True, slots=True)
class InputSet:
    """The tensors of one call, one view for each input of the program."""

    storages: tuple[Storage, ...]
    views: tuple[View, ...]

    def __post_init__(self) -> None:
        for position, view in enumerate(self.views):
            if not 0 <= view.storage < len(self.storages):
                raise InvalidProgram(f"input {position} is a view of storage {view.storage}, which does not exist")
            if len(view.shape) != len(view.strides):
                raise InvalidProgram(
                    f"input {position} has {len(view.shape)} dimensions but {len(view.strides)} strides"
                )

    def shared(self) -> bool:
        """Whether two inputs are views of one storage."""
        used = [view.storage for view in self.views]
        return len(set(used)) < len(used)


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
    """

    target: str
    knobs: tuple[tuple[str, Scalar], ...] = ()
    mode: Mode = "inference"
    device: str = "cpu"

    def knob(self, name: str, default: Scalar = None) -> Scalar:
        """The value of a knob, or ``default`` where the setting leaves it alone."""
        return dict(self.knobs).get(name, default)


@dataclass(frozen=True, slots=True)
class Case:
    """A program, one input set for each call of the same artefact, and a setting.

    The first input set is the one the program was grown on. Further ones repeat the call with other values, or
    with other sizes (then the setting asks for dynamic shapes).
    """

    program: Program
    calls: tuple[InputSet, ...]
    setting: Setting
    _memo: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.calls:
            raise InvalidProgram("a case needs at least one input set")
        for number, inputs in enumerate(self.calls):
            if len(inputs.views) != len(self.program.inputs):
                raise InvalidProgram(
                    f"call {number} gives {len(inputs.views)} inputs, the program takes {len(self.program.inputs)}"
                )

    @property
    def text(self) -> str:
        """The canonical text (``codec.encode``)."""
        if "text" not in self._memo:
            from shakeout.corpus.codec import encode

            self._memo["text"] = encode(self)
        return self._memo["text"]

    @property
    def id(self) -> str:
        """Content address: the first 16 hexadecimal digits of the SHA-256 of the canonical text."""
        if "id" not in self._memo:
            self._memo["id"] = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        return self._memo["id"]

    def on(self, target: str, knobs: tuple[tuple[str, Scalar], ...] = ()) -> Case:
        """The same program and inputs on another target."""
        return replace(self, setting=replace(self.setting, target=target, knobs=knobs))

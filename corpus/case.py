"""Cases: a program, what it is fed with, and the setting it runs under."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from shakeout.corpus import canonical
from shakeout.corpus.program import InvalidProgram, Program
from shakeout.corpus.setting import (
    COTANGENTS,
    HISTORY,
    OVERWRITES,
    REFUSALS,
    SANITIZE,
    Cotangent,
    Knob,
    KnobSpace,
    Mode,
    Promise,
    Scalar,
    Setting,
)
from shakeout.corpus.storage import InputSet, Storage, Values, View, contiguous

__all__ = [
    "COTANGENTS",
    "HISTORY",
    "OVERWRITES",
    "REFUSALS",
    "SANITIZE",
    "Case",
    "Cotangent",
    "InputSet",
    "Knob",
    "KnobSpace",
    "Mode",
    "Promise",
    "Scalar",
    "Setting",
    "Storage",
    "Values",
    "View",
    "contiguous",
]


@dataclass(frozen=True, slots=True)
class Case:
    """A program, one input set for each call of the same artefact, and a setting.

    The first input set is the one the program was grown on. Further ones repeat the call with other values, or
    with other sizes (then the setting asks for dynamic shapes).
    """

    program: Program
    input_sets: tuple[InputSet, ...]
    setting: Setting
    _memo: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.input_sets:
            raise InvalidProgram("a case needs at least one input set")
        for number, inputs in enumerate(self.input_sets):
            if len(inputs.views) != len(self.program.inputs):
                raise InvalidProgram(
                    f"call {number} gives {len(inputs.views)} inputs, the program takes {len(self.program.inputs)}"
                )

    @property
    def text(self) -> str:
        """The canonical text.

        Raises:
            CannotBeStored: it is larger, or nested deeper, than what is read again.
        """
        if "text" not in self._memo:
            self._memo["text"] = canonical.text(self.program, self.input_sets, self.setting)
        return self._memo["text"]

    @property
    def id(self) -> str:
        """Content address: the first 16 hexadecimal digits of the SHA-256 of the canonical text."""
        if "id" not in self._memo:
            self._memo["id"] = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        return self._memo["id"]

    def on(self, target: str, knobs: tuple[tuple[str, Scalar], ...] = ()) -> Case:
        """The same program and inputs on another target; where refusals are findings, they are there as well."""
        asked = tuple(pair for pair in self.setting.knobs if pair[0] == REFUSALS)
        knobs = tuple(sorted({**dict(knobs), **dict(asked)}.items())) if asked else knobs
        return replace(self, setting=replace(self.setting, target=target, knobs=knobs))

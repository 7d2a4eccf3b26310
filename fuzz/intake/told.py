"""What the process that reads somebody's file is asked, and what it tells, as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Found", "Refused", "Request", "Told"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be read.

    Attributes:
        file: its path.
        name: of what is in it; empty for whatever the file compiles.
        target: of the cases; empty for the one that the file names.
        mode: ``inference`` or ``training``; empty for what the call says.
        directory: where large inputs are written.
        result: path of the file for what is told.
        parent: the process that asks, with which the other ends; 0 for none.
        refusals: whether what a target refuses is a finding.
        inputs: path of an ``.npz`` file of what an ONNX model is fed; empty for drawn values.
        cpu: whether what the file puts on a GPU stays on the CPU.
    """

    file: str
    name: str
    target: str
    mode: str
    directory: str
    result: str
    parent: int = 0
    refusals: bool = False
    inputs: str = ""
    cpu: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Something that became a case.

    Attributes:
        label: what it is called, and where it is compiled.
        case: its text.
        notes: what a person should know.
    """

    label: str
    case: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Something that did not.

    Attributes:
        label: what it is called, and where it is compiled.
        reason: with the line that is to blame.
    """

    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class Told:
    """What came of a file.

    Attributes:
        found: in the order in which it was called.
        refused: likewise.
        notes: on the file as a whole.
        problem: why nothing could be read at all; empty if it could.
    """

    found: tuple[Found, ...] = ()
    refused: tuple[Refused, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""

    def without(self, *folders: str) -> Told:
        """The same in words that do not name these folders, in which a changed copy of the file lies meanwhile."""

        def plain(text: str) -> str:
            for folder in folders:
                text = text.replace(folder, "")
            return text

        found = tuple(Found(one.label, one.case, tuple(map(plain, one.notes))) for one in self.found)
        refused = tuple(Refused(one.label, plain(one.reason)) for one in self.refused)
        return Told(found, refused, tuple(map(plain, self.notes)), plain(self.problem))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Told:
        """Read what ``to_json`` wrote."""
        found = tuple(Found(one["label"], one["case"], tuple(one["notes"])) for one in data["found"])
        refused = tuple(Refused(**one) for one in data["refused"])
        return cls(found, refused, tuple(data["notes"]), data["problem"])

"""What cannot become a case, with the line of the user's source that is to blame."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from shakeout.corpus.program import InvalidProgram

__all__ = ["LEFT_BEHIND", "NotCaptured", "Place", "blamed", "call", "here"]

#: The user's source is what is neither Shakeout's, nor installed, nor Python's own.
_OURS = str(Path(__file__).resolve().parents[2])
_INSTALLED = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)

#: Modules of torch that every call goes through.
_BENEATH = tuple(
    os.path.join(sysconfig.get_path("platlib"), "torch", name)
    for name in ("overrides.py", "_ops.py", "_library", "_tensor.py", "_compile.py", "_higher_order_ops", "utils")
)

#: Why a whole step of training is none.
LEFT_BEHIND = (
    "gradients that a backward pass leaves in .grad are no values of a case; hand over what computes the loss (the "
    "case asks for its gradients itself), or call torch.autograd.grad"
)

#: Folders of Shakeout's that hold what nobody would call Shakeout's own.
_NOT_OURS = ("tests", "docs")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of source.

    Attributes:
        file: its path.
        line: its number, from 1.
        text: what stands there, without its indentation; empty if the file cannot be read.
    """

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{_shown(self.file)}:{self.line}"


class NotCaptured(InvalidProgram):
    """A function or module that no case can hold, with the reason in words.

    Attributes:
        reason: why, without the place.
        place: the user's line; None where no line is to blame.
        lower: whether the operators beneath those that the source names may hold it (``aten``).
    """

    def __init__(self, reason: str, place: Place | None = None, *, lower: bool = False) -> None:
        self.reason = reason
        self.place = place
        self.lower = lower
        text = f"{place}: {reason}" if place is not None else reason
        super().__init__(text + (f"\n    {place.text}" if place is not None and place.text else ""))


def call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call what somebody handed over: for what comes next nobody is to blame who called this."""
    return function(*args, **kwargs)


def here() -> Place | None:
    """The innermost line of the user's that is being executed; of what is installed if the user has none there."""
    return _innermost([(one.f_code.co_filename, one.f_lineno) for one in _outwards(sys._getframe(1))])


def blamed(trace: TracebackType | None) -> Place | None:
    """The innermost line of the user's in a traceback; of what is installed if the user has none there."""
    lines = []
    while trace is not None:
        lines.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        if trace.tb_frame.f_code is call.__code__:
            lines.clear()
        trace = trace.tb_next
    return _innermost(lines[::-1])


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of what somebody handed over, the innermost first."""
    while frame is not None and frame.f_code is not call.__code__:
        yield frame
        frame = frame.f_back


def _innermost(lines: Sequence[tuple[str, int]]) -> Place | None:
    users = next((line for line in lines if _users(line[0])), None)
    others = (line for line in lines if not line[0].startswith(("<", _OURS + os.sep, *_BENEATH)))
    found = users or next(others, None)
    return None if found is None else Place(*found, linecache.getline(*found).strip())


def _users(name: str) -> bool:
    if name.startswith("<"):
        return False
    path = os.path.realpath(name)
    if any(path.startswith(folder + os.sep) for folder in _INSTALLED):
        return False
    if path.startswith(_OURS + os.sep):
        return path[len(_OURS) + 1 :].partition(os.sep)[0] in _NOT_OURS
    return True


def _shown(file: str) -> str:
    """A path as a person in the working directory would write it."""
    relative = os.path.relpath(file)
    return file if relative.startswith("..") else relative

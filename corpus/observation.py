"""Observations: all that one run of a case showed.

Tensors stay tensors here and never leave the process; what is stored of them is text made by the oracles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any, Literal

from shakeout.corpus.layouts import Layout

__all__ = ["OURS", "PARTS", "Observation", "Raised", "place", "raised"]

#: Where the tensors of one call are found, in the order in which they are judged.
PARTS = ("output", "gradient", "input after the call", "random state")

# Not resolved: the rooms are imported through links below this directory.
_PACKAGE = str(Path(__file__).parent.parent) + "/"

#: What frames of Shakeout's own begin with. They say who ran the case and not what is wrong, whatever the files are
#: called today.
OURS = "shakeout/"

Owner = Literal["subject", "shakeout"]

_TELLING = (
    re.compile(r"(?:fatal )?(error: .*)"),
    re.compile(r": (got \w+\(.*)"),
    # OpenVINO tells of all operators that it could not convert; the first one stands for them.
    re.compile(r"^-- (\S.*) with a message:"),
)

_NOISE = (
    (re.compile(r"0x[0-9a-f]+"), "ADDRESS"),
    (re.compile(r"/[^\s'\"]+/([^/\s'\"]+)"), r"\1"),
    (re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?"), "N"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception, without the traceback objects that would keep tensors alive.

    Attributes:
        kind: class name of the innermost cause.
        message: its text.
        frames: ``file:function`` of its traceback, outermost first, without paths.
        declined: the target said that it does not support the program.
        owner: whose frame raised it.
        stage: of the target, where it names one (``torch.export``).
    """

    kind: str
    message: str
    frames: tuple[str, ...]
    declined: bool = False
    owner: Owner = "subject"
    stage: str = ""

    @property
    def template(self) -> str:
        """The telling line of the message without numbers, addresses and paths: equal for equal causes.

        That is the first error of a C++ compiler or the exception that graph capture quotes, else the first line.
        """
        lines = [line for line in self.message.splitlines() if line.strip()]
        told = (match[1] for line in lines for pattern in _TELLING if (match := pattern.search(line)))
        text = next(told, lines[0] if lines else "")
        for pattern, word in _NOISE:
            text = pattern.sub(word, text)
        return text.strip()[:160]


def place(path: str) -> str:
    """A source file as it stands in a frame: its name, behind ``OURS`` for a file of Shakeout's own."""
    return (OURS if path.startswith(_PACKAGE) else "") + path.rsplit("/", 1)[-1]


def raised(error: BaseException, *, declined: bool) -> Raised:
    """Describe an exception by its innermost cause."""
    import traceback

    cause: BaseException = error
    seen = {id(cause)}
    while True:
        inner = getattr(cause, "inner_exception", None) or cause.__cause__
        # That a compiler's process failed says less than the error that quotes what it printed.
        if not isinstance(inner, BaseException) or isinstance(inner, CalledProcessError) or id(inner) in seen:
            break
        seen.add(id(inner))
        cause = inner
    # The innermost cause may have been re-raised without its own frames; the outer error's then speak for it.
    stack = traceback.extract_tb(cause.__traceback__) or traceback.extract_tb(error.__traceback__)
    frames = tuple(f"{place(frame.filename)}:{frame.name}" for frame in stack)
    ours = bool(frames) and frames[-1].startswith(OURS)
    stage = str(getattr(error, "stage", getattr(cause, "stage", "")))
    return Raised(type(cause).__name__, str(cause), frames, declined, "shakeout" if ours else "subject", stage)


@dataclass(frozen=True, slots=True)
class Observation:
    """One run: what each call of the artefact showed, or the exception that ended it.

    ``calls`` holds the dictionaries of ``standalone.run``: ``output``, ``gradient``, ``input after the call`` and
    ``random state`` (lists of tensors), ``aliases`` and ``given``. ``spent`` is seconds by stage of the target;
    ``stages`` are its intermediate forms of the program by name, each a function of the same arguments. ``layouts`` has
    an entry for each call of a user's kernel that promises no strides: how its results lay before they were row-major.
    ``fired`` is, of a target that is a pass over graphs, how many graphs it changed; None of any other.
    ``beyond`` names each result that has not the memory it speaks of, and what it lacks; it is not there then.
    """

    calls: Sequence[Mapping[str, Any]] = field(default=())
    error: Raised | None = None
    seconds: float = 0.0
    spent: Mapping[str, float] = field(default_factory=dict)
    stages: Sequence[tuple[str, Callable[..., Any]]] = ()
    layouts: Sequence[tuple[Layout, ...]] = ()
    fired: int | None = None
    beyond: tuple[tuple[str, str], ...] = ()

"""What ``shakeout.capture`` and ``shakeout.check`` are: a failing example handed over in one line of a test."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.corpus.case import REFUSALS, Case, Mode, Scalar, Setting
from shakeout.fuzz.intake.checking import Checked, check_case, chosen

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["capture", "check"]

#: Seconds for one target: a cold compiler needs 10 to 30.
SECONDS = 180.0


def capture(
    function: Callable[..., Any],
    *inputs: Any,
    keywords: Mapping[str, Any] | None = None,
    target: str = "inductor",
    knobs: Mapping[str, Scalar] | None = None,
    mode: Mode | None = None,
    directory: str | PathLike[str] | None = None,
) -> Case:
    """The case that calls a function or module with these inputs, proven to be the same bit for bit.

    It is run a few times, and what it writes to is put back. With a directory the case is stored there, as
    ``case.json`` with large values in ``blobs/`` beside it, for ``shakeout minimise``, ``bisect`` and ``report``.

    Args:
        function: a function or a ``torch.nn.Module``, not compiled.
        inputs: its arguments: tensors, plain values, and lists, tuples and dictionaries of them.
        keywords: its keyword arguments.
        target: of the case.
        knobs: of the target, by name; see ``shakeout targets --knobs``.
        mode: ``inference`` or ``training``; None for training where gradient mode is on and a gradient is wanted.
        directory: where it is stored; None to have every element in the case's text, which may be too long.

    Raises:
        NotCaptured: it cannot be held; the message has the line that is to blame and the reason. A ``ValueError``.
        UnknownTarget: there is no such target. A ``ValueError``.
        UnknownKnob: it has no such knob, or the knob no such value. A ``ValueError``.
        OSError: the case cannot be written.
    """
    from shakeout.corpus.files import write_whole
    from shakeout.corpus.intake import capturing
    from shakeout.targets.registry import target as registered
    from shakeout.targets.target import check_knobs

    setting = Setting(target, tuple(sorted((knobs or {}).items())))
    check_knobs(registered(target), setting)
    folder = None if directory is None else Path(directory)
    case = capturing.capture(function, inputs, keywords, setting=setting, mode=mode, directory=folder).case
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "case.json", case.text + "\n")
    return case


def check(
    function: Callable[..., Any],
    *inputs: Any,
    keywords: Mapping[str, Any] | None = None,
    targets: Sequence[str] = (),
    mode: Mode | None = None,
    seconds: float = SECONDS,
    refusals: bool = False,
) -> tuple[Checked, ...]:
    """What compilers make of a function or module with these inputs, each in a fresh process.

    Args:
        function: a function or a ``torch.nn.Module``, not compiled.
        inputs: its arguments.
        keywords: its keyword arguments.
        targets: that are asked; empty for every compiler that is installed.
        mode: as of ``capture``.
        seconds: for each target.
        refusals: whether a program that a target refuses as not supported ``differs``, or ``cannot run`` there.

    Returns:
        For each target whether it ``differs``, ``agrees`` or ``cannot run``, and what the oracles say.

    Raises:
        NotCaptured: it cannot be held.
        UnknownTarget: there is no such target.
    """
    with tempfile.TemporaryDirectory(prefix="shakeout-check-") as scratch:
        knobs = {REFUSALS: True} if refusals else {}
        case = capture(function, *inputs, keywords=keywords, target="eager", knobs=knobs, mode=mode, directory=scratch)
        return tuple(check_case(case, chosen(case, targets), seconds))

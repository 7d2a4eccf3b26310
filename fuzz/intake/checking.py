"""Whether what somebody hands over differs, and on which targets: each runs it in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.fuzz.ground.refusals import refused
from shakeout.fuzz.running import fresh
from shakeout.targets.registry import compilers, of_vocabulary, target, within

__all__ = ["Checked", "check_case", "chosen"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What one target makes of a case.

    Attributes:
        target: its name.
        status: ``differs``, ``agrees`` or ``cannot run``.
        lines: what the oracles say, or why it cannot run.
        refused: whether it cannot run because the target refuses it as not supported.
    """

    target: str
    status: str
    lines: tuple[str, ...]
    refused: bool = False

    def __str__(self) -> str:
        return f"{self.target}: {self.status}: {'; '.join(self.lines)}"


def chosen(case: Case, names: Sequence[str]) -> tuple[str, ...]:
    """The targets that are asked: those that were named, or every compiler that is installed and the case's own.

    Of an ONNX model that is a program itself these are the targets of its vocabulary, ``onnxruntime`` its own one.

    Raises:
        UnknownTarget: one that was named takes programs of another vocabulary.
    """
    own, vocabulary = case.setting.target, case.program.vocabulary
    if vocabulary == "onnx":
        return tuple(within(vocabulary, name) for name in names) or of_vocabulary(vocabulary)
    if names:
        return tuple(dict.fromkeys(names))
    return tuple(dict.fromkeys(([own] if own != "eager" else []) + list(compilers())))


def check_case(
    case: Case, names: Sequence[str], seconds: float, before: Callable[[str], None] = lambda name: None
) -> Iterator[Checked]:
    """Run a case on targets, one after the other.

    Args:
        case: what to run; its knobs hold on its own target.
        names: of the targets.
        seconds: for each.
        before: told the name of each target before it is asked.

    Raises:
        UnknownTarget: there is none of this name.
    """
    for name in names:
        target(name)
    words = {fresh.NO_DIFFERENCE: "agrees", fresh.DIFFERS: "differs", fresh.CANNOT_RUN: "cannot run"}
    for name in names:
        before(name)
        found = fresh.answer(case if name == case.setting.target else case.on(name), seconds)
        yield Checked(name, words[found.status], found.lines, found.result is not None and refused(found.result))

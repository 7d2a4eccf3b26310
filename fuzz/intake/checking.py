"""Whether what somebody hands over differs, and on which targets: each runs it in a fresh process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shakeout.corpus.case import Case
from shakeout.fuzz.ground.randomness import drawing_alike
from shakeout.fuzz.ground.refusals import refused
from shakeout.fuzz.running import fresh
from shakeout.targets.registry import compilers, of_vocabulary, target, within
from shakeout.targets.target import UnknownTarget

__all__ = ["Checked", "check_case", "chosen", "on"]

#: What is to be said of a difference in a case that draws random numbers.
_DRAWN = "its values hang on the random state, which the target may use otherwise: ask again without (eval(), p=0)"

#: Processes at a time: there are hardly more compilers.
MOST = 8


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
        UnknownTarget: one that was named takes programs of another vocabulary, or none of an ONNX model's is installed.
    """
    own, vocabulary = case.setting.target, case.program.vocabulary
    if vocabulary == "onnx":
        found = tuple(dict.fromkeys(within(vocabulary, name) for name in names)) or of_vocabulary(vocabulary)
        if not found:
            raise UnknownTarget("none of the targets of ONNX models is installed (see: shakeout targets)")
        return found
    if names:
        return tuple(dict.fromkeys(names))
    return tuple(dict.fromkeys(([own] if own != "eager" else []) + list(compilers())))


def check_case(
    case: Case, names: Sequence[str], seconds: float, before: Callable[[str], None] = lambda name: None
) -> Iterator[Checked]:
    """Run a case on targets, several at a time; what they say comes in the order in which they were named.

    Args:
        case: what to run; its knobs hold on its own target.
        names: of the targets.
        seconds: for each.
        before: told the name of each target before it is waited for.

    Raises:
        UnknownTarget: there is none of this name.
    """
    for name in names:
        target(name)
    words = {fresh.NO_DIFFERENCE: "agrees", fresh.DIFFERS: "differs", fresh.CANNOT_RUN: "cannot run"}
    ended = threading.Event()

    def asked(name: str) -> fresh.Replay:
        return fresh.answer(on(case, name), seconds, ended.is_set)

    with ThreadPoolExecutor(min(at_a_time(), len(names)) or 1) as threads:
        waiting = [(name, threads.submit(asked, name)) for name in names]
        try:
            for name, answer in waiting:
                before(name)
                found = answer.result()
                lines, result = found.lines, found.result
                if result is not None and result.vendor is not None and result.vendor.random == "drawn":
                    lines = (f"{lines[0]}; {_DRAWN}", *lines[1:])
                yield Checked(name, words[found.status], lines, result is not None and refused(result))
        finally:  # whoever gives up waits for nobody
            ended.set()
            threads.shutdown(wait=True, cancel_futures=True)


def on(case: Case, name: str) -> Case:
    """What a target is asked: the case itself on its own, with its knobs, and random numbers drawn alike."""
    return drawing_alike(case if name == case.setting.target else case.on(name))


def at_a_time() -> int:
    """Processes that run a case side by side: one for each core, as many as hold two gigabytes each."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(len(os.sched_getaffinity(0)), memory // (2 << 30), MOST))

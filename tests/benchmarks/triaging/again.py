"""Cases that a campaign stored, run once more in processes forked from this one: how they fail, and because of what."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.benchmarks.apart import each
from tests.faults import Fault
from tests.faults.mistakes import FOLDER, MENDED
from tests.faults.together import together

__all__ = ["STOCK", "causes", "failing"]

#: Seconds after which a case counts as hung, and its process ends.
PATIENCE = 120

#: The cause of what fails without any planted fault.
STOCK = "stock"


def failing(texts: Sequence[str], *, mended: bool = False) -> list[str | None]:
    """How each case fails, as ``oracle/symptom``; empty if it does not, None where the process dies of it.

    Args:
        texts: of the cases.
        mended: whether the kernels of ``tests/faults/kernels`` are right.
    """

    def look(place: int) -> str:
        if mended:
            os.environ[MENDED] = "1"
        return _failure(texts[place])

    return _apart(look, texts)


def causes(texts: Sequence[str], faults: Sequence[Fault]) -> list[list[str] | None]:
    """Which faults each case fails with: names of those with each of which alone it fails, or ``STOCK``.

    Empty if it fails with none of them; None where the process dies of it.
    """

    def look(place: int) -> list[str]:
        text = texts[place]
        if _failure(text):
            return [STOCK]
        # What is not even reached is not asked apart: with a compiler each question takes seconds.
        with together(faults) as canaries:
            _failure(text)
        found = []
        for fault in faults:
            if canaries[fault.name].reached:
                with together([fault]):
                    if _failure(text):
                        found.append(fault.name)
        return found

    return _apart(look, texts)


def _apart(look: Callable[[int], Any], texts: Sequence[str]) -> list[Any]:
    def patient(place: int) -> Any:
        signal.alarm(PATIENCE)
        with _quiet():
            return look(place)

    return [found for _, found in sorted(each(patient, range(len(texts))), key=lambda row: row[0])]


def _failure(text: str) -> str:
    from shakeout.corpus import codec
    from shakeout.fuzz.running.execute import execute

    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    found = execute(codec.decode(text), explain=False).failure
    return "" if found is None else f"{found.oracle}/{found.symptom}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

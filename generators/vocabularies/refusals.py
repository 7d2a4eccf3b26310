"""What a user's kernel says it does not support: asked before programs are made of calls that it would decline.

The reference often takes more than the kernel: whole numbers, complex ones, scalars. Only the kernel can tell, so it
is asked once for each recorded call, dtype and rank, in children of this process: nothing is known of it yet, and it
may well end the process that runs it. Only what it declines with ``NotImplementedError``, whatever the sizes, is left
out. Whatever else it does, crashing included, is for a campaign to find.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from shakeout.corpus.vocabularies import kernel as words
from shakeout.generators.vocabularies.probe import SHAPES, operand
from shakeout.generators.vocabularies.records import Record

__all__ = ["accepted"]

#: Seconds for one call of tiny tensors; a kernel that is compiled when it is first called takes some.
PATIENCE = 60

#: Children that end before they have answered, until the rest is not asked.
MOST_ENDED = 8


#: By how much each size is larger when a call that is declined is tried once more: then no size is to blame.
LARGER = 2


class _Trial(NamedTuple):
    """A call of one record: at which dtype, and with which shapes."""

    record: Record
    dtype: str
    shapes: tuple[tuple[int, ...], ...]


def accepted(operator: str, records: Sequence[Record]) -> list[Record]:
    """The records without the dtypes and ranks that a kernel declines; all of them where it declines everything.

    Args:
        operator: ``MODULE:NAME`` of the kernel.
        records: calls that its reference takes.
    """
    trials = [
        _Trial(record, dtype, tuple(record.shape(number) for number in range(len(record.slots))))
        for record in records
        for dtype in record.dtypes or ("float32",)
    ]
    refused = _refused(operator, trials)
    found = []
    for record in records:
        left = tuple(one.dtype for one in trials if one.record is record and one not in refused)
        if left:
            found.append(replace(record, dtypes=left if record.dtypes else ()))
    return _ranked(operator, found) if found else list(records)


def _ranked(operator: str, records: Sequence[Record]) -> list[Record]:
    trials = [
        _Trial(record, (record.dtypes or ("float32",))[0], (shape,) * len(record.slots))
        for record in records
        for rank, shape in enumerate(SHAPES)
        if record.ranks >> rank & 1
    ]
    refused = _refused(operator, trials)
    gone = [sum(1 << len(one.shapes[0]) for one in refused if one.record is record) for record in records]
    return [replace(record, ranks=record.ranks & ~bits) for record, bits in zip(records, gone, strict=True)]


def _refused(operator: str, trials: Sequence[_Trial]) -> set[_Trial]:
    """Those that the kernel declines."""
    told: list[bool] = []
    ended = 0
    while len(told) < len(trials) and ended < MOST_ENDED:
        told += _told(operator, trials[len(told) :])
        if len(told) < len(trials):
            told.append(False)
            ended += 1
    return {trial for trial, declined in zip(trials, told, strict=False) if declined}


def _told(operator: str, trials: Sequence[_Trial]) -> list[bool]:
    """Whether the kernel declines each of these, until it ends its process or does not come back."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: the child uses none of theirs
        pid = os.fork()
    if pid == 0:
        _child(operator, trials, writing)
    os.close(writing)
    told: list[bool] = []
    try:
        while len(told) < len(trials) and select.select([reading], [], [], PATIENCE)[0]:
            if not (answers := os.read(reading, len(trials))):
                break
            told += [answer == ord("n") for answer in answers]
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return told


def _child(operator: str, trials: Sequence[_Trial], writing: int) -> None:
    try:
        faulthandler.disable()  # that it dies here is told where a case shows it
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)  # the pool of threads stayed with the parent
        for trial in trials:
            os.write(writing, b"n" if _declines(operator, trial) else b"y")
    finally:
        os._exit(0)


def _declines(operator: str, trial: _Trial) -> bool:
    """Whether a kernel declines a call, and with larger operands does not take it either."""
    try:
        _call(operator, trial, 0)
    except NotImplementedError:
        with contextlib.suppress(Exception):
            _call(operator, trial, LARGER)
            return False
        return True
    except Exception:
        return False
    return False


def _call(operator: str, trial: _Trial, larger: int) -> None:
    record, main = trial.record, getattr(torch, trial.dtype)
    tensors = [
        operand(slot.dtype, tuple(size + larger for size in shape), slot.spread, main).clone()
        for slot, shape in zip(record.slots, trial.shapes, strict=True)
    ]
    args = [words.value(arg, tensors) for arg in record.args]
    kwargs = {key: words.value(value, tensors) for key, value in record.kwargs}
    with torch.no_grad():
        words.kernel(operator)(*args, **kwargs)

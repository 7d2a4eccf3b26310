"""What a target may not leave behind in its process: found after each run, undone where possible, and told.

A library that leaves flush-to-zero on, or another locale or rounding mode, would change what the reference computes for
every case that follows.
"""

from __future__ import annotations

import ctypes
import locale
import os
import sys
from dataclasses import dataclass

import torch

__all__ = ["THREADS", "ProcessState", "look"]

#: More threads than this are a leak: the pools of all compilers together have some dozens.
THREADS = 200

_ONE = 1.0
_SMALL = 2.0**-60


@dataclass(frozen=True, slots=True)
class ProcessState:
    """The state of the process that everybody shares."""

    locale: str
    directory: str
    dtype: torch.dtype
    gradients: bool
    deterministic: bool
    threads: int
    recursion: int

    def mend(self) -> tuple[str, ...]:
        """Put back what is not as it was; in words, what was not."""
        found = [*_arithmetic(), *self._torch()]
        if locale.setlocale(locale.LC_ALL) != self.locale:
            found.append(f"the locale {locale.setlocale(locale.LC_ALL)}")
            locale.setlocale(locale.LC_ALL, self.locale)
        if _directory() != self.directory:
            found.append("another working directory")
            os.chdir(self.directory)
        if sys.getrecursionlimit() < self.recursion:
            found.append(f"a recursion limit of {sys.getrecursionlimit()}")
            sys.setrecursionlimit(self.recursion)
        if (running := len(os.listdir("/proc/self/task"))) > THREADS:
            found.append(f"{running // 100}00 threads or more")
        return tuple(found)

    def _torch(self) -> list[str]:
        found = []
        if torch.get_default_dtype() != self.dtype:
            found.append(f"{torch.get_default_dtype()} as torch's default dtype")
            torch.set_default_dtype(self.dtype)
        if torch.is_grad_enabled() != self.gradients:
            found.append(f"gradients {'enabled' if torch.is_grad_enabled() else 'disabled'}")
            torch.set_grad_enabled(self.gradients)
        if torch.are_deterministic_algorithms_enabled() != self.deterministic:
            found.append("torch's deterministic mode changed")
            torch.use_deterministic_algorithms(self.deterministic)
        if torch.get_num_threads() != self.threads:
            found.append(f"torch with {torch.get_num_threads()} threads")
            torch.set_num_threads(self.threads)
        return found


def look() -> ProcessState:
    """The state before a run."""
    return ProcessState(
        locale.setlocale(locale.LC_ALL),
        _directory(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        sys.getrecursionlimit(),
    )


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""


def _arithmetic() -> list[str]:
    """Flush-to-zero and rounding modes, which Python's own floats are subject to; both are switched back."""
    found = []
    # From variables: what is written with constants was computed when this file was compiled.
    least = sys.float_info.min
    if least / (_ONE + _ONE) == 0.0:
        found.append("subnormal numbers flushed to zero")
        torch.set_flush_denormal(False)
    if _ONE + _SMALL != _ONE or -_ONE - _SMALL != -_ONE or _ONE - _SMALL != _ONE:
        found.append("another rounding mode")
        ctypes.CDLL(None).fesetround(0)
    return found

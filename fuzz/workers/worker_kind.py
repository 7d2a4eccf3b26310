"""Kinds of workers: what has to be decided about a worker before it is started, because a case asks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from shakeout.corpus.case import SANITIZE, Setting
from shakeout.targets.accelerators import HIDDEN
from shakeout.targets.registry import may_use_accelerator
from shakeout.targets.sanitizers import process_environment

__all__ = ["WorkerKind"]


@dataclass(frozen=True, slots=True, order=True)
class WorkerKind:
    """One kind of worker. A pool has workers of one kind, and cases that ask for different kinds need different pools.

    Attributes:
        device: ``cpu`` or ``cuda``: where the tensors are.
        sanitizer: whose runtime must come before everything else in the process; empty for none.
    """

    device: str = "cpu"
    sanitizer: str = ""

    @classmethod
    def of(cls, setting: Setting) -> WorkerKind:
        """Where a case under a setting can run."""
        return cls.pinned(setting.device, dict(setting.knobs))

    @classmethod
    def pinned(cls, device: str, knobs: Mapping[str, Any]) -> WorkerKind:
        """Where cases with these knobs can run."""
        kind = knobs.get(SANITIZE) or ""
        # Not every sanitizer needs a process of its own, nor is each installed.
        return cls(device, str(kind) if process_environment(kind) else "")

    def sees_no_accelerator(self, targets: Iterable[str]) -> bool:
        """Whether neither the cases nor the targets have a use for an accelerator."""
        return self.device == "cpu" and not any(map(may_use_accelerator, targets))

    def environment(self, targets: Iterable[str]) -> dict[str, str]:
        """What else the environment of the workers must hold from their start."""
        hidden = HIDDEN if self.sees_no_accelerator(targets) else {}
        return {**hidden, **process_environment(self.sanitizer)}

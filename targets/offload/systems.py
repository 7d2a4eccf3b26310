"""The published offload runtimes of Shakeout's own stack."""

from __future__ import annotations

from shakeout.targets.published import System

__all__ = ["OFFLOAD"]

#: By number.
OFFLOAD: tuple[System, ...] = ()

"""The published compilers and rewrites of Shakeout's own stack."""

from __future__ import annotations

from shakeout.targets.published import System

__all__ = ["COMPILERS"]

#: By number.
COMPILERS: tuple[System, ...] = ()

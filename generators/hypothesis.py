"""Hypothesis, or one line that says how to get it: only whoever uses our strategies needs it."""

from __future__ import annotations

try:
    from hypothesis import reject
    from hypothesis import strategies as st
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "shakeout.programs, tensors and cases are strategies of Hypothesis, which is not installed: "
        "pip install 'shakeout[hypothesis]'"
    ) from None

__all__ = ["reject", "st"]

"""What a target refuses as not supported: which results say so, and settings under which that is a finding."""

from __future__ import annotations

from dataclasses import replace

from shakeout.corpus.case import REFUSALS, Setting
from shakeout.fuzz.ground.results import Result

__all__ = ["counted", "refused"]


def refused(result: Result) -> bool:
    """Whether the target said that it does not support the program: a graph break, an operator that it lacks.

    Never of a case whose setting counts refusals: there the same exception is a failure.
    """
    return result.status == "unsupported"


def counted(setting: Setting) -> Setting:
    """The setting under which a refusal is a finding, to be minimised, bisected and reported as any other."""
    return replace(setting, knobs=tuple(sorted({**dict(setting.knobs), REFUSALS: True}.items())))

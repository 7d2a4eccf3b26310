"""Cases that draw random numbers, as scripts of training do: which can be compared, and under which knob.

Grown cases draw none. A compiler that draws its own says other values than the reference, which nobody can compare;
one with a knob to draw them as the reference does is asked to.
"""

from __future__ import annotations

from dataclasses import replace

from shakeout.corpus.case import Case
from shakeout.corpus.setting import RANDOM
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.recurrent import GATES
from shakeout.targets.registry import target

__all__ = ["drawing_alike", "may_draw"]


def may_draw(case: Case) -> bool:
    """Whether an operator of a case draws random numbers, unless its arguments say otherwise."""
    traits = vocabulary(case.program.vocabulary).traits
    return any(name in GATES or traits(name).random for name in case.program.operators())


def drawing_alike(case: Case) -> Case:
    """The case under the knob with which its target draws random numbers as the reference does, if it has such a one.

    Raises:
        UnknownTarget: there is no such target.
    """
    setting = case.setting
    if not any(knob.name == RANDOM for knob in target(setting.target).knobs()) or not may_draw(case):
        return case
    knobs = tuple(sorted({**dict(setting.knobs), RANDOM: True}.items()))
    return replace(case, setting=replace(setting, knobs=knobs))

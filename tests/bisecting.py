"""A compiler with parts that can be left out, for tests of what asks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch._inductor.config

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.bisect.facts import Fact
from shakeout.fuzz.bisect.trials import Shown, Trial
from shakeout.fuzz.ground.failure import Failure

__all__ = ["BAD", "GOOD", "WRONG", "Fake", "case_of", "of"]

WRONG = Failure("inductor", "value", "wrong value")
BAD, GOOD = Shown("failed", WRONG), Shown("compared")


def case_of(target: str = "inductor", **knobs: object) -> Case:
    setting = Setting(target, tuple(sorted(knobs.items())))
    return capture(torch.sin, lambda: [torch.ones(3)], setting=setting)


class Fake:
    """A compiler with parts: it fails where ``fails`` says so, given the trial and which parts are at work."""

    def __init__(
        self, parts: dict[str, Sequence[str]], fails: Callable[[Trial, dict[str, Sequence[str]]], bool]
    ) -> None:
        self.parts = parts
        self.fails = fails
        self.runs = 0

    def __call__(self, trials: Sequence[Trial]) -> list[Shown]:
        found = []
        for trial in trials:
            self.runs += 1
            limit = trial.limit
            active = dict(self.parts)
            names: Sequence[str] = ()
            if limit is not None:
                names = self.parts.get(limit.kind, ())
                most = len(names) if limit.most is None else limit.most
                active[limit.kind] = [n for i, n in enumerate(names) if i < most and i != limit.without]
            shown = BAD if self.fails(trial, active) else GOOD
            found.append(replace(shown, names=tuple(names)))
        return found


def of(found: Sequence[Fact], kind: type) -> list:
    return [fact for fact in found if isinstance(fact, kind)]

"""What a gate knows so far; it is told whole at the end, however the gate ends."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from shakeout.corpus.rows import Totals
from shakeout.fuzz.gate.told import Finding, Outcome, Refusal, Replay, SideTold
from shakeout.fuzz.ground.exits import Exit

__all__ = ["Record"]


@dataclass(slots=True)
class Record:
    """What is known so far.

    Attributes:
        base, head: what is compared.
        began: when the gate began, as ``time.monotonic`` gives it.
        seed: of the fuzzing.
        findings, refusals, replays: as in the outcome.
        totals: how far the fuzzed cases came, by target.
        changed: the targets that the change touches.
        focused: cases with an operator in focus that were compared; None if none is in focus.
        undone: what there was no time for, which a green gate must not leave out.
        seconds: by phase.
        notes: what a person should know besides.
    """

    base: SideTold
    head: SideTold
    began: float
    seed: int = 0
    findings: list[Finding] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    replays: list[Replay] = field(default_factory=list)
    totals: Mapping[str, Totals] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    focused: int | None = None
    undone: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Count the seconds of a phase."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = round(time.monotonic() - began, 1)

    def outcome(self, status: Exit, verdict: str) -> Outcome:
        """All of it, with what it comes to."""
        self.seconds["all"] = round(time.monotonic() - self.began, 1)
        return Outcome(
            status,
            verdict,
            self.base,
            self.head,
            tuple(sorted(self.findings, key=lambda one: not one.decision.blocking)),
            tuple(self.refusals),
            tuple(self.replays),
            self.totals,
            self.seed,
            self.seconds,
            tuple(self.notes),
        )

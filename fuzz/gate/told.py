"""What a gate tells, as values: every output is made of these and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from shakeout.corpus.rows import Totals
from shakeout.fuzz.gate.decision import Decision
from shakeout.fuzz.ground.exits import Exit

__all__ = ["Finding", "Outcome", "Refusal", "Replay", "SideTold"]

#: Where a case comes from: a folder of cases that was named, what ships with Shakeout, or this gate's own fuzzing.
Origin = Literal["corpus", "shipped", "fuzz"]


@dataclass(frozen=True, slots=True)
class SideTold:
    """One side.

    Attributes:
        role: ``head`` or ``base``.
        name: for a person.
        python: its interpreter.
        commit: of its sources; empty if they are what is installed.
        versions: of what is installed, Python among it.
    """

    role: str
    name: str
    python: str
    commit: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """A case that fails on the head, and what was decided of it.

    Attributes:
        id: of its bug in the gate's campaign, or the name of its file.
        title: one line.
        signature: which stays the same from one commit to the next.
        target: what fails.
        symptom: how.
        origin: where the case comes from.
        decision: whether it blocks, and why.
        reduced: whether nothing smaller was found that fails so.
        operators: of the case.
        text: program, inputs, what was expected and found, for a person.
        case: its file, from the gate's folder on.
        script: a script that shows it, from the gate's folder on; empty if there is none.
        file: source of what fails, from the repository's root on; empty if it comes with Shakeout or is installed.
        line: in that file.
    """

    id: str
    title: str
    signature: str
    target: str
    symptom: str
    origin: Origin
    decision: Decision
    reduced: bool
    operators: tuple[str, ...]
    text: str = ""
    case: str = ""
    script: str = ""
    file: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A case that the base takes and the head declines: a graph break, an operator, a dtype.

    Attributes:
        id: of the case.
        target: what declines it.
        reason: what it said.
        operators: of the case.
        blocking: whether such a thing blocks.
        case: its file, from the gate's folder on.
        count: of the cases that were declined for this reason.
        file: source of the target, from the repository's root on; empty if it comes with Shakeout or is installed.
        line: in that file.
    """

    id: str
    target: str
    reason: str
    operators: tuple[str, ...]
    blocking: bool
    case: str = ""
    count: int = 1
    file: str = ""
    line: int = 1


@dataclass(frozen=True, slots=True)
class Replay:
    """A case of the regression corpus and what it did on the head.

    Attributes:
        id: name of its file, or of what ships.
        target: on which it ran.
        state: ``passes``, ``fails``, ``declined``, ``cannot run``, or ``not run`` where the budget was over.
        note: how it failed, or why it cannot run.
    """

    id: str
    target: str
    state: Literal["passes", "fails", "declined", "cannot run", "not run"]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a gate found.

    Attributes:
        status: the exit status.
        verdict: one line.
        base, head: what was compared.
        findings: those first that block.
        refusals: what became unsupported since the base.
        replays: the regression corpus.
        totals: how far the fuzzed cases came, by target.
        seed: of the fuzzing.
        seconds: by phase.
        notes: what a person should know besides.
    """

    status: Exit
    verdict: str
    base: SideTold
    head: SideTold
    findings: tuple[Finding, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    replays: tuple[Replay, ...] = ()
    totals: Mapping[str, Totals] = field(default_factory=dict)
    seed: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What the change did."""
        return tuple(one for one in self.findings if one.decision.blocking)

    @property
    def noted(self) -> tuple[Finding, ...]:
        """What fails and does not block."""
        return tuple(one for one in self.findings if not one.decision.blocking)

    @property
    def refused(self) -> tuple[Refusal, ...]:
        """What became unsupported and blocks."""
        return tuple(one for one in self.refusals if one.blocking)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "status": int(self.status), "blocking": [one.id for one in self.blocking]}

"""What came of a job: the result of a case, a worker's reply or its loss, and the answer that holds them.

What crosses a process or a file has ``to_json`` and ``from_json``, so what a result looks like is decided here alone.
Nothing in this module imports torch or a compiler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.ground.divergence import Divergence
from shakeout.fuzz.ground.jobs import Job
from shakeout.fuzz.ground.slot import SlotState
from shakeout.oracles.vendor import Points
from shakeout.oracles.verdict import Note, Outcome, Verdict, merge

__all__ = ["LOSSES", "Answer", "Loss", "LossKind", "Reply", "Result", "Status"]

Status = Literal["compared", "unsupported", "undefined", "invalid", "failed", "infra", "avoided"]
LossKind = Literal["crash", "hang", "memory", "interrupted"]

#: The ways in which a worker is lost to its own job; each is the name of an oracle too.
LOSSES = ("crash", "hang", "memory")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case.

    Attributes:
        case: its id; empty if there was none yet.
        target: which target ran it.
        status: ``compared`` (the target answered), ``unsupported`` (it declined), ``undefined`` (the reference does not
            agree with itself), ``invalid`` (the reference rejects it), ``failed`` (the target raised), ``infra`` (it
            says nothing of the target), or ``avoided`` (it was not run, because a known bug occurs in it).
        verdicts: one for each oracle.
        seconds: by phase.
        exact: every output, gradient and memory agrees bit for bit.
        proven: equality bit for bit was what was asked, because every result is proven to be exact.
        trivial: nothing that could have differed was compared (no output, or none with an element).
        operators: in the order of the program.
        reason: why, for ``unsupported``, ``invalid``, ``infra`` and ``avoided``.
        signature: of the first failing verdict.
        stage: of a target that works in stages, the one that raised, or the first that gives other values.
        left: what the target left behind in the process, in words.
        vendor: how the failure stands before whoever would read a report.
        divergence: the first operator with which the target's values go wrong, where that was looked for and found.
        relation: the metamorphic relation that made the case, and ``parent``, the id of the case that it changed.
        fired: of a target that is a pass over graphs, how many of the case's graphs it changed; None of any other.
    """

    case: str
    target: str
    status: Status
    verdicts: tuple[Verdict, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    exact: bool = False
    proven: bool = False
    trivial: bool = False
    operators: tuple[str, ...] = ()
    reason: str = ""
    signature: str = ""
    stage: str = ""
    left: tuple[str, ...] = ()
    vendor: Points | None = None
    divergence: Divergence | None = None
    relation: str = ""
    parent: str = ""
    fired: int | None = None

    @property
    def outcome(self) -> Outcome | Literal["infra"]:
        """The merged verdict; ``infra`` where the case says nothing of its target, whatever an oracle said."""
        return "infra" if self.status == "infra" else merge(verdict.outcome for verdict in self.verdicts)

    @property
    def failure(self) -> Verdict | None:
        """The first failing verdict: the one that everything else tells of."""
        return next((verdict for verdict in self.verdicts if verdict.outcome is Outcome.FAIL), None)

    @property
    def doubts(self) -> list[str]:
        """What differs without being a failure, and why it is none: a line for each oracle that doubts."""
        unknown = [verdict for verdict in self.verdicts if verdict.outcome is Outcome.UNKNOWN]
        return [f"{verdict.oracle}: no failure, {verdict.symptom}. {verdict.message}" for verdict in unknown]

    @property
    def notes(self) -> list[Note]:
        """What oracles remark beside their verdicts, each once."""
        return list(dict.fromkeys(note for verdict in self.verdicts for note in verdict.notes))

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "case": self.case,
            "target": self.target,
            "status": self.status,
            "outcome": str(self.outcome),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "seconds": {phase: round(spent, 6) for phase, spent in self.seconds.items()},
            "exact": self.exact,
            "proven": self.proven,
            "trivial": self.trivial,
            "operators": list(self.operators),
            "reason": self.reason,
            "signature": self.signature,
            "stage": self.stage,
            "left": list(self.left),
            "vendor": None if self.vendor is None else self.vendor.to_json(),
            "divergence": None if self.divergence is None else self.divergence.to_json(),
            "relation": self.relation,
            "parent": self.parent,
            "fired": self.fired,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Read what ``to_json`` wrote, in this version or an earlier one; other keys are left alone.

        What does not say what became of its case says nothing: its status is ``infra``.

        Raises:
            ValueError: it is no result.
        """
        try:
            status = data.get("status", "infra")
            if status not in get_args(Status):
                raise ValueError(f"{status!r} is no status of a case")
            vendor, divergence = data.get("vendor"), data.get("divergence")
            return cls(
                case=str(data.get("case", "")),
                target=str(data.get("target", "")),
                status=status,
                verdicts=tuple(map(Verdict.from_json, data.get("verdicts", ()))),
                seconds={str(phase): float(spent) for phase, spent in data.get("seconds", {}).items()},
                exact=bool(data.get("exact")),
                proven=bool(data.get("proven")),
                trivial=bool(data.get("trivial")),
                operators=tuple(map(str, data.get("operators", ()))),
                reason=str(data.get("reason", "")),
                signature=str(data.get("signature", "")),
                stage=str(data.get("stage", "")),
                left=tuple(map(str, data.get("left", ()))),
                vendor=None if vendor is None else Points.from_json(vendor),
                divergence=None if divergence is None else Divergence.from_json(divergence),
                relation=str(data.get("relation", "")),
                parent=str(data.get("parent", "")),
                fired=None if data.get("fired") is None else int(data["fired"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the result of a case: {type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a worker says of a job; there are several where a job has several settings.

    Attributes:
        serial: number that the job was sent with.
        seconds: since the job began, or since the reply before.
        resident: bytes of memory that the worker holds now.
        result: of the case; None where none was run.
        case: text of the case that failed, that was made and the target declined, or that was asked for.
        script: what shows the failure, or what was asked for.
        sequence: texts of the cases that ran before it, where the job named some.
        fed: operators of the program whose results others use.
        traces: calls that the reference refused or took, as rows.
        learnt: rows of what a learner found.
        internal: a defect of ours, in one line; then ``traceback`` says where.
        partial: more replies to the job follow.
        answered: the job's own cases are all answered; what follows is a changed one.
        spent: the worker is not fit for another job.
        coverage: what was hit for the first time in that worker, by library.
        space: the case's features (``shakeout.fuzz.coverage.space``), where the job asked for them.
        made: the mutators that made the case of another one, in order.
        rearmed: how many of the job's claims were watched again.
        shown: how many of those the case showed.
        engine: how far a fuzzing engine of others has come: counters hit, features, inputs that it keeps.
    """

    serial: int = 0
    seconds: float = 0.0
    resident: int = 0
    result: Result | None = None
    case: str = ""
    script: str = ""
    sequence: tuple[str, ...] = ()
    fed: tuple[str, ...] = ()
    traces: tuple[Any, ...] = ()
    learnt: Mapping[str, Any] = field(default_factory=dict)
    internal: str = ""
    traceback: str = ""
    partial: bool = False
    answered: bool = False
    spent: bool = False
    coverage: tuple[Hits, ...] = ()
    space: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    rearmed: int = 0
    shown: int = 0
    engine: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what is at its default is left out."""
        found = {name: value for name in self.__slots__ if (value := getattr(self, name))}
        if self.result is not None:
            found["result"] = self.result.to_json()
        if self.coverage:
            found["coverage"] = [hits.to_json() for hits in self.coverage]
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reply:
        """Read what ``to_json`` wrote."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        if "result" in data:
            values["result"] = Result.from_json(data["result"])
        if "coverage" in data:
            values["coverage"] = tuple(map(Hits.from_json, data["coverage"]))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Loss:
    """A worker that did not reply.

    Attributes:
        kind: ``crash`` (a signal or an exit), ``hang``, ``memory``, or ``interrupted``: killed from outside, by the
            zygote's death or somebody's ``kill -9``.
        symptom: the signal's name, the exit status, the limit.
        state: its slot, with the job or the case in it.
        seconds: since the job began.
        output: the end of what it printed: assertions, and Python's stack.
    """

    kind: LossKind
    symptom: str
    state: SlotState
    seconds: float
    output: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a job: a reply of its worker, or the worker's loss.

    Attributes:
        job: the job.
        worker: number of the worker's handle, which those before and after it share.
        reply: what the worker said; one without content if it was lost.
        loss: how it was lost.
        history: jobs that the same worker had finished before, in order.
    """

    job: Job
    worker: int
    reply: Reply = Reply()
    loss: Loss | None = None
    history: tuple[Job, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds that the worker spent on it."""
        return self.reply.seconds if self.loss is None else self.loss.seconds

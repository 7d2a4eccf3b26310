"""What a worker is asked to do: one class for each kind of job, stored and sent whole.

A job holds all that it takes to do it, so one that was written down can be done again by any process with the same
versions. It has no number of its own: whoever runs jobs tells their answers apart by the objects that it gave.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Candidate",
    "Examine",
    "Grow",
    "Job",
    "Learn",
    "Make",
    "Mutate",
    "Recall",
    "Reduce",
    "Run",
    "Script",
    "Session",
    "Trial",
    "job_from_json",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all jobs have.

    Attributes:
        target: what runs the case.
        device: ``cpu`` or ``cuda``.
        number: of the case in a campaign's books; -1 for what is in none.
        before: jobs that the same worker, a fresh one, does first.
        fresh: the worker must not have done anything before.
    """

    target: str
    device: str = "cpu"
    number: int = -1
    before: tuple[Job, ...] = ()
    fresh: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with the kind of job; what is at its default is left out."""
        found: dict[str, Any] = {"kind": type(self).__name__.lower()}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.default is dataclasses.MISSING or value != item.default:
                found[item.name] = dict(value) if isinstance(value, Mapping) else value
        if self.before:
            found["before"] = [job.to_json() for job in self.before]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Make(Job):
    """Make a program, and run it under one or several settings.

    Attributes:
        seed: 64 bits from which the case follows.
        knobs: pinned for every case.
        knob_share: probability that a case leaves the target's defaults.
        settings: that are tried on one program; 0 for as many as the target wants.
        traced: each call is written into the slot before it runs, to find the one that crashes while growing.
        avoid: ids of known bugs; a case in which the smallest case of one occurs is not run.
        told: with each reply comes the case's text, and its features in the space of all cases.
    """

    seed: int
    knobs: Mapping[str, Any] = field(default_factory=dict)
    knob_share: float = 0.0
    settings: int = 0
    traced: bool = False
    avoid: tuple[str, ...] = ()
    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Grow(Make):
    """Grow a program from a seed.

    Attributes:
        recipe: what kind of program is grown.
        choices: bytes as hexadecimal digits, from which the decisions are read; empty where the seed makes them.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    choices: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Make):
    """Run libFuzzer for a while; each case of it is answered, as if it had been a job of its own.

    What the worker is about to do stands in its slot as such a job: a ``Grow`` from bytes, a ``Run`` or a ``Mutate``.

    Attributes:
        recipe: what kind of programs are grown.
        corpus: folder of libFuzzer's inputs.
        most: cases, at most.
        until: when it ends, as ``time.monotonic`` tells it.
    """

    corpus: str
    most: int
    until: float
    recipe: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutate(Make):
    """Make a program of another one.

    Attributes:
        parent: text of the case that is changed.
        mutators: by what, in order; what has no place there is left to others (``shakeout.generators.mutation``).
        partner: text of a case of which parts may be taken; empty for none.
        modes: whether training may be turned on and off.
    """

    parent: str
    mutators: tuple[str, ...] = ()
    partner: str = ""
    modes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Job):
    """Run a case.

    Attributes:
        case: its text.
        seed: of the process's random states.
        told: as of ``Make``.
        claims: features (``Hits.features``) that it once added: whether it shows them again is asked.
    """

    case: str
    seed: int = 0
    told: bool = False
    claims: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate(Job):
    """Validate a candidate of the minimiser by running its reference, then run what it really is.

    Attributes:
        case: its text.
        defined: whether its meaning must be defined.
        finite: whether its values must be finite.
    """

    case: str
    defined: bool
    finite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Job):
    """Find the smallest case that fails for the same reason, in one worker; each candidate is told before it runs.

    A worker that is lost to a candidate is no end: the job is given once more with what was told so far.

    Attributes:
        case: text of the smallest case that is known.
        failure: the reason to keep, as the fields of ``shakeout.fuzz.ground.failure.Failure``; the strings of a failure
            that is not known are all empty, and any is the one.
        seconds: of search at most.
        tries: candidates that are run at most.
        seed: of the process's random states.
        result: of the case's run, as ``Result.to_json`` gives it; empty if it has to be run first.
        seen: ids of candidates that are not run again.
    """

    case: str
    failure: tuple[str, str, str, str]
    seconds: float
    tries: int
    seed: int = 0
    result: Mapping[str, Any] = field(default_factory=dict)
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Job):
    """Run a case whose compiler may not do everything.

    Attributes:
        case: its text.
        record: path of the file for the names of what the compiler did.
        limit: what is limited, one of ``shakeout.fuzz.bisect.hooks.HOOKS``; empty for nothing.
        most: only so many, in the order in which the compiler comes to them; None for all.
        without: the one with this number is left out; None for none.
    """

    case: str
    record: str
    limit: str = ""
    most: int | None = None
    without: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script(Job):
    """Write a case's script, and run nothing.

    Attributes:
        case: its text.
        limit: seconds after which the script takes a run for a hang.
    """

    case: str
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Examine(Job):
    """Call an operator in many ways, each told before it happens.

    Attributes:
        operator: qualified name.
        without: calls that are not to be made, as they stood in the slot.
        traces: rows of calls that are known.
        records: rows of records, of a user's kernel.
        calls: of each variant at most; None for the usual number.
    """

    operator: str
    without: tuple[str, ...] = ()
    traces: tuple[Any, ...] = ()
    records: tuple[Any, ...] = ()
    calls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Learn(Job):
    """Learn the rules of an operator that was examined.

    Attributes:
        operator: qualified name.
        examined: path of the file that says what was found out.
        without: calls that are not to be made, as they stood in the slot.
        seen: rows of calls that campaigns made.
    """

    operator: str
    examined: str
    without: tuple[str, ...] = ()
    seen: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall(Job):
    """Write down the case of a call that ended a worker.

    Attributes:
        call: as it stood in the slot.
    """

    call: str


_KINDS: Mapping[str, type[Job]] = {
    kind.__name__.lower(): kind
    for kind in (Grow, Mutate, Session, Run, Candidate, Reduce, Trial, Script, Examine, Learn, Recall)
}


def job_from_json(data: Mapping[str, Any]) -> Job:
    """Read what ``Job.to_json`` wrote.

    Raises:
        ValueError: it is no job, or one of an earlier version, whose kind was not written down.
    """
    kind = _KINDS.get(str(data.get("kind")))
    if kind is None:
        raise ValueError(f"there is no kind of job {data.get('kind')!r}; there are {', '.join(_KINDS)}")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items() if key != "kind"}
    try:
        return kind(**{**values, "before": tuple(map(job_from_json, values.get("before", ())))})
    except TypeError as error:
        raise ValueError(f"not a job: {error}") from None

"""What happens in a campaign, as typed events: one append-only log for every report, and listeners for the display."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeAlias

from shakeout.corpus import smallest_cases
from shakeout.corpus.rows import Totals

__all__ = [
    "LOG",
    "Asking",
    "BugOpened",
    "CallsRecorded",
    "CaseDone",
    "Collecting",
    "Comparing",
    "Confirmed",
    "CoverageArmed",
    "Event",
    "EventLog",
    "FactFound",
    "FindingSeen",
    "Finished",
    "KnownReplayed",
    "Learning",
    "Listener",
    "Merged",
    "Minimised",
    "Minimising",
    "NightStep",
    "Notice",
    "Progress",
    "Replayed",
    "SelfTested",
    "Shortening",
    "Shrinking",
    "Started",
    "Unusable",
    "Warming",
    "WorkerDied",
    "read_log",
]


#: File name in a campaign's directory.
LOG = "events.jsonl"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; ``to_json`` names the kind under ``event``."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values. One event is told for each case, so what is immutable is not copied as ``asdict`` does."""
        return {
            "event": type(self).__name__,
            **{field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)},
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


Listener: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The campaign begins, or goes on.

    Attributes:
        directory: where it is kept.
        targets: what is tested.
        workers: how many processes run cases.
        seconds: time budget of this run; None for no limit.
        cases: number of cases after which it ends; None for no limit.
        seed: of the campaign.
        resumed: whether the directory existed.
        next_index: the first case that was never handed out.
        versions: what is installed, by name.
    """

    directory: str
    targets: tuple[str, ...]
    workers: int
    seconds: float | None
    cases: int | None
    seed: int
    resumed: bool = False
    next_index: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Warming(Event):
    """One step of the cold start began (``done`` false) or ended after ``seconds``."""

    step: str
    seconds: float = 0.0
    done: bool = False


@dataclass(frozen=True, slots=True)
class CoverageArmed(Event):
    """Coverage of something is watched, so much of a kind; or it is not, or only coarsely, for a ``reason``."""

    name: str
    watched: int = 0
    kind: str = "functions"
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SelfTested(Event):
    """One planted fault went through the pipeline; ``message`` says what was seen instead where it was missed."""

    fault: str
    seen: bool
    seconds: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class KnownReplayed(Event):
    """A shipped known bug was replayed: it is still there, it is fixed, or it could not run (``reason``)."""

    id: str
    title: str
    reference: str
    state: Literal["still there", "fixed", "not run"]
    reason: str = ""
    target: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Replayed(Event):
    """A stored or shipped case ran again, some times over.

    Attributes:
        kind: a campaign's ``bug``, a shipped ``regression``, or a shipped ``known`` bug.
        id: of the bug, or name of the file.
        title: one line.
        verdict: one of ``shakeout.corpus.smallest_cases.REPLAYED``.
        note: how it fails instead, or why it cannot run.
        expected: of a regression, what it should do with the installed versions; None if nothing is known.
        surprising: whether it did something else.
        life: the bug's, which begins another one when it comes back after it was fixed.
    """

    kind: Literal["bug", "regression", "known"]
    id: str
    title: str
    verdict: smallest_cases.Replayed
    note: str = ""
    expected: Literal["fails", "fixed"] | None = None
    surprising: bool = False
    life: int = 1


@dataclass(frozen=True, slots=True)
class Shrinking(Event):
    """How far the search for a smallest case is.

    Attributes:
        tries: candidates that were run.
        accepted: of these, how many were taken.
        seconds: since the beginning.
        operators: of the best case so far.
        elements: of all its inputs.
        doing: name of the pass; ``first run`` before there is one.
        run: seconds that a run of that case took.
    """

    tries: int
    accepted: int
    seconds: float
    operators: int
    elements: int
    doing: str
    run: float


@dataclass(frozen=True, slots=True)
class Shortening(Event):
    """How far the search is for the cases that have to run before one that fails only behind others.

    Attributes:
        cases: in the shortest sequence so far, without the one that fails.
        recorded: that ran before it when it was found.
        tries: sequences that were run.
        seconds: since the beginning.
        run: seconds that the last run of that sequence took.
        done: none is tried any more; if the sequence could still be shortened, the budget was used up.
    """

    cases: int
    recorded: int
    tries: int
    seconds: float
    run: float
    done: bool = False


@dataclass(frozen=True, slots=True)
class Minimising(Event):
    """The bugs of one target are about to be minimised, one after the other."""

    target: str
    bugs: int


@dataclass(frozen=True, slots=True)
class Minimised(Event):
    """A bug was minimised, and what was found is stored.

    Attributes:
        bug: its id.
        state: ``complete``; ``budget`` if that was used up; ``not reproduced`` if its case does not fail any more.
        before: operators of its finding.
        after: operators of its smallest case; None if it was not reproduced.
        tries: candidates that were run.
        seconds: that it took.
        signature: of the smallest case, in words; empty if it is unclassified.
        note: why it was not reproduced.
    """

    bug: str
    state: Literal["complete", "budget", "not reproduced"]
    before: int
    after: int | None
    tries: int
    seconds: float
    signature: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Unusable(Event):
    """A target cannot be loaded, and what should have run on it is left; ``reason`` is the last thing it said."""

    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Asking(Event):
    """What a bisection asks now, after so many ``runs`` of programs and ``seconds`` since it began."""

    doing: str
    runs: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FactFound(Event):
    """A bisection found something out: ``label`` is one word for what kind of thing it is, ``fact`` says it."""

    label: str
    fact: str


@dataclass(frozen=True, slots=True)
class Comparing(Event):
    """What a comparison of releases does now; a ``detail`` need not be shown."""

    doing: str
    detail: bool = False


@dataclass(frozen=True, slots=True)
class NightStep(Event):
    """A night begins another part of its work: which, what there is to do, and for how many seconds at most."""

    step: Literal["night", "learning", "replay", "campaign", "bisection", "report"]
    doing: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CallsRecorded(Event):
    """A user's tests or script ran, and their calls of a kernel were written down.

    Attributes:
        operator: the kernel.
        heard: calls in all.
        different: of these, how many are kept.
        left_out: calls with arguments that a case cannot hold, or with large tensors.
        errors: how many calls gave no record because of which error.
    """

    operator: str
    heard: int
    different: int
    left_out: int
    errors: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Collecting(Event):
    """How far torch's samples are: the one that is run now, and its number among them."""

    name: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Learning(Event):
    """An operator was learnt, or cannot be.

    Attributes:
        operator: its name.
        done: operators that are dealt with.
        total: operators that are to be.
        rules: that this run gave.
        lost: calls that crashed or hung.
    """

    operator: str
    done: int
    total: int
    rules: int
    lost: int


@dataclass(frozen=True, slots=True)
class CaseDone(Event):
    """One case is finished.

    Attributes:
        index: the job's number.
        target: what was tested.
        status: of the result: compared, unsupported, undefined, invalid, failed, infra, avoided.
        outcome: pass, fail, unknown or infra.
        seconds: all phases together.
        operators: number of calls in the program.
        exact: bit-equal throughout.
        trivial: nothing that could have differed was compared.
        worker: number of the worker.
        case: id of the case, empty if it died while growing.
        phases: seconds by phase.
        reason: why it is unsupported, invalid, infra or avoided.
        relation: the metamorphic relation that made it of the job's own case; empty for that one.
        reached: how much it reached that no case of the campaign had before, by source of coverage.
    """

    index: int
    target: str
    status: str
    outcome: str
    seconds: float
    operators: int
    exact: bool = False
    trivial: bool = False
    worker: int = 0
    case: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    relation: str = ""
    reached: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FindingSeen(Event):
    """A case failed.

    Attributes:
        bug: id of the bug under which it is counted; empty as long as it is counted under none.
        title: one line.
        target, symptom: of the failure.
        index: the job's number.
        signature: the coarse one.
        known: id of the shipped known bug that it shows.
        waiting: it will be triaged.
    """

    bug: str
    title: str
    target: str
    symptom: str
    index: int
    signature: str = ""
    known: str = ""
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class BugOpened(Event):
    """A finding was triaged and is no bug that is known: a new one, which is not confirmed yet.

    Attributes:
        bug: its id.
        title: one line.
        target, symptom: of its smallest case.
        signature: the coarse one of the finding.
        operators: of the smallest case.
    """

    bug: str
    title: str
    target: str
    symptom: str
    signature: str
    operators: int


@dataclass(frozen=True, slots=True)
class Merged(Event):
    """Two bugs turned out to be one: ``other`` is counted under ``bug`` from now on, because of ``why``."""

    bug: str
    other: str
    why: str


@dataclass(frozen=True, slots=True)
class Confirmed(Event):
    """A bug was tried in fresh processes: it failed in k of n, and so it is confirmed, history or flaky."""

    bug: str
    k: int
    n: int
    state: str
    title: str = ""
    target: str = ""
    symptom: str = ""
    directory: str = ""


@dataclass(frozen=True, slots=True)
class WorkerDied(Event):
    """A worker ended otherwise than asked; ``seconds`` is how long until its successor was ready."""

    worker: int
    reason: str
    index: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Notice(Event):
    """Something a person should know: the zygote was restarted, a target could not be loaded, a disk is filling."""

    message: str


@dataclass(frozen=True, slots=True)
class Progress(Event):
    """Sent about every second, and not logged.

    Attributes:
        stage: ``fuzzing``, or ``triage`` when there is no fuzzing, or its time is over, and findings still wait.
        elapsed: seconds of this run.
        remaining: seconds until the budget ends; None without one.
        totals: by target, since the campaign began.
        limits: the time limit of one case by target, in seconds.
        bugs: number of bugs by state.
        waiting: findings that wait for triage, those at work included.
        triaging: findings at work.
        coverage: how much the cases reached so far, by source of coverage.
    """

    stage: Literal["fuzzing", "triage"]
    elapsed: float
    remaining: float | None
    totals: Mapping[str, Totals]
    limits: Mapping[str, float] = field(default_factory=dict)
    bugs: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    triaging: int = 0
    coverage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The campaign ended; it can be resumed.

    Attributes:
        reason: ``time``, ``cases``, ``interrupted`` or ``error``; ``triaged`` where nothing was fuzzed and nothing
            waits any more.
        seconds: of this run, warm-up included.
        totals: by target, since the campaign began.
        bugs: number of bugs by state.
        new: bugs of this run that were confirmed, kept as history findings, or wait for no more than to be confirmed.
        message: the error, where there was one.
        waiting: findings that wait for triage; the campaign goes on with them.
        disk: bytes by what they are for: ``kept`` in the directory, ``compilers`` at most at any moment of this run,
            and precompiled ``headers``, which campaigns share.
    """

    reason: Literal["time", "cases", "interrupted", "error", "triaged"]
    seconds: float
    totals: Mapping[str, Totals]
    bugs: Mapping[str, int] = field(default_factory=dict)
    new: tuple[str, ...] = ()
    message: str = ""
    waiting: int = 0
    disk: Mapping[str, int] = field(default_factory=dict)


class EventLog:
    """The log of a campaign: one JSON object on each line, with the time in seconds since 1970.

    Each event is one write of one line, so what was logged survives the death of the process.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(self._file).st_size
        # A line that was cut off by a full disk must not swallow the next one.
        if size and path.read_bytes()[-1:] != b"\n":
            os.write(self._file, b"\n")

    def __call__(self, event: Event) -> None:
        """Append an event; progress is for displays and is left out."""
        if isinstance(event, Progress):
            return
        line = json.dumps({"time": round(time.time(), 3), **event.to_json()}, separators=(",", ":")) + "\n"
        data = line.encode()
        written = os.write(self._file, data)
        if written < len(data):
            # A partial write means a full disk or a file size limit; the next write says which.
            os.write(self._file, data[written:])

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_log(path: Path, *kinds: str) -> Iterator[dict[str, Any]]:
    """The logged events as JSON values, oldest first; lines that were cut off are passed over.

    Args:
        path: of the log.
        kinds: names of events; all, if none is given. A night logs hundreds of thousands of events.
    """
    names = [json.dumps(kind).encode() for kind in kinds]
    with path.open("rb") as file:
        for line in file:
            if names and not any(name in line for name in names):
                continue
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and (not kinds or event.get("event") in kinds):
                yield event

"""Has operators examined, and their rules learnt, by isolated workers.

There is a fresh worker for each, so that what one breaks is no other's evidence. A call that crashes or hangs its
worker is a finding: its case is kept, and the same is done again without it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shakeout.corpus.vocabularies import torch as torch_words
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.jobs import Examine, Job, Learn, Recall
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.learning.store import Files, read
from shakeout.fuzz.workers.pool import Limits, WorkerPool

__all__ = ["LostCall", "learn_operators"]

#: The maker of workers that learn operators of torch, and kernels among them.
LEARNER = "shakeout.fuzz.learning.maker:Learner"
#: Seconds of one call: the slowest takes a tenth of a second, a machine that is busy a multiple of that. And of one
#: operator, all in all; bytes that its worker may take.
CALL_SECONDS = 10.0
OPERATOR_SECONDS = 300.0
BYTES = 3 << 30

#: Calls of one operator that may end their worker before it is examined no more.
MAX_LOST = 6
#: How often a worker may be killed from outside at one operator.
MAX_INTERRUPTED = 3


@dataclass(frozen=True, slots=True)
class LostCall:
    """A call that ended its worker.

    Attributes:
        operator: what was called.
        kind: ``crash``, ``hang`` or ``memory``.
        symptom: the signal, or the limit.
        path: its case, or None where it could not be written down.
    """

    operator: str
    kind: str
    symptom: str
    path: Path | None


@dataclass(slots=True)
class _Task:
    operator: str
    learning: bool
    without: list[str] = field(default_factory=list)
    interrupted: int = 0


def learn_operators(
    operators: Iterable[str],
    rows: Mapping[str, Sequence[Any]],
    files: Files,
    scratch: Path,
    *,
    workers: int,
    records: Mapping[str, Sequence[Any]] | None = None,
    seen: Mapping[str, Sequence[Any]] | None = None,
    calls: int | None = None,
    seconds: float | None = None,
    maker: str = LEARNER,
    tell: events.Listener = lambda event: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[LostCall]:
    """Learn operators that were not yet, or not from all calls of campaigns, and keep each as soon as it is there.

    Args:
        operators: qualified names.
        rows: traces of each.
        files: where it is kept.
        scratch: directory for the workers.
        workers: how many.
        records: rows of records of operators that are not torch's.
        seen: rows of calls of each that campaigns made; they are run again.
        calls: of each variant at most.
        seconds: after which no further operator is begun.
        maker: of the workers, as ``MODULE:NAME``.
        tell: told while the workers' parent is loading (``Warming``), and how far it is (``Learning``).
        stop: asked now and then whether to give up.

    Returns:
        The calls that crashed or hung.

    Raises:
        ZygoteBroken: the operators could not be loaded.
        Interrupted: ``stop`` said so before they were.
        OSError: nothing can be written.
    """
    names = list(operators)
    seen = seen or {}
    todo = [name for name in names if (read(files.rules(name)) or {}).get("seen") != len(seen.get(name, ()))]
    session = _Session(files, rows, records or {}, seen, calls, len(names), len(names) - len(todo), tell)
    if not todo:
        return []
    pool = WorkerPool(scratch, (), workers, tell=tell, maker=maker)
    began = time.monotonic()
    try:
        pool.start(stop)
        session.waiting.extend(_Task(name, files.examined(name).exists()) for name in todo)

        def next_job() -> Job | None:
            over = seconds is not None and time.monotonic() - began > seconds
            return session.next(over=over or stop())

        while (session.left or pool.busy) and not stop():
            for answer in pool.step(next_job, lambda job: Limits(OPERATOR_SECONDS, BYTES, CALL_SECONDS)):
                session.take(answer)
            if seconds is not None and time.monotonic() - began > seconds and not pool.busy:
                break
    finally:
        pool.stop()
    return session.lost


class _Session:
    def __init__(
        self,
        files: Files,
        rows: Mapping[str, Sequence[Any]],
        records: Mapping[str, Sequence[Any]],
        seen: Mapping[str, Sequence[Any]],
        calls: int | None,
        total: int,
        done: int,
        tell: events.Listener,
    ) -> None:
        self.files, self.rows, self.records, self.calls = files, rows, records, calls
        self.seen = seen
        self.total, self.done, self.tell = total, done, tell
        self.waiting: deque[_Task] = deque()
        self.cases: deque[tuple[LostCall, str]] = deque()
        self.lost: list[LostCall] = []
        self.found = 0
        self._given: list[tuple[Job, _Task | tuple[LostCall, str]]] = []

    @property
    def left(self) -> bool:
        """Whether there is something to hand out, or something in hand."""
        return bool(self.waiting or self.cases or self._given)

    def next(self, *, over: bool) -> Job | None:
        """The next job, or None; with ``over``, no operator is begun."""
        task: _Task | tuple[LostCall, str]
        job: Job
        if self.cases:
            task = self.cases.popleft()
            job = Recall(target=torch_words.REFERENCE, call=task[1], fresh=True)
        elif self.waiting and not over:
            task = self.waiting.popleft()
            # Read only now: of all operators, these files take half a minute to read.
            if task.learning and not task.without:
                examined = read(self.files.examined(task.operator))
                task.learning = examined is not None and "traces" in examined  # else it failed, and is tried again
                task.without += (examined or {}).get("without", ())
            name, without = task.operator, tuple(task.without)
            if task.learning:
                examined_file = str(self.files.examined(name).absolute())
                seen = tuple(self.seen.get(name, ()))
                job = Learn(
                    target=torch_words.REFERENCE,
                    operator=name,
                    examined=examined_file,
                    without=without,
                    seen=seen,
                    fresh=True,
                )
            else:
                traces, records = tuple(self.rows.get(name, ())), tuple(self.records.get(name, ()))
                job = Examine(
                    target=torch_words.REFERENCE,
                    operator=name,
                    without=without,
                    traces=traces,
                    records=records,
                    calls=self.calls,
                    fresh=True,
                )
        else:
            return None
        self._given.append((job, task))
        return job

    def take(self, answer: Answer) -> None:
        """What came of a job."""
        place = next((place for place, (job, _) in enumerate(self._given) if job is answer.job), None)
        if place is None:
            return
        _, task = self._given.pop(place)
        if isinstance(task, tuple):
            self._keep(task[0], answer)
        elif answer.loss is not None:
            self._again(task, answer)
        elif answer.reply.internal:
            self._finish(task, {"operator": task.operator, "failed": answer.reply.internal})
        else:
            self._finish(task, {**answer.reply.learnt, "seconds": answer.seconds, "without": task.without})

    def _finish(self, task: _Task, found: Mapping[str, Any]) -> None:
        if not task.learning:
            self.files.write(self.files.examined(task.operator), found)
            if "failed" not in found:
                self.waiting.appendleft(_Task(task.operator, learning=True, without=task.without))
                return
        self.files.write(self.files.rules(task.operator), {**found, "seen": len(self.seen.get(task.operator, ()))})
        self.done += 1
        self.found += sum(row["rule"] is not None for row in found.get("variants", ()))
        self.tell(events.Learning(task.operator, self.done, self.total, self.found, len(self.lost)))

    def _again(self, task: _Task, answer: Answer) -> None:
        """Its worker is dead: the same once more, without the call that killed it."""
        loss = answer.loss
        assert loss is not None
        if loss.kind == "interrupted":
            task.interrupted += 1
            if task.interrupted > MAX_INTERRUPTED:
                self._finish(task, {"operator": task.operator, "failed": f"killed {task.interrupted} times"})
            else:
                self.waiting.append(task)
            return
        lost = LostCall(task.operator, loss.kind, loss.symptom, None)
        call = loss.state.text if loss.state.kind == "case" and loss.state.phase == "grow" else ""
        if not call or call in task.without or len(task.without) >= MAX_LOST:
            self.lost.append(lost)
            reason = f"{loss.kind}: {loss.symptom}" + ("" if call else " outside of any call")
            self._finish(task, {"operator": task.operator, "failed": reason, "without": task.without})
            return
        task.without.append(call)
        self.cases.append((lost, call))
        self.waiting.appendleft(task)

    def _keep(self, lost: LostCall, answer: Answer) -> None:
        """Write down the case of a call that ended its worker."""
        path = None
        if text := answer.reply.case:
            self.files.cases.mkdir(parents=True, exist_ok=True)
            name = json.loads(text)["program"]["calls"][0]["operator"]
            number = sum(1 for one in self.lost if one.operator == lost.operator)
            path = self.files.cases / f"{lost.kind}-{name.replace(':', '.')}-{number}.json"
            path.write_text(text + "\n", encoding="utf-8")
        self.lost.append(LostCall(lost.operator, lost.kind, lost.symptom, path))

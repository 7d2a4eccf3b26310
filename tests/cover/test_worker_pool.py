"""A pool's answers: one for each job, whatever happens to its worker meanwhile."""

import json
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.tiers import some

from shakeout.corpus import codec
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.jobs import Job, Run
from shakeout.fuzz.ground.makers import RUNS_ONLY
from shakeout.fuzz.workers import pool as pools
from shakeout.fuzz.workers import processes, watchdog
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.fuzz.workers.protocol import LOG
from shakeout.targets.joint import Company
from shakeout.targets.registry import facts_of


def workers(directory: Path) -> list[int]:
    """Whoever works below a directory and was not started by this process: the zygote's children."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            mine = str(directory).encode() in (entry / "environ").read_bytes()
        except OSError:
            continue
        if mine and parent != os.getpid():
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("times", some([1, 2, 0], every=2))
def test_a_job_whose_worker_is_killed_from_outside_runs_once_more(times: int, tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path, ["planted"], 1)
    faults = ["hang", selftest.NO_FAULT]
    jobs = [Run(target="planted", case=codec.encode(selftest.case(fault))) for fault in faults]
    killed: list[int] = []

    def limits(job: Job) -> Limits:
        if job is jobs[0] and len(killed) < times and (there := set(workers(tmp_path)) - set(killed)):
            killed.append(there.pop())
            os.kill(killed[-1], signal.SIGKILL)
        seconds = 3.0 if job is jobs[0] else 60.0
        return Limits(seconds, 2 << 30, seconds)

    try:
        pool.start(complete=False)
        found = {jobs.index(answer.job): answer for answer in pool.answers(jobs, limits)}
        assert not pool.busy
    finally:
        pool.stop()
    assert len(killed) == times
    assert set(found) == {0, 1}
    assert found[0].loss is not None
    assert found[0].loss.kind == ("interrupted" if times == 2 else "hang")
    assert found[1].reply.result.status == "compared"


def test_as_many_wait_for_kernels_as_are_needed_and_a_stop_leaves_nothing_in_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = replace(facts_of("planted"), shortcuts=frozenset({"joint"}))
    monkeypatch.setattr(pools, "facts_of", lambda name: facts)
    monkeypatch.setattr(pools, "company", lambda workers, most: Company(workers + 4, 1))
    pool = WorkerPool(tmp_path, ["planted"], 1, shortcuts=("joint",), maker=RUNS_ONLY)

    def jobs(fault: str, number: int) -> list[Run]:
        return [Run(target="planted", case=codec.encode(selftest.case(fault))) for _ in range(number)]

    def awake() -> int:
        return sum(not handle.asleep for handle in pool._processes.handles)

    try:
        pool.start(complete=False)
        assert pool.size == 1
        assert len(list(pool.answers(jobs(selftest.NO_FAULT, 2), lambda job: Limits(60.0, 2 << 30)))) == 2
        assert pool.size == 2, "one for each job"
        pool.prepare()
        assert (pool.size, awake()) == (5, 2)
        assert len(list(pool.answers(jobs(selftest.NO_FAULT, 5), lambda job: Limits(60.0, 2 << 30)))) == 5
        assert awake() == 2, "one at work, and one for the next job"
        # What hangs in its run is taken for one that waits for its kernels.
        monkeypatch.setattr(watchdog, "WAITING", "run")
        hanging = jobs("hang", 5)
        assert list(pool.answers(hanging, lambda job: Limits(60.0, 2 << 30), lambda: len(pool.running) == 5)) == []
        assert awake() == 5
        assert not pool.busy
    finally:
        pool.stop()


def test_a_worker_that_answers_before_the_zygote_says_who_it_is_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(tmp_path, ["planted"], 1)
    # Each wants a fresh worker, so that the first one is dismissed as soon as it has answered.
    jobs = [Run(target="planted", case=codec.encode(selftest.case(selftest.NO_FAULT)), fresh=True) for _ in range(2)]
    listen, answered = pool._processes._listen, []
    monkeypatch.setattr(pool._processes, "_listen", lambda: listen() if answered else None)
    until = time.monotonic() + 60.0
    try:
        pool.start(complete=False)
        for answer in pool.answers(jobs, lambda job: Limits(60.0, 2 << 30), lambda: time.monotonic() > until):
            answered.append(answer.reply.result.status)
    finally:
        pool.stop()
    assert answered == ["compared", "compared"]


MAKER = """
import os
from shakeout.fuzz.ground.makers import RunsOnly

class Telling(RunsOnly):
    def load_all(self):
        with open(os.environ["TOLD"], "a") as file:
            file.write(f"{os.getppid()} ")
"""


def test_what_few_cases_need_is_loaded_before_a_worker_is_forked_for_one_that_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "telling_maker.py").write_text(MAKER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    pool = WorkerPool(tmp_path / "pool", ["planted"], 1, maker="telling_maker:Telling")
    fine = [Run(target="planted", case=codec.encode(selftest.case(selftest.NO_FAULT))) for _ in range(2)]
    try:
        pool.start()  # the workers of the self-test do not count
        (first,) = pool.answers(fine[:1], lambda job: Limits(60.0, 2 << 30))
        assert not (tmp_path / "told").exists()

        (second,) = pool.answers([replace(fine[1], fresh=True)], lambda job: Limits(60.0, 2 << 30))
    finally:
        pool.stop()
    assert {first.reply.result.status, second.reply.result.status} == {"compared"}
    assert (tmp_path / "told").read_text().split() == [str(os.getpid())], "once, in the zygote"


@pytest.mark.long
def test_what_does_not_begin_or_does_not_answer_is_ended_and_then_its_zygote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "BIRTH_SECONDS", 4.0)
    for name in ("worker-1-1", "worker-1-2"):
        # Whoever opens it waits for a reader, as for a file system that does not answer.
        (tmp_path / "cache" / name).mkdir(parents=True)
        os.mkfifo(tmp_path / "cache" / name / LOG)
    told: list[events.Event] = []
    pool = WorkerPool(tmp_path, ["planted"], 1, tell=told.append)
    jobs = [Run(target="planted", case=codec.encode(selftest.case(selftest.NO_FAULT)), fresh=True) for _ in range(2)]
    until, statuses = time.monotonic() + 90.0, []
    try:
        pool.start(complete=False)
        for answer in pool.answers(jobs, lambda job: Limits(60.0, 2 << 30), lambda: time.monotonic() > until):
            statuses.append(answer.reply.result.status)
            if len(statuses) == 1:
                # It cannot say that the worker is dead that is dismissed now.
                zygote = pool._zygote._process
                assert zygote is not None
                os.kill(zygote.pid, signal.SIGSTOP)
    finally:
        pool.stop()
    assert statuses == ["compared", "compared"]
    assert [event.reason for event in told if isinstance(event, events.WorkerDied)] == [
        "hang: it did not begin within 4 s"
    ]
    assert [event.message for event in told if isinstance(event, events.Notice)] == [
        "the process that forks the workers forked 2 in a row that did not begin; starting another",
        "the process that forks the workers does not answer; starting another",
    ]


class Silent:
    """A zygote that tells deaths, and whose workers never begin."""

    alive = True

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.workers: list[socket.socket] = []

    def fileno(self) -> int:
        return self._ours.fileno()

    def fork(self, request: Mapping[str, Any], file: int) -> None:
        self.workers.append(socket.socket(fileno=os.dup(file)))

    def say(self, message: Mapping[str, Any]) -> None:
        self._theirs.send(json.dumps(message).encode())

    def receive(self) -> Any:
        return json.loads(self._ours.recv(1000))

    def close(self) -> None:
        for one in (self._ours, self._theirs, *self.workers):
            one.close()


@pytest.mark.timeout(20)
def test_nobody_waits_for_the_successor_of_a_worker_that_is_told_to_be_dead_as_it_hangs_up(tmp_path: Path) -> None:
    (tmp_path / "slots").mkdir()
    zygote = Silent()
    pool = processes.WorkerProcesses(tmp_path, cast(Any, zygote), 1, lambda event: None, lambda handle, message: None)
    try:
        pool.fork_all()
        (handle,) = pool.handles
        first, handle.pid = handle.channel, 1 << 30  # no process has such a number
        # Both are there at one look, the death first.
        zygote.say({"dead": handle.pid, "status": -signal.SIGSEGV})
        zygote.workers[0].close()
        assert list(pool.collect(1.0)) == []
        assert handle.channel is not first
        assert (len(zygote.workers), handle.mute) == (2, 0.0)
        zygote.workers[1].send(b"{}\n")
        assert list(pool.collect(1.0)) == [handle]
    finally:
        pool.close()

"""A pool's answers: one for each job, whatever happens to its worker meanwhile."""

import os
import signal
import time
from pathlib import Path

import pytest

from shakeout.corpus import codec
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.ground.jobs import Job, Run
from shakeout.fuzz.workers.pool import Limits, WorkerPool


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


@pytest.mark.parametrize("times", [0, 1, 2])
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


def test_a_stop_leaves_nothing_in_hand(tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path, ["planted"], 1)
    job = Run(target="planted", case=codec.encode(selftest.case("hang")))
    try:
        pool.start(complete=False)
        assert list(pool.answers([job], lambda job: Limits(60.0, 2 << 30), lambda: pool.busy)) == []
        assert not pool.busy
    finally:
        pool.stop()


def test_a_worker_that_answers_before_the_zygote_says_who_it_is_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = WorkerPool(tmp_path, ["planted"], 1)
    # Each wants a fresh worker, so that the first one is dismissed as soon as it has answered.
    jobs = [Run(target="planted", case=codec.encode(selftest.case(selftest.NO_FAULT)), fresh=True) for _ in range(2)]
    listen, answered = pool._listen, []
    monkeypatch.setattr(pool, "_listen", lambda: listen() if answered else None)
    until = time.monotonic() + 60.0
    try:
        pool.start(complete=False)
        for answer in pool.answers(jobs, lambda job: Limits(60.0, 2 << 30), lambda: time.monotonic() > until):
            answered.append(answer.reply.result.status)
    finally:
        pool.stop()
    assert answered == ["compared", "compared"]

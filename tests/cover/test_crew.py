"""A crew's answers: one for each job, whatever happens to its worker meanwhile."""

import os
import signal
from pathlib import Path

import pytest

from shakeout.corpus import codec
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.ground.jobs import Job, Run
from shakeout.fuzz.workers.capacity import WAITING_BYTES, ahead, spare
from shakeout.fuzz.workers.pool import Crew, Limits
from shakeout.targets.batches import ENOUGH


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
    crew = Crew(tmp_path, ["planted"], 1)
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
        crew.start(complete=False)
        found = {jobs.index(answer.job): answer for answer in crew.answers(jobs, limits)}
        assert not crew.busy
    finally:
        crew.stop()
    assert len(killed) == times
    assert set(found) == {0, 1}
    assert found[0].loss is not None
    assert found[0].loss.kind == ("interrupted" if times == 2 else "hang")
    assert found[1].reply.result.status == "compared"


def test_a_stop_leaves_nothing_in_hand(tmp_path: Path) -> None:
    crew = Crew(tmp_path, ["planted"], 1)
    job = Run(target="planted", case=codec.encode(selftest.case("hang")))
    try:
        crew.start(complete=False)
        assert list(crew.answers([job], lambda job: Limits(60.0, 2 << 30), lambda: crew.busy)) == []
        assert not crew.busy
    finally:
        crew.stop()


def test_workers_that_wait_for_kernels_follow_cores_and_memory() -> None:
    plenty = 1 << 40
    for workers in (1, 2, 16, 30, 64):
        # Two fifths of the cores compile, each a batch, while one more gathers; and no deeper than half as much again.
        wanted = ENOUGH * (1 + 0.4 * workers)
        assert wanted <= spare(workers, plenty) <= 1.5 * wanted
        assert ahead(workers) <= spare(workers, plenty)
        for memory in (0, 2 << 30, 8 << 30, 64 << 30):
            assert (workers + spare(workers, memory)) * WAITING_BYTES <= max(memory, 2 * workers * WAITING_BYTES)
    assert spare(16, 64 << 30) > spare(16, 16 << 30) > spare(16, 4 << 30) == 0


class Post:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)


def test_a_job_that_waited_for_its_worker_is_given_though_there_is_no_other(tmp_path: Path) -> None:
    crew = Crew(tmp_path, ["planted"], 2)
    job = Run(target="planted", case=codec.encode(selftest.case(selftest.NO_FAULT)), fresh=True)
    posts = [Post(), Post()]
    for seat, post in zip(crew._seats, posts, strict=True):
        seat.channel, seat.ready = post, True  # type: ignore[assignment]
    crew._seats[1].pending = job
    crew._employ(lambda: None)
    assert [len(post.sent) for post in posts] == [0, 1]
    assert crew._seats[1].job is job


def test_while_one_waits_for_a_kernel_another_is_at_work_and_its_time_does_not_count(tmp_path: Path) -> None:
    crew = Crew(tmp_path, ["planted"], 1)
    jobs = [Run(target="planted", case=codec.encode(selftest.case(selftest.NO_FAULT))) for _ in range(3)]
    crew._seats.append(type(crew._seats[0])(2))
    for seat in crew._seats:
        seat.channel, seat.ready = Post(), True  # type: ignore[assignment]
    first, second = crew._seats
    crew._employ(iter([jobs[0], jobs[1]]).__next__)
    assert (first.job, second.job) == (jobs[0], None)
    crew._take(first, {"serial": first.serial, "waiting": True})
    crew._employ(iter([jobs[1], jobs[2]]).__next__)
    assert second.job is jobs[1]
    given, first.paused = first.given, first.paused - 30.0
    crew._take(first, {"serial": first.serial, "waiting": False})
    assert not first.waiting
    assert 30.0 <= first.given - given < 40.0


def test_a_job_for_a_fresh_worker_goes_to_one_without_a_past(tmp_path: Path) -> None:
    crew = Crew(tmp_path, ["planted"], 2)
    case = codec.encode(selftest.case(selftest.NO_FAULT))
    jobs = iter([Run(target="planted", case=case, fresh=fresh) for fresh in (True, False)])
    for seat in crew._seats:
        seat.channel, seat.ready = Post(), True  # type: ignore[assignment]
    used, unused = crew._seats
    used.history = [Run(target="planted", case=case)]
    crew._employ(lambda: next(jobs, None))
    assert unused.job is not None
    assert unused.job.fresh
    assert used.job is not None
    assert not used.job.fresh
    assert used.pending is None

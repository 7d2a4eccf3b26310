"""Messages between the processes."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from shakeout.fuzz.ground.jobs import Candidate, Examine, Grow, Job, Learn, Recall, Run, Script, Trial, job_from_json
from shakeout.fuzz.workers.protocol import Channel, ControlChannel, Disconnected


def test_a_job_survives_the_journey() -> None:
    job = Grow(
        number=4,
        target="inductor",
        seed=2**64 - 1,
        recipe={"index": 4, "mode": "training"},
        knobs={"freezing": True},
        knob_share=0.5,
        traced=True,
        before=(Grow(number=1, target="inductor", seed=3), Run(target="aot_eager", case="{}")),
        fresh=True,
    )
    assert job_from_json(json.loads(json.dumps(job.to_json()))) == job
    assert Run(target="eager", case="{}").to_json() == {"kind": "run", "target": "eager", "case": "{}"}


@pytest.mark.parametrize(
    "job",
    [
        Candidate(target="tvm", case="{}", defined=True, finite=False),
        Trial(target="inductor", case="{}", record="r", limit="patterns", most=3, fresh=True),
        Script(target="eager", case="{}", limit=3.0),
        Examine(target="eager", operator="torch.add", without=("x",), traces=([1, 2],), calls=4),
        Learn(target="eager", operator="torch.add", examined="file", seen=([1],)),
        Recall(target="eager", call="{}"),
    ],
    ids=lambda job: type(job).__name__,
)
def test_every_kind_of_job_survives_the_journey(job: Job) -> None:
    assert job_from_json(json.loads(json.dumps(job.to_json()))) == job


@pytest.mark.parametrize("data", [{}, {"kind": "no such"}, {"kind": "run"}, {"kind": "run", "target": "a", "more": 1}])
def test_what_is_no_job_is_refused(data: dict) -> None:
    with pytest.raises(ValueError, match="job"):
        job_from_json(data)


def test_long_messages_and_several_at_once() -> None:
    left, right = (Channel(end) for end in socket.socketpair())
    pid = os.fork()
    if pid == 0:
        for number in range(3):
            left.send({"index": number, "case": "ü\n" * 300_000})
        left.send({"last": True})
        os._exit(0)
    left.close()
    found = []
    with contextlib.suppress(Disconnected):
        while True:
            found += right.receive()
    os.waitpid(pid, 0)
    assert [message.get("index", -1) for message in found] == [0, 1, 2, -1]
    assert found[0]["case"] == "ü\n" * 300_000


def test_what_a_dying_worker_said_is_heard_and_a_cut_line_is_not() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    assert channel.drain() == []
    theirs.sendall(b'{"index":1}\n{"index":2}\n{"ind')
    theirs.close()
    assert channel.drain() == [{"index": 1}, {"index": 2}]
    assert channel.drain() == []


def test_talking_to_the_dead() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(Disconnected):
        Channel(ours).send({"index": 1})


def test_files_travel_with_their_message() -> None:
    left, right = (ControlChannel(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    pipes = [os.pipe() for _ in range(2)]
    for number, (_, write) in enumerate(pipes):
        left.send({"number": number}, (write,))
        os.close(write)
    for number in range(2):
        message, files = right.receive()
        assert message == {"number": number}
        os.write(files[0], b"hello %d" % number)
        assert os.read(pipes[number][0], 100) == b"hello %d" % number
        os.close(files[0])
        os.close(pipes[number][0])
    left.close()
    with pytest.raises(Disconnected):
        right.receive()


def test_a_child_dies_with_its_parent() -> None:
    child = "import os, sys; from shakeout.fuzz.workers.protocol import die_with_parent as d; d(int(sys.argv[1]));"
    child += "print('ready', flush=True); import time; time.sleep(60)"
    parent = (
        "import subprocess, sys, os;"
        f"p = subprocess.Popen([sys.executable, '-c', {child!r}, str(os.getpid())], stdout=subprocess.PIPE);"
        "p.stdout.readline(); print(p.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    for _ in range(100):
        if not _alive(pid):
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_a_child_whose_parent_is_gone_already_does_not_start() -> None:
    text = "from shakeout.fuzz.workers.protocol import die_with_parent as d; d(1 << 22); print('alive')"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

"""A job for a fresh worker compiles for itself, and the server of joint builds knows that somebody is at work."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shakeout.fuzz.ground.jobs import Run
from shakeout.fuzz.ground.makers import RUNS_ONLY
from shakeout.fuzz.ground.results import Reply
from shakeout.fuzz.ground.slot import Slot
from shakeout.fuzz.process import worker
from shakeout.targets import shortcuts


class Post:
    """A channel that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)


@pytest.mark.parametrize("fresh", [False, True])
def test_the_server_is_told_of_every_job(fresh: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    door.settimeout(10)
    client = shortcuts._Client(theirs.fileno())
    monkeypatch.setattr(shortcuts, "_clients", [client])
    slot = Slot(tmp_path / "slot")
    post = Post()
    served = worker._Worker(post, slot, tmp_path, RUNS_ONLY)  # type: ignore[arg-type]
    asks: list[bool] = []

    def replies(*arguments: object) -> Iterator[Reply]:
        asks.append(client.door >= 0)
        yield Reply()

    monkeypatch.setattr(worker._Worker, "_replies", replies)
    monkeypatch.setattr(os, "ftruncate", lambda file, size: None)
    served.serve(1, Run(target="planted", case="{}", fresh=fresh))
    _, files, _, _ = socket.recv_fds(door, 16, 1)
    with socket.socket(fileno=files[0]) as heard:
        assert [json.loads(heard.recv(1000)) for _ in range(2)] == [{"busy": True}, {"busy": False}]
    assert asks == [not fresh]
    assert client.door >= 0
    assert len(post.sent) == 1
    slot.close()
    theirs.close()
    door.close()

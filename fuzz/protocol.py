"""What supervisor, zygote and workers say to each other: jobs and answers, as JSON over socket pairs."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Channel", "Control", "Disconnected", "Job", "die_with_parent"]

_PR_SET_PDEATHSIG = 1

#: Bytes read at once. Most answers have less than a kilobyte; one with a finding has its case and script in it.
_CHUNK = 1 << 18


class Disconnected(Exception):
    """The other side closed its end, or died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is asked to do: make a case and run it, run a given case, or only write its script.

    Attributes:
        index: number of the job; the campaign's cases count from 0, everything else is below.
        target: what runs the case.
        case: canonical text; empty where the case follows from the seed.
        seed: 64 bits from which a grown case follows.
        recipe: what kind of program is grown.
        knobs: pinned for every case.
        knob_share: probability that a case leaves the target's defaults.
        device: ``cpu`` or ``cuda``.
        settings: that are tried on one program; 0 for as many as the target wants.
        traced: each call is written into the slot before it runs, to find the one that crashes while growing.
        script_limit: seconds; above 0, only the case's script is made, with this limit for its run.
        before: jobs that the same worker, a fresh one, runs first.
        fresh: the worker must not have run anything before.
        avoid: ids of known bugs; a grown case in which the smallest case of one occurs is not run.
    """

    index: int
    target: str
    case: str = ""
    seed: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, Any] = field(default_factory=dict)
    knob_share: float = 0.0
    device: str = "cpu"
    settings: int = 0
    traced: bool = False
    script_limit: float = 0.0
    before: tuple[Job, ...] = ()
    fresh: bool = False
    avoid: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what is at its default is left out."""
        found: dict[str, Any] = {"index": self.index, "target": self.target}
        for item in dataclasses.fields(self)[2:]:
            value = getattr(self, item.name)
            if value:
                found[item.name] = value
        if self.before:
            found["before"] = [job.to_json() for job in self.before]
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        """Read what ``to_json`` wrote."""
        before = tuple(cls.from_json(job) for job in data.get("before", ()))
        return cls(**{**data, "before": before, "avoid": tuple(data.get("avoid", ()))})


class Channel:
    """A stream socket that carries JSON objects, one on each line."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._pending = b""

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; raises Disconnected."""
        try:
            self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise Disconnected(str(error)) from None

    def receive(self) -> list[dict[str, Any]]:
        """Wait until something arrives, and give what is complete; raises Disconnected.

        A line that the other side's death cut off is dropped.
        """
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionError:
            data = b""
        if not data:
            raise Disconnected
        *lines, self._pending = (self._pending + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def drain(self) -> list[dict[str, Any]]:
        """What has arrived and was not received yet, without waiting; also after the other side's death."""
        found = []
        self._socket.setblocking(False)
        try:
            while True:
                found += self.receive()
        except (BlockingIOError, Disconnected, OSError):
            return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Control:
    """A packet socket that carries JSON objects, and open files with them."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any], files: tuple[int, ...] = ()) -> None:
        """Send one message; raises Disconnected."""
        data = json.dumps(message, separators=(",", ":")).encode()
        try:
            socket.send_fds(self._socket, [data], list(files))
        except OSError as error:
            raise Disconnected(str(error)) from None

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """Wait for one message and the files that came with it; raises Disconnected."""
        try:
            data, files, _, _ = socket.recv_fds(self._socket, _CHUNK, 8)
        except ConnectionError:
            data, files = b"", []
        if not data:
            raise Disconnected
        return json.loads(data), files

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; at once if that has already happened.

    The kernel takes the thread that forked for the parent, so that thread must live as long as the child should.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)

"""How supervisor, zygote and workers talk to each other: JSON over socket pairs."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any

__all__ = ["ENVIRONMENT", "LOG", "TELL_STACK", "Channel", "ControlChannel", "Disconnected", "die_with_parent"]

_PR_SET_PDEATHSIG = 1

#: Bytes read at once. Most answers have less than a kilobyte; one with a finding has its case and script in it.
_CHUNK = 1 << 18


#: Set before torch is imported. One thread everywhere; no processes of Inductor's own; each case compiled anew rather
#: than taken from a cache; and sets of names in the same order in every process, so that a seed means one case.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
    "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
    "TORCHINDUCTOR_AUTOTUNE_REMOTE_CACHE": "0",
    "PYTHONHASHSEED": "0",
}

#: A worker's file for what it and its compilers print; it starts anew with each job.
LOG = "output.log"

#: On this signal a worker prints its Python stack; the supervisor sends it before it ends a worker that hangs.
TELL_STACK = signal.SIGUSR1


class Disconnected(Exception):
    """The other side closed its end, or died."""


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


class ControlChannel:
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

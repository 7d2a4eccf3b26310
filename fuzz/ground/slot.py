"""A slot: the preallocated file into which a worker writes what it is about to do.

After a death the supervisor reads there which case it was; before one, which phase has lasted how long. Nothing is
synchronised to disk: the page cache outlives the processes, and a power cut costs one case. Writing a slot takes
microseconds, a new file for each case a millisecond.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["SIZE", "WAITING", "Slot", "SlotState", "Watch", "read"]

#: Bytes of a slot to begin with; it grows for a longer text. Allocated, not sparse: writing through a memory map into
#: a hole of a full disk is a bus error.
SIZE = 1 << 20

#: The phase in which a worker only waits for a compiler that others' kernels wait for as well.
WAITING = "waiting"

# Sequence number (odd while a text is being written), job, start of the job, start of the phase, bytes of text, what
# the text is, name of the phase. Times are of the monotonic clock, which all processes share.
_HEADER = struct.Struct("<QqddQ8s24s")
_TEXT = 128

Kind = Literal["", "job", "trace", "case"]


@dataclass(frozen=True, slots=True)
class SlotState:
    """What a slot shows.

    Attributes:
        job: index of the job.
        began: when the job began, in seconds of ``time.monotonic``.
        phase: what the worker is doing; empty between jobs.
        since: when the phase began.
        kind: what the text is: the ``job``, a ``trace`` (the job, then one line for each call before it runs), or the
            ``case``; empty if it was being written.
        text: the text.
    """

    job: int
    began: float
    phase: str
    since: float
    kind: Kind = ""
    text: str = ""


class Slot:
    """The worker's side; only one process writes."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.posix_fallocate(self._file, 0, SIZE)
        self._map = mmap.mmap(self._file, SIZE)
        self._sequence = 0
        self._job = 0
        self._began = self._since = 0.0
        self._length = 0
        self._kind = b""
        self._phase = b""
        self._put()

    def begin(self, job: int, text: str) -> None:
        """A job starts; ``text`` is what is known of it."""
        self._job = job
        self._began = self._since = time.monotonic()
        self._phase = b"start"
        self._write(b"job", text.encode())

    def phase(self, name: str) -> None:
        """The job enters a phase."""
        self._phase, self._since = name.encode(), time.monotonic()
        self._put()

    def trace(self, line: str) -> None:
        """One more line behind the job's text."""
        self._write(b"trace", b"\n" + line.replace("\n", " ").encode(), self._length)

    def case(self, text: str) -> None:
        """The case is known, and about to run."""
        self._write(b"case", text.encode())

    def end(self) -> None:
        """The job is done."""
        self._phase, self._since = b"", time.monotonic()
        self._put()

    def close(self) -> None:
        """Unmap and close."""
        self._map.close()
        os.close(self._file)

    def _write(self, kind: bytes, data: bytes, at: int = 0) -> None:
        end = _TEXT + at + len(data)
        if end > len(self._map):
            os.posix_fallocate(self._file, 0, 2 * end)
            self._map.resize(2 * end)
        self._sequence += 1
        self._put()
        self._map[_TEXT + at : end] = data
        self._kind, self._length = kind, at + len(data)
        self._sequence += 1
        self._put()

    def _put(self) -> None:
        _HEADER.pack_into(
            self._map, 0, self._sequence, self._job, self._began, self._since, self._length, self._kind, self._phase
        )


class Watch:
    """The supervisor's side: looks at a slot while the worker writes it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def look(self) -> SlotState:
        """Job and phase, without the text."""
        return _state(os.pread(self._file, _HEADER.size, 0))

    def read(self) -> SlotState:
        """Everything."""
        return _read(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> SlotState:
    """What a slot shows."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _read(file)
    finally:
        os.close(file)


def _read(file: int) -> SlotState:
    head = os.pread(file, _HEADER.size, 0)
    if len(head) < _HEADER.size:
        return _state(head)
    length = _HEADER.unpack(head)[4]
    text = os.pread(file, length, _TEXT)
    if _said_of_text(os.pread(file, _HEADER.size, 0)) != _said_of_text(head):
        # Another text was written meanwhile, or the header was read while half of it was written.
        return _state(head)
    return _state(head, text)


def _said_of_text(head: bytes) -> tuple[int, int, bytes]:
    """Sequence number, length and kind: what tells one text from another."""
    sequence, _, _, _, length, kind, _ = _HEADER.unpack(head)
    return sequence, length, kind


def _state(head: bytes, text: bytes | None = None) -> SlotState:
    if len(head) < _HEADER.size:
        return SlotState(-1, 0.0, "", 0.0)
    sequence, job, began, since, length, kind, phase = _HEADER.unpack(head)
    words = phase.rstrip(b"\0").decode("ascii", "replace")
    if text is None or sequence % 2 or len(text) < length:
        return SlotState(job, began, words, since)
    return SlotState(job, began, words, since, kind.rstrip(b"\0").decode(), text.decode("utf-8", "replace"))

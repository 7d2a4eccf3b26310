"""A tiered store of blocks of bytes: a device's memory, the host's, files; written and read in the background.

A block goes down: from where it was made into the host's memory, and where that has no room, into a file. It comes back
up when it is asked for, or before that. What is on its way is handed out from where it is. What comes back from a file
has the checksum of what went there; what a disk does not take stays in memory. So whatever a disk does, a block comes
back with its bytes, or there is an error that names the file.

On a GPU blocks are copied by a stream of their own, through page-locked memory, beside the kernels of the network.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
import threading
import time
import warnings
import weakref
import zlib
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from shakeout.targets.offload.files import Files
from shakeout.targets.offload.saved import buffer
from shakeout.targets.offload.streams import Transfers
from shakeout.targets.offload.workers import Job, Workers

__all__ = ["Block", "Store", "StoreError"]

#: How often a file is written or read before that counts as failed: a disk that fails once may not fail twice.
ATTEMPTS = 3

_PREFIX = "shakeout-store-"


class StoreError(RuntimeError):
    """What was stored could not be written or read back; the message names the file and the reason."""


class Block:
    """Bytes in a store.

    Attributes:
        number: counted in its store.
        size: in bytes.
        memory: the bytes, as long as they are in memory: a flat tensor of bytes.
        path: the file that holds them; None while there is none.
        hosted: whether they stay in the host's memory.
    """

    __slots__ = (
        *("_checksum", "_device", "_gone", "_loaded", "_reading", "_ready", "_writing"),
        *("hosted", "memory", "number", "path", "size"),
    )

    def __init__(self, number: int, memory: torch.Tensor, ready: Any) -> None:
        self.number, self.size = number, memory.numel()
        self.memory: torch.Tensor | None = memory
        self.path: Path | None = None
        self.hosted = False
        self._device = memory.device
        self._ready = ready  # what has to happen on the device before the bytes are there
        self._checksum = 0
        self._writing: Job | None = None
        self._reading: Job | None = None
        self._loaded: StorageWeakRef | None = None  # what was read, as long as somebody has it
        self._gone = False


class Store:
    """Keeps blocks; see the module.

    Attributes:
        directory: where the files are.
        lock: whoever calls from several threads, and keeps books of the blocks, holds it meanwhile.
        written: how many blocks were written to files.
        read: how many were read back.
        forwarded: how many were handed out from memory on their way to a file.
        refused: how many stayed in memory because the disk did not take them.
        seconds: that writing files took, in all threads together.
        volume: bytes that were written.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        host: int = 0,
        threads: int = 2,
        disk: Files | None = None,
    ) -> None:
        """Make the store, in a fresh directory.

        Args:
            directory: where that is made; by default the system's place for temporary files.
            host: bytes that stay in the host's memory.
            threads: that write and read.
            disk: what writes and reads files.

        Raises:
            StoreError: there can be no such directory.
        """
        self._disk = disk or Files()
        self._host = host
        self._numbers = itertools.count()
        self.lock = threading.RLock()
        self._workers = Workers(threads, self.lock, self._disk.order)
        self._transfers = Transfers()
        self._blocks = self._writes = 0
        self._open = True
        self.written = self.read = self.forwarded = self.refused = 0
        self.seconds, self.volume = 0.0, 0
        try:
            self.directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
            self._claim = _claimed(self.directory)
        except OSError as error:
            raise StoreError(f"no directory for blocks can be made in {directory}: {error}") from error
        self._remove = weakref.finalize(self, _removed, self.directory, self._claim)
        _sweep(self.directory.parent)

    # --- blocks ---------------------------------------------------------------------------------------------------

    def put(self, memory: torch.Tensor) -> Block:
        """Take bytes, which go on living where they are until they are somewhere else.

        Args:
            memory: a flat tensor of bytes, on any device. Nobody writes to it before the block is written.
        """
        block = Block(next(self._numbers), memory, self._transfers.mark(memory))
        with self.lock:
            self._blocks += 1
            block._writing = self._workers.submit(Job(lambda: self._write(block)))
        return block

    def get(self, block: Block) -> torch.Tensor:
        """The bytes of a block, on the device that they came from.

        Raises:
            StoreError: the file cannot be read, is too short, or does not hold what was written.
        """
        while True:
            with self.lock:
                if (memory := self._at_hand(block)) is not None:
                    return memory
                job = self._fetch(block)
            try:
                memory = self._workers.wait(job)
            finally:
                with self.lock:
                    if block._reading is job:
                        block._reading = None
            if memory is not None:  # or else another thread dropped it, or was told why it failed
                with self.lock:  # the reference in its place may be followed by another thread just now
                    block._loaded = StorageWeakRef(memory.untyped_storage())  # type: ignore[no-untyped-call]
                return self._transfers.handed(memory)

    def prefetch(self, block: Block) -> None:
        """Have a block read that will be asked for soon."""
        with self.lock:
            if block.path is not None and not block._gone and self._loaded(block) is None:
                self._fetch(block)

    def unwanted(self, block: Block) -> None:
        """Let go of what was read in advance and not asked for."""
        with self.lock:
            job, block._reading = block._reading, None
            if job is not None:
                self._workers.drop(job)

    def forget(self, block: Block) -> None:
        """Nobody asks for a block any more."""
        with self.lock:
            if block._gone:
                return
            block._gone = True
            self._blocks -= 1
            self.unwanted(block)
            if block._writing is not None:
                self._workers.drop(block._writing)
            self._host += block.size * block.hosted
            block.memory = None
            self._path(block).unlink(missing_ok=True)  # a piece of it may be there before all of it is
            self._end()

    def settle(self) -> None:
        """Wait until everything is where it belongs."""
        self._workers.settle()

    def files(self) -> int:
        """How many files there are now."""
        return sum(1 for _ in self.directory.glob("*.block"))

    def blocks(self) -> int:
        """How many blocks somebody holds."""
        return self._blocks

    @property
    def died(self) -> int:
        """How many workers ended in the middle of a transfer."""
        return self._workers.died

    def close(self) -> None:
        """Nothing more is stored; the directory goes with the last block, which may be gone already."""
        if not self._blocks:
            self._workers.settle()
        with self.lock:
            self._open = False
            self._end()

    def _end(self) -> None:
        """Remove the directory if there is nobody who uses it any more; whoever is the last calls it."""
        if not self._open and not self._blocks and not self._writes:
            self._remove()

    def _path(self, block: Block) -> Path:
        return self.directory / f"{block.number}.block"

    # --- transfers ------------------------------------------------------------------------------------------------

    def _at_hand(self, block: Block) -> torch.Tensor | None:
        """The bytes, if they are in memory."""
        if block.memory is not None:
            self.forwarded += 1
            return self._transfers.back(block.memory, block._device)
        loaded = self._loaded(block)
        return None if loaded is None else self._transfers.handed(loaded)

    def _loaded(self, block: Block) -> torch.Tensor | None:
        """What was read before and is still held by somebody."""
        if block._loaded is None:
            return None
        storage: Any = torch.UntypedStorage._new_with_weak_ptr(block._loaded.cdata)
        if storage is None:
            block._loaded = None
            return None
        return torch.empty(0, dtype=torch.uint8, device=block._device).set_(storage, 0, (block.size,), (1,))

    def _fetch(self, block: Block) -> Job:
        """The job that reads a block, of which there is one at a time."""
        if block._reading is None:
            block._reading = self._workers.submit(Job(lambda: self._read(block)), urgent=True)
        return block._reading

    def _write(self, block: Block) -> None:
        """Have a block go down."""
        with self.lock:
            memory = block.memory
            if memory is None:  # forgotten meanwhile
                return
            self._writes += 1
        try:
            held = self._transfers.down(memory, block._ready)
            with self.lock:
                if block._gone:
                    return
                block.memory = held  # what is on the host need not be in the device's memory as well
                if block.size <= self._host:
                    self._host -= block.size
                    block.hosted = True
                    return
            del memory
            self._written(block, held)
        finally:
            with self.lock:
                if block._gone:
                    self._path(block).unlink(missing_ok=True)
                self._writes -= 1
                self._end()

    def _written(self, block: Block, held: torch.Tensor) -> None:
        """Write a block to its file, from where it is on the host."""
        path, data = self._path(block), buffer(held)
        began = time.perf_counter()
        block._checksum = zlib.crc32(data)
        problem: OSError | None = None
        for _ in range(ATTEMPTS):
            try:
                self._disk.write(block.number, path, data)
            except OSError as error:
                path.unlink(missing_ok=True)
                problem = error
            else:
                break
        else:
            self._kept(block, problem)
            return
        with self.lock:
            if block._gone:
                return
            self.seconds += time.perf_counter() - began
            self.volume += block.size
            self.written += 1
            block.path, block.memory = path, None

    def _kept(self, block: Block, problem: OSError | None) -> None:
        """What the disk does not take stays in memory: every number is right, and memory is not saved."""
        with self.lock:
            if block._gone:
                return
            self.refused += 1
            told = self.refused > 1
        if not told:
            warnings.warn(
                f"{self.directory} takes no block of {block.size} bytes ({problem}); it stays in memory. Free some "
                "space, or name another directory",
                RuntimeWarning,
                stacklevel=2,
            )

    def _read(self, block: Block) -> torch.Tensor:
        path = block.path
        assert path is not None
        problem = ""
        held = self._transfers.empty(block.size, block._device)
        for _ in range(ATTEMPTS):
            data = buffer(held)
            try:
                count = self._disk.read(block.number, path, data)
            except OSError as error:
                problem = f"{path} cannot be read: {error}"
                continue
            if count != block.size:
                problem = f"{path} has {count} bytes, {block.size} were written to it"
            elif zlib.crc32(data) != block._checksum:
                problem = f"{path} does not hold the {block.size} bytes that were written to it"
            else:
                with self.lock:
                    self.read += 1
                return self._transfers.up(held, block._device)
        raise StoreError(problem)


# --- directories that a process left ----------------------------------------------------------------------------------


def _claimed(directory: Path) -> int:
    """A lock that ends with the process, however it ends. Nobody finds it before it is held."""
    claim = -1
    try:
        claim = os.open(directory / "claim.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (directory / "claim.new").rename(directory / "claim")
    except OSError:
        _removed(directory, claim)
        raise
    return claim


def _removed(directory: Path, claim: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.close(claim)


#: Where it was looked for what others left; once in a process is enough.
_swept: set[Path] = set()


def _sweep(parent: Path) -> None:
    """Remove the directories of stores whose processes were killed."""
    if parent in _swept:
        return
    _swept.add(parent)
    for claim in parent.glob(f"{_PREFIX}*/claim"):
        with contextlib.suppress(OSError):
            held = os.open(claim, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(claim.parent, ignore_errors=True)
            finally:
                os.close(held)

"""A small store that moves the tensors which autograd saves for the backward pass to files, and brings them back.

A tensor that several operators save is stored once. A snapshot is taken when a tensor is saved; so a write that happens
later never reaches the backward pass.

Everything happens at once: what is saved is on disk before the next operator runs. ``tensor_cache.py`` does the same in
the background.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from shakeout.targets.offload.saved import Form, Key, buffer, identity, plain, window

__all__ = ["DiskStore", "StoreError", "disk_store"]


class StoreError(RuntimeError):
    """A saved tensor could not be written or read back; the message names the file and the reason."""


class _Saved:
    """What autograd holds in place of a tensor; its file goes when the last holder lets go."""

    def __init__(self, path: Path, form: Form, device: torch.device, checksum: int, size: int) -> None:
        self.path, self.form, self.device, self.checksum, self.size = path, form, device, checksum, size
        weakref.finalize(self, path.unlink, missing_ok=True)


class DiskStore:
    """Packs and unpacks tensors; see ``disk_store``.

    Attributes:
        directory: where the files are.
        stored: how many tensors were written.
        shared: how many were found to be written already.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.stored = self.shared = 0
        self._numbers = itertools.count()
        # A weak reference keeps the address of a storage from being given to another one, so the address is an identity
        # for as long as the reference is held.
        self._known: dict[Key, tuple[StorageWeakRef, weakref.ref[_Saved]]] = {}
        self._lock = threading.RLock()  # CUDA's backward pass runs in a thread of its own

    def files(self) -> int:
        """How many tensors are on disk now."""
        return sum(1 for _ in self.directory.iterdir())

    def pack(self, tensor: torch.Tensor) -> Any:
        """What autograd keeps in place of a saved tensor.

        Raises:
            StoreError: the file cannot be written.
        """
        if not plain(tensor):
            return tensor
        with self._lock:
            key = identity(tensor)
            known = self._known.get(key)
            saved = known[1]() if known is not None else None
            if saved is not None:
                self.shared += 1
                return saved
            saved = self._write(tensor)
            # Released with the last holder, and with it the claim on the storage's address.
            reference = weakref.ref(saved, lambda _: self._known.pop(key, None))
            owner = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
            self._known[key] = (owner, reference)
            return saved

    def unpack(self, held: Any) -> torch.Tensor:
        """The tensor that was packed.

        Raises:
            StoreError: its file cannot be read, is too short, or does not hold what was written.
        """
        if not isinstance(held, _Saved):
            return held  # type: ignore[no-any-return]
        memory = torch.empty(held.size, dtype=torch.uint8)
        try:
            with held.path.open("rb") as file:
                count = file.readinto(buffer(memory))
        except OSError as error:
            raise StoreError(f"a tensor of {held.size} bytes cannot be read back from {held.path}: {error}") from error
        if count != held.size or zlib.crc32(buffer(memory)) != held.checksum:
            raise StoreError(f"{held.path} does not hold the {held.size} bytes that were written to it")
        return held.form.on(memory.to(held.device))

    def _write(self, tensor: torch.Tensor) -> _Saved:
        """Write the piece of memory that the tensor lies in."""
        memory, form = window(tensor)
        held, size = memory.cpu(), memory.numel()
        path = self.directory / f"{next(self._numbers)}.bin"
        try:
            with path.open("wb") as file:
                file.write(buffer(held))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                f"a tensor of {size} bytes cannot be saved to {path}: {error}; free some space, or name another "
                "directory: disk_store(directory=...)"
            ) from error
        self.stored += 1
        return _Saved(path, form, tensor.device, zlib.crc32(buffer(held)), size)


@contextlib.contextmanager
def disk_store(directory: str | Path | None = None) -> Iterator[DiskStore]:
    """Keep what autograd saves in files while the context is open; the backward pass belongs inside.

    Args:
        directory: where the files go, in a fresh directory below it that is removed in the end; by default the
            system's place for temporary files.
    """
    try:
        holder = tempfile.TemporaryDirectory(prefix="shakeout-store-", dir=directory)
    except OSError as error:
        raise StoreError(f"no directory for saved tensors can be made in {directory}: {error}") from error
    with holder:
        store = DiskStore(Path(holder.name))
        with torch.autograd.graph.saved_tensors_hooks(store.pack, store.unpack):
            yield store

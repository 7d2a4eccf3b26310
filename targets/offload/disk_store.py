"""A small store that moves the tensors which autograd saves for the backward pass to files, and brings them back.

What comes back has the saved tensor's bits, strides and alignment, so that every kernel of the backward pass sees
what it would have seen. A tensor that several operators save is stored once. The identity of a tensor is its storage,
offset, shape, strides, dtype and version: without the offset, the three chunks of a fused projection are taken for
one; without the version, what was saved before an in-place operator is taken for what was saved after it. A snapshot
is taken when a tensor is saved; so a write that happens later never reaches the backward pass.

The design follows the tensor cache of SSDTrain (Wu et al., 2024, arXiv 2408.10013) without its asynchronous transfers.
"""

from __future__ import annotations

import contextlib
import ctypes
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

__all__ = ["DiskStore", "StoreError", "disk_store"]

#: Bytes; storages begin at multiples of this. Vector kernels may round differently at another alignment.
ALIGNMENT = 64

Key = tuple[int, int, tuple[int, ...], tuple[int, ...], torch.dtype, int, bool, bool]


class StoreError(RuntimeError):
    """A saved tensor could not be written or read back; the message names the file and the reason."""


class _Saved:
    """What autograd holds in place of a tensor; its file goes when the last holder lets go."""

    def __init__(self, path: Path, tensor: torch.Tensor, first: int, checksum: int, size: int) -> None:
        self.path, self.checksum, self.size = path, checksum, size
        self.dtype, self.device = tensor.dtype, tensor.device
        self.shape, self.strides = tuple(tensor.shape), tensor.stride()
        self.offset = tensor.storage_offset() - first
        self.conjugate, self.negative = tensor.is_conj(), tensor.is_neg()
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
        if not _plain(tensor):
            return tensor
        with self._lock:
            key = _key(tensor)
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
                count = file.readinto(_buffer(memory))
        except OSError as error:
            raise StoreError(f"a tensor of {held.size} bytes cannot be read back from {held.path}: {error}") from error
        if count != held.size or zlib.crc32(_buffer(memory)) != held.checksum:
            raise StoreError(f"{held.path} does not hold the {held.size} bytes that were written to it")
        flat = torch.empty(0, dtype=held.dtype, device=held.device)
        flat.set_(memory.to(held.device).untyped_storage(), held.offset, held.shape, held.strides)
        flat = flat.conj() if held.conjugate else flat
        return torch._neg_view(flat) if held.negative else flat

    def _write(self, tensor: torch.Tensor) -> _Saved:
        """Write the piece of memory that the tensor lies in, from the last aligned element before it."""
        step = max(ALIGNMENT // tensor.itemsize, 1)
        first = int(tensor.storage_offset()) // step * step
        reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        size = int(tensor.storage_offset() + reach + 1 - first) * tensor.itemsize if tensor.numel() else 0
        window = torch.empty(0, dtype=torch.uint8, device=tensor.device)
        window.set_(tensor.untyped_storage(), first * tensor.itemsize, (size,), (1,))
        window = window.cpu()
        path = self.directory / f"{next(self._numbers)}.bin"
        try:
            with path.open("wb") as file:
                file.write(_buffer(window))
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StoreError(
                f"a tensor of {size} bytes cannot be saved to {path}: {error}; free some space, or name another "
                "directory: disk_store(directory=...)"
            ) from error
        self.stored += 1
        return _Saved(path, tensor, first, zlib.crc32(_buffer(window)), size)


def _plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is nothing but strided memory; what is not stays where it is."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and tensor.device.type != "meta"
    )


def _key(tensor: torch.Tensor) -> Key:
    return (
        tensor.untyped_storage()._cdata,
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
        tensor._version,
        tensor.is_conj(),
        tensor.is_neg(),
    )


def _buffer(memory: torch.Tensor) -> Any:
    """The bytes of a flat tensor, not copied."""
    if not memory.numel():
        return bytearray()
    buffer = (ctypes.c_char * memory.numel()).from_address(memory.data_ptr())
    buffer.held = memory  # type: ignore[attr-defined]  # the memory lives as long as the view of it
    return buffer


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

"""A cache of activations: what autograd saves goes to files beside the forward pass, and comes back before it is used.

The design is that of SSDTrain's tensor cache (Wu et al., 2024, arXiv 2408.10013), on ``saved_tensors_hooks``. A tensor
that several operators save is stored once; one that is wanted while it is on its way is handed out from memory; the one
before the one that is asked for is read in advance; what the backward pass wants soonest need not go away at all. Two
things are its own. It knows of no modules: the order is that in which tensors were saved, and a tensor lives as long as
the graph that holds it, so that whatever autograd frees is freed here. And it sees every write to what was saved: where
the tensor was copied that does not matter, and where it was not, a backward pass is refused as eager refuses it.
"""

from __future__ import annotations

import contextlib
import gc
import time
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from shakeout.targets.offload.files import files
from shakeout.targets.offload.saved import Form, Key, Witness, identity, plain, window
from shakeout.targets.offload.store import Block, Store

__all__ = ["LeftBehind", "Passed", "Saved", "Step", "TensorCache", "kept_from"]

Keep = Literal["nothing", "last", "adaptive"]


class LeftBehind(RuntimeError):
    """Something is still held, although nobody can ask for it any more."""


class Saved:
    """What autograd holds in place of a tensor.

    Attributes:
        witness: of writes to the tensor.
        copied: whether such writes do not matter.
        tensor: itself, where it stays in memory.
        block: where its bytes are, if it does not.
        form: all else of it.
        place: which of the step's tensors it is; -1 for one that stays.
    """

    __slots__ = ("__weakref__", "block", "copied", "form", "place", "tensor", "witness")

    def __init__(self, tensor: torch.Tensor, *, copied: bool = False) -> None:
        self.witness = Witness(tensor)
        self.copied = copied
        self.place = -1
        self.tensor: torch.Tensor | None = None
        self.block: Block | None = None
        self.form: Form | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """What is known of a step that is over.

    Attributes:
        elapsed: seconds from its begin to each tensor that it saved.
        sizes: their bytes.
        forward: seconds of its forward pass.
        bandwidth: bytes a second that went to files.
    """

    elapsed: tuple[float, ...]
    sizes: tuple[int, ...]
    forward: float
    bandwidth: float


def kept_from(passed: Passed) -> int:
    """The first tensor of a step that does better to stay in memory, with all behind it.

    The backward pass takes twice the forward pass's time and asks in reverse order; so a tensor that was saved at ``e``
    seconds of ``F`` is wanted at ``F + 2 (F - e)``. Until then all before it has to be written, and it itself both
    written and read.
    """
    before = 0
    for place, (elapsed, size) in enumerate(zip(passed.elapsed, passed.sizes, strict=True)):
        if before + 2 * size > passed.bandwidth * (3 * passed.forward - 2 * elapsed):
            return place
        before += size
    return len(passed.sizes)


class TensorCache:
    """What is moved, and when; ``step`` makes the contexts.

    Attributes:
        passed: what is known of the last step.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        snapshot: bool = True,
        least: int = 0,
        ahead: int = 1,
        keep: Keep = "nothing",
        host: int = 0,
        threads: int = 2,
        fault: str | None = None,
        strict: bool = False,
    ) -> None:
        """Settle what is moved.

        Args:
            directory: where files go, in a fresh directory for each step; by default the system's place for them.
            snapshot: copy what is saved at once, so that whatever is written to it later does not reach the backward
                pass. Without, nothing is copied, and a backward pass whose tensors were written to is refused, as eager
                refuses it. Nobody may then shrink or grow the memory of a saved tensor.
            least: bytes; what is smaller stays in memory.
            ahead: how many tensors are read in advance.
            keep: which of the last tensors stay in memory, which the backward pass asks for first: ``nothing``,
                ``last`` (as many as one, known from the step before), or ``adaptive``: what could not be written and
                read in time, by what was measured in the step before.
            host: bytes that stay in the host's memory before anything goes to a file.
            threads: that write and read.
            fault: of the disk, one of ``files.FAULTS``; for tests.
            strict: raise LeftBehind where a step leaves something in the store.
        """
        self._directory, self._snapshot, self._least, self._ahead = directory, snapshot, least, ahead
        self._keep, self._host, self._threads, self._fault, self._strict = keep, host, threads, fault, strict
        self.passed: Passed | None = None

    def open(self) -> Step:
        """A store for one step, and the hooks that use it."""
        store = Store(self._directory, host=self._host, threads=self._threads, disk=files(self._fault))
        return Step(store, snapshot=self._snapshot, least=self._least, ahead=self._ahead, keep=self._kept())

    @contextlib.contextmanager
    def step(self) -> Iterator[Step]:
        """A context for a forward pass, and for a backward pass or several, which may also be behind it.

        Raises:
            StoreError: no directory can be made; or, of a backward pass, what was stored cannot be read back.
            LeftBehind: the cache is strict, and somebody still holds what was saved.
        """
        step = self.open()
        try:
            with torch.autograd.graph.saved_tensors_hooks(step.pack, step.unpack):
                yield step
            self.passed = step.passed()
            if self._strict:
                step.check()
        finally:
            step.store.close()

    def _kept(self) -> int | None:
        """From which tensor on they stay; None for none."""
        if self.passed is None or not self.passed.sizes or self._keep == "nothing":
            return None  # a step that saved nothing tells nothing of the next one
        return len(self.passed.sizes) - 1 if self._keep == "last" else kept_from(self.passed)


class Step:
    """Packs and unpacks the tensors of one step.

    Attributes:
        store: where they are.
        shared: how many were found to be stored already.
        kept: how many stayed in memory.
    """

    def __init__(
        self, store: Store, *, snapshot: bool = True, least: int = 0, ahead: int = 1, keep: int | None = None
    ) -> None:
        self.store = store
        self.shared = self.kept = 0
        self._snapshot, self._least, self._ahead, self._keep = snapshot, least, ahead, keep
        # A weak reference keeps the address of a storage from being given to another one.
        self._known: dict[Key, tuple[StorageWeakRef, weakref.ref[Saved]]] = {}
        self._order: list[weakref.ref[Saved]] = []
        self._advance: deque[weakref.ref[Saved]] = deque()
        self._began = time.perf_counter()
        self._elapsed: list[float] = []
        self._sizes: list[int] = []
        self._forward: float | None = None

    # --- hooks ------------------------------------------------------------------------------------------------------

    def pack(self, tensor: torch.Tensor) -> Any:
        """What autograd keeps in place of a saved tensor."""
        if type(tensor) is not torch.Tensor and type(tensor) is not torch.nn.Parameter:
            return tensor
        if not self.moves(tensor):
            return self._stays(tensor)
        key = self.key(tensor)
        with self.store.lock:
            if (saved := self._found(key)) is not None:
                self.shared += 1
                return saved
        # Outside of the lock, since whoever watches torch may run anything here.
        memory, form = window(tensor)
        memory = memory.clone() if self._snapshot else memory
        saved = Saved(tensor, copied=self._snapshot)
        with self.store.lock:
            place = len(self._order)
            self._elapsed.append(time.perf_counter() - self._began)
            self._sizes.append(memory.numel())
            if self._keep is not None and place >= self._keep:
                saved = self._stays(tensor)
            else:
                saved.place, saved.form = place, form
                saved.block = self.store.put(memory)
                weakref.finalize(saved, self.store.forget, saved.block)
                # Released with the last holder, and with it the claim on the storage's address.
                reference = weakref.ref(saved, lambda _, known=self._known: known.pop(key, None))  # type: ignore[misc]
                owner = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
                self._known[key] = (owner, reference)
            self._order.append(weakref.ref(saved))
            return saved

    def unpack(self, held: Any) -> torch.Tensor:
        """The tensor that was packed.

        Raises:
            RuntimeError: it was written to, and no copy was made before.
            StoreError: its file cannot be read, is too short, or does not hold what was written.
        """
        if not isinstance(held, Saved):
            return held  # type: ignore[no-any-return]
        if self._forward is None:
            self._forward = time.perf_counter() - self._began
        self.admit(held)
        if held.tensor is not None:
            return held.tensor
        assert held.form is not None
        self._prefetch(held.place)
        return held.form.on(self.fetch(held))

    # --- what a cache decides -----------------------------------------------------------------------------------------

    def moves(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor goes away: parameters stay, and so does what is small."""
        base = tensor if tensor._base is None else tensor._base
        leaf = base.is_leaf and base.requires_grad
        return plain(tensor) and not leaf and tensor.numel() * tensor.itemsize >= self._least

    def key(self, tensor: torch.Tensor) -> Key:
        """By what a tensor is known again that was stored before."""
        return identity(tensor)

    def admit(self, saved: Saved) -> None:
        """Refuse what eager refuses.

        Raises:
            RuntimeError: it was written to, and no copy was made before.
        """
        if not saved.copied:
            saved.witness.check()

    def fetch(self, saved: Saved) -> torch.Tensor:
        """The bytes of what is in the store."""
        assert saved.block is not None
        return self.store.get(saved.block)

    def _found(self, key: Key) -> Saved | None:
        known = self._known.get(key)
        return known[1]() if known is not None else None

    def _stays(self, tensor: torch.Tensor) -> Saved:
        """In memory; detached, since a graph that holds its own results is never freed."""
        self.kept += 1
        saved = Saved(tensor)
        saved.tensor = tensor.detach()
        return saved

    def _prefetch(self, place: int) -> None:
        """Ask for what was saved before, which is mostly asked for next. The order is no promise; so this is a hint."""
        with self.store.lock:
            for reference in self._order[max(place - self._ahead, 0) : max(place, 0)]:
                saved = reference()
                if saved is not None and saved.block is not None:
                    self.store.prefetch(saved.block)
                    self._advance.append(reference)
            while len(self._advance) > 2 * self._ahead:
                saved = self._advance.popleft()()
                if saved is not None and saved.block is not None and all(one() is not saved for one in self._advance):
                    self.store.unwanted(saved.block)

    # --- the end ------------------------------------------------------------------------------------------------------

    def passed(self) -> Passed:
        """What is known of it now."""
        total = time.perf_counter() - self._began
        store = self.store
        bandwidth = store.volume / store.seconds if store.seconds else float("inf")
        return Passed(tuple(self._elapsed), tuple(self._sizes), self._forward or total, bandwidth)

    def check(self) -> None:
        """See that nothing is held.

        Raises:
            LeftBehind: something is.
        """
        if self.store.blocks():
            gc.collect()  # a graph may be part of a circle
        self.store.settle()
        blocks, left = self.store.blocks(), self.store.files()
        if blocks or left:
            raise LeftBehind(f"behind the step {blocks} saved tensors are still held, and {left} files are there")

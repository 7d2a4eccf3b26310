"""Right offload runtimes: what autograd saves is kept in another way, and every number comes back as it was."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import shakeout
from shakeout.corpus.user_objects import Declared
from shakeout.targets.offload.disk_store import disk_store

__all__ = ["RUNTIMES"]


@shakeout.runtime
def cloned() -> Iterator[None]:
    """A copy with the strides of the original, as far as a dense copy can have them."""
    with saved_tensors_hooks(lambda tensor: tensor.clone(), lambda held: held):
        yield


@shakeout.runtime
def cloned_contiguous() -> Iterator[None]:
    """A row-major copy, whatever the layout of the original."""
    with saved_tensors_hooks(lambda tensor: tensor.clone(memory_format=torch.contiguous_format), lambda held: held):
        yield


@shakeout.runtime
def as_bytes() -> Iterator[None]:
    """The elements as bytes in a host object, in row-major order."""

    def pack(tensor: torch.Tensor) -> Any:
        plain = tensor.detach().resolve_conj().resolve_neg().cpu()
        if not plain.numel():
            return b"", tensor.dtype, tensor.shape, tensor.device
        flat = plain.new_empty(plain.numel()).copy_(plain.reshape(-1))  # a scalar may be a view with a stride
        return bytearray(flat.view(torch.uint8).numpy()), tensor.dtype, tensor.shape, tensor.device

    def unpack(held: Any) -> torch.Tensor:
        data, dtype, shape, device = held
        if not data:
            return torch.empty(shape, dtype=dtype, device=device)
        return torch.frombuffer(data, dtype=torch.uint8).view(dtype).reshape(shape).to(device)

    with saved_tensors_hooks(pack, unpack):
        yield


@shakeout.runtime
def pinned() -> Iterator[None]:
    """Copies on the host, page-locked where a device copies them by itself."""
    page_locked = torch.cuda.is_available()

    def pack(tensor: torch.Tensor) -> Any:
        held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=page_locked)
        held.copy_(tensor)
        return held, tensor.device

    def unpack(held: Any) -> torch.Tensor:
        data, device = held
        return data.to(device, non_blocking=page_locked)

    with saved_tensors_hooks(pack, unpack):
        yield


@shakeout.runtime
def serialised() -> Iterator[None]:
    """What ``torch.save`` writes, kept in memory; views come back with their strides and their whole storage."""

    def pack(tensor: torch.Tensor) -> bytes:
        buffer = io.BytesIO()
        torch.save(tensor.detach(), buffer)
        return buffer.getvalue()

    def unpack(held: bytes) -> torch.Tensor:
        return torch.load(io.BytesIO(held), weights_only=True)

    with saved_tensors_hooks(pack, unpack):
        yield


@shakeout.runtime
def on_disk() -> contextlib.AbstractContextManager[Any]:
    """The store that ships."""
    return disk_store()


#: What is cheap to compute again, writes to nothing, and draws no random number.
_AGAIN = (
    *(torch.exp, torch.tanh, torch.sigmoid, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.softmax),
    *(torch.Tensor.exp, torch.Tensor.tanh, torch.Tensor.sigmoid, torch.Tensor.sqrt, torch.Tensor.softmax),
    *(F.silu, F.gelu, F.softplus, F.relu, F.elu, F.softmax, F.log_softmax, F.layer_norm, torch.mul, torch.Tensor.mul),
)


class _Recompute(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in _AGAIN or kwargs.get("out") is not None or kwargs.get("inplace") or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        # An operand may be written to before the backward pass; what is computed again starts from a copy of it. Nor is
        # it handed to ``checkpoint``, which saves what it is given as autograd does, to be found unchanged.
        copies = [
            one.detach().clone().requires_grad_(one.requires_grad) if torch.is_tensor(one) else one for one in args
        ]
        runs = iter((args,))
        return checkpoint(lambda: func(*next(runs, copies), **kwargs), use_reentrant=False, preserve_rng_state=False)


@shakeout.runtime
def recomputed() -> contextlib.AbstractContextManager[Any]:
    """Activations are not kept but computed again in the backward pass, operator by operator."""
    return _Recompute()


#: In the order of this file.
RUNTIMES: tuple[str, ...] = tuple(name for name, found in list(globals().items()) if isinstance(found, Declared))

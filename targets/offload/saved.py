"""What a tensor is that a runtime moves away: its identity, the memory that it lies in, and how it is made anew.

What comes back has the bits, strides and alignment of the original, so that every kernel of the backward pass sees what
it would have seen.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["ALIGNMENT", "Form", "Key", "Witness", "buffer", "identity", "plain", "window"]

#: Bytes; storages begin at multiples of this. Vector kernels may round differently at another alignment.
ALIGNMENT = 64

Key = tuple[Any, ...]


def plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is nothing but strided memory; what is not stays where it is."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and tensor.device.type != "meta"
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def identity(tensor: torch.Tensor) -> Key:
    """What tells a saved tensor from every other one, for as long as somebody refers to its storage, even weakly.

    Without the offset, the three chunks of a fused projection are taken for one; without the version, what was saved
    before an in-place operator is taken for what was saved after it. A weak reference keeps the address of a storage
    from being given to another one.
    """
    return (
        tensor.untyped_storage()._cdata,
        int(tensor.storage_offset()),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
        tensor.device,
        tensor._version,
        tensor.is_conj(),
        tensor.is_neg(),
    )


@dataclass(frozen=True, slots=True)
class Form:
    """All of a tensor but its bytes.

    Attributes:
        dtype: of its elements.
        shape: in elements.
        strides: in elements.
        offset: of its first element in its window, in elements.
        conjugate: whether its elements are read as conjugates.
        negative: whether they are read negated.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    conjugate: bool
    negative: bool

    def on(self, memory: torch.Tensor) -> torch.Tensor:
        """The tensor on the bytes of its window, wherever they are; nothing is copied."""
        offset = int(memory.storage_offset()) // self.dtype.itemsize + self.offset
        made = torch.empty(0, dtype=self.dtype, device=memory.device)
        made.set_(memory.untyped_storage(), offset, self.shape, self.strides)
        made = made.conj() if self.conjugate else made
        return torch._neg_view(made) if self.negative else made


def window(tensor: torch.Tensor) -> tuple[torch.Tensor, Form]:
    """The bytes that a plain tensor lies in, from the last aligned element before it, and its form. Nothing is copied.

    Returns:
        A flat tensor of bytes on the tensor's own storage, and the form that makes the tensor of it or of a copy.
    """
    step = max(ALIGNMENT // tensor.itemsize, 1)
    start = int(tensor.storage_offset())
    first = start // step * step
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    size = (start + reach + 1 - first) * tensor.itemsize if tensor.numel() else 0
    flat = torch.empty(0, dtype=torch.uint8, device=tensor.device)
    flat.set_(tensor.untyped_storage(), first * tensor.itemsize, (size,), (1,))
    bits = tensor.is_conj(), tensor.is_neg()
    return flat, Form(tensor.dtype, tuple(tensor.shape), tensor.stride(), start - first, *bits)


def buffer(memory: torch.Tensor) -> Any:
    """The bytes of a flat tensor of bytes on the CPU, not copied; as long as it lives, so does the memory."""
    if not memory.numel():
        return bytearray()
    array = (ctypes.c_ubyte * memory.numel()).from_address(memory.data_ptr())
    array.held = memory  # type: ignore[attr-defined]
    return array


class Witness:
    """Sees whether somebody wrote to a tensor since, as eager does before a backward pass; keeps no memory of it."""

    __slots__ = ("_counter", "version")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.version = tensor._version
        # What is detached shares the counter of versions, and goes on sharing it when it is given other memory.
        self._counter = tensor.detach()
        self._counter.data = torch.empty(0, dtype=tensor.dtype, device=tensor.device)

    @property
    def written(self) -> bool:
        """Whether there was a write in place to the tensor, or to a view of it, since the witness was made."""
        return self._counter._version != self.version

    def check(self) -> None:
        """Refuse what eager refuses.

        Raises:
            RuntimeError: there was a write.
        """
        if self.written:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an inplace operation: it "
                f"is at version {self._counter._version}; expected version {self.version} instead"
            )

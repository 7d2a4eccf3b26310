"""What a replica knows of the memory behind its values: whose numbers it has moved, and which is read as bytes.

The first comparison grants each number a tolerance, and rounding more than that. Whoever reads the bytes of a number as
another dtype sees the last of them, about which nothing is known then. So numbers that were moved lie anywhere within
their tolerance as soon as their bytes are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.program import Call, Name
from shakeout.fuzz.running.rounding import Noise, floats, scattered

if TYPE_CHECKING:
    import torch

__all__ = ["Memory", "reinterpreted"]


class Memory:
    """Storages, by their identity; they are kept, so that no later one has the identity of an earlier one.

    Args:
        tensors: what the program is given, of which no number is moved.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self._kept: dict[int, Any] = {}
        self._moved: set[int] = set()
        self._read: set[int] = set()
        dtypes: dict[int, torch.dtype] = {}
        for tensor in tensors:
            self.keep(tensor)
            if dtypes.setdefault(_key(tensor), tensor.dtype) != tensor.dtype:
                self._read.add(_key(tensor))

    def keep(self, tensor: torch.Tensor) -> None:
        """Know a storage from now on."""
        self._kept[_key(tensor)] = tensor.untyped_storage()

    def knows(self, tensor: torch.Tensor) -> bool:
        """Whether it is a view of what was there before."""
        return _key(tensor) in self._kept

    def moves(self, tensor: torch.Tensor) -> None:
        """Note that its numbers are moved."""
        self.keep(tensor)
        self._moved.add(_key(tensor))

    def moved(self, value: Any) -> bool:
        """Whether it is a tensor, and any number in its storage was moved."""
        import torch

        return isinstance(value, torch.Tensor) and _key(value) in self._moved

    def reads(self, tensor: torch.Tensor, noise: Noise) -> None:
        """Have its bytes read, and with them those of all that shares its storage."""
        from shakeout.corpus.standalone import memory

        if self.moved(tensor):
            # Past autograd's version counter: the value that it saved is the one that was moved.
            held = memory(tensor)
            held.copy_(scattered(held, noise))
        self._read.add(_key(tensor))

    def read(self, tensor: torch.Tensor) -> bool:
        """Whether its bytes are read as another dtype."""
        return _key(tensor) in self._read


def reinterpreted(operation: Call, values: Sequence[Any]) -> torch.Tensor | None:
    """The floats whose bytes a call of an operator that reinterprets shows as something else, if it does."""
    import torch

    names = [arg.name for arg in (*operation.args, *(arg for _, arg in operation.kwargs)) if isinstance(arg, Name)]
    dtypes = [one for name in names if isinstance(one := getattr(torch, name.removeprefix("torch.")), torch.dtype)]
    tensor: torch.Tensor = values[operation.operands()[0]]
    if not dtypes or not floats(tensor) or dtypes[0].to_real() == tensor.dtype.to_real():
        return None
    return tensor


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)

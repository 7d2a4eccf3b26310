"""What kernels here ask of their operands, and in which precision they compute."""

from __future__ import annotations

import torch

__all__ = ["finite", "floating", "wide"]

_HALF = (torch.float16, torch.bfloat16)
_FLOATING = (*_HALF, torch.float32, torch.float64)


def floating(*tensors: torch.Tensor | None) -> None:
    """Decline what is not of one floating dtype; raises NotImplementedError."""
    dtypes = {tensor.dtype for tensor in tensors if tensor is not None}
    if len(dtypes) != 1 or not dtypes <= set(_FLOATING):
        raise NotImplementedError(f"floating-point tensors of one dtype, not {', '.join(sorted(map(str, dtypes)))}")


def finite(*tensors: torch.Tensor | None) -> None:
    """Decline NaN and infinities, which what is multiplied by zero would spread; raises NotImplementedError."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors if tensor is not None):
        raise NotImplementedError("finite numbers: what is masked out is multiplied by zero")


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """In the dtype that is accumulated in: half precision in single."""
    return tensor.float() if tensor.dtype in _HALF else tensor

"""Operators that are made of several, by what they mean.

A replica moves what an operator gives and what it is given, and cannot reach into it. Where one adds up inside, and its
derivative adds up again, terms cancel there that nobody sees: behind a softmax that is all but one, the gradient is a
difference of equal numbers, and every right algorithm is off by other last digits of those. Replicas compute such an
operator step by step, so that each step rounds, forward and backward.

A definition raises where it does not cover a call; then the operator is run as it is. In half precision a definition
computes in single precision and rounds once, as kernels do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["DEFINITIONS"]


def _wide(x: torch.Tensor) -> torch.Tensor:
    import torch

    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _floating(*tensors: torch.Tensor | None) -> None:
    if not all(one is None or (one.dtype.is_floating_point and one.dtype.itemsize > 1) for one in tensors):
        raise NotImplementedError("real floats that can be added")


def _apart(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Logits less the largest one, which has no part in the derivative."""
    return x - x.detach().amax(dim, keepdim=True)


def _softmax(x: torch.Tensor, dim: int, _stacklevel: Any = None, dtype: torch.dtype | None = None) -> torch.Tensor:
    dtype = _stacklevel if type(_stacklevel) is type(x.dtype) else dtype
    given = x if dtype is None else x.to(dtype)
    _floating(given)
    weights = _apart(_wide(given), dim).exp()
    return (weights / weights.sum(dim, keepdim=True)).to(given.dtype)


def _softmin(x: torch.Tensor, dim: int, _stacklevel: Any = None, dtype: torch.dtype | None = None) -> torch.Tensor:
    return _softmax(-x, dim, _stacklevel, dtype)


def _log_softmax(x: torch.Tensor, dim: int, _stacklevel: Any = None, dtype: torch.dtype | None = None) -> torch.Tensor:
    dtype = _stacklevel if type(_stacklevel) is type(x.dtype) else dtype
    given = x if dtype is None else x.to(dtype)
    _floating(given)
    apart = _apart(_wide(given), dim)
    return (apart - apart.exp().sum(dim, keepdim=True).log()).to(given.dtype)


def _cross_entropy(x: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> torch.Tensor:
    """Of classes by their number; ignored ones, weights and smoothing are not covered."""
    _floating(x)
    if x.dim() != 2 or target.dtype.is_floating_point or bool((target < 0).any()):
        raise NotImplementedError("a row of logits for each class")
    losses = -_log_softmax(_wide(x), 1).gather(1, target[:, None])[:, 0]
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / len(losses)}[reduction].to(x.dtype)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    import torch

    _floating(query, key, value)
    if dropout_p or attn_mask is not None or query.shape[:-2] != key.shape[:-2]:
        raise NotImplementedError("no mask, nothing dropped, and one head for each")
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (_wide(query) * factor) @ _wide(key).mT
    if is_causal:
        if not bool(scores.isfinite().all()):
            raise NotImplementedError("a mask is added to scores by one of PyTorch's own ways, and set by another")
        rows, columns = (torch.arange(n, device=query.device) for n in scores.shape[-2:])
        scores = scores.masked_fill(columns[None] > rows[:, None], -math.inf)
    return (_softmax(scores, -1) @ _wide(value)).to(query.dtype)


def _layer_norm(
    x: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    _floating(x, weight, bias)
    dims = tuple(range(-len(normalized_shape), 0))
    wide = _wide(x)
    apart = wide - wide.mean(dims, keepdim=True)
    result = apart * (apart.square().mean(dims, keepdim=True) + eps).rsqrt()
    result = result if weight is None else result * _wide(weight)
    return (result if bias is None else result + _wide(bias)).to(x.dtype)


def _rms_norm(
    x: torch.Tensor, normalized_shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    import torch

    _floating(x, weight)
    dims = tuple(range(-len(normalized_shape), 0))
    wide = _wide(x)
    small = torch.finfo(wide.dtype).eps if eps is None else eps
    result = wide * (wide.square().mean(dims, keepdim=True) + small).rsqrt()
    return (result if weight is None else result * _wide(weight)).to(x.dtype)


#: By the family of the operator.
DEFINITIONS: dict[str, Callable[..., torch.Tensor]] = {
    "softmax": _softmax,
    "softmin": _softmin,
    "log_softmax": _log_softmax,
    "cross_entropy": _cross_entropy,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
}

"""Operators that are made of several, by what they mean.

A replica moves what an operator gives and what it is given, and cannot reach into it. Where one adds up inside, and its
derivative adds up again, terms cancel there that nobody sees: behind a softmax that is all but one, the gradient is a
difference of equal numbers, and every right algorithm is off by other last digits of those. Replicas compute such an
operator step by step, so that each step rounds, forward and backward.

A definition raises where it does not cover a call; then the operator is run as it is. In half precision a definition
computes in single precision and rounds once, as kernels do.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["ALTERNATIVES", "DEFINITIONS"]

#: Products that are made one by one, at most: 32 MiB in double precision.
_MANY = 2**22


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
    *,
    late: bool = False,
) -> torch.Tensor:
    """A softmax of scores, and a product; or, ``late``, a product of what is divided by its sum in the end.

    The gradient of a score is a difference of two sums then, of as many terms as a value has numbers.
    """
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
    if late:
        weights = _apart(scores, -1).exp()
        return ((weights @ _wide(value)) / weights.sum(-1, keepdim=True)).to(query.dtype)
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


def _gelu(x: torch.Tensor, *, approximate: str = "none", cancels: bool = True) -> torch.Tensor:
    """What is left of one and an error function or a hyperbolic tangent, which is nothing where ``x`` is negative.

    Or, where that does not cancel, the complementary error function or the logistic function, which say what is left.
    """
    import torch

    _floating(x)
    wide = _wide(x)
    inner = wide * math.sqrt(0.5) if approximate == "none" else math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    if cancels:
        share = 0.5 * (1 + (torch.erf(inner) if approximate == "none" else torch.tanh(inner)))
    else:
        share = 0.5 * torch.erfc(-inner) if approximate == "none" else torch.sigmoid(2 * inner)
    return (wide * share).to(x.dtype)


def _once(name: str, *args: Any, **kwargs: Any) -> torch.Tensor:
    """A sum of products of numbers in half precision, added up in single and rounded in the end.

    Not as PyTorch does it: with instructions for such products (AMX, ``VDPBF16PS``) its kernels give what their tiles
    give, which are filled up with what lies behind a row.
    """
    import torch

    tensors = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
    _floating(*tensors)
    if not any(one.dtype in (torch.float16, torch.bfloat16) for one in tensors):
        raise NotImplementedError("half precision")

    def wide(value: Any) -> Any:
        return _wide(value) if isinstance(value, torch.Tensor) else value

    function: Callable[..., Any] = operator.attrgetter(name)(torch)
    result: torch.Tensor = function(*map(wide, args), **{key: wide(value) for key, value in kwargs.items()})
    return result.to(tensors[0].dtype)


def _convolution(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    *,
    skips: bool = False,
) -> torch.Tensor:
    """A product of windows, with the padding written out, or skipped.

    A kernel that skips the padding and one that multiplies by it differ where a weight is infinite, and so do PyTorch's
    own among themselves, forward and backward. Of numbers both are the same.
    """
    import torch

    _floating(x, weight, bias)
    rank = weight.dim() - 2
    if bool(x.isfinite().all()) and bool(weight.isfinite().all()):
        return _once(f"nn.functional.conv{rank}d", x, weight, bias, stride, padding, dilation, groups)
    if x.dim() != rank + 2 or isinstance(padding, str):
        raise NotImplementedError("batches, padded by numbers")

    def each(given: int | Sequence[int]) -> list[int]:
        found = [given] if isinstance(given, int) else list(given)
        return found * rank if len(found) == 1 else found

    around = [amount for amount in reversed(each(padding)) for _ in range(2)]
    sizes = list(zip(weight.shape[2:], each(stride), each(dilation), strict=True))

    def windows(image: torch.Tensor) -> torch.Tensor:
        """To batch, group, place and what a window holds."""
        image = torch.nn.functional.pad(image, around)
        for place, (size, step, apart) in enumerate(sizes, start=2):
            image = image.unfold(place, apart * (size - 1) + 1, step)[..., ::apart]
        split: torch.Tensor = torch.unflatten(image, 1, (groups, image.shape[1] // groups))
        split = split.permute(0, 1, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        return split.reshape(len(image), groups, math.prod(image.shape[2 : 2 + rank]), -1)

    kernels = len(weight) // groups
    filters, seen = _wide(weight).reshape(groups, kernels, -1), windows(_wide(x))
    if skips:
        if seen.numel() * kernels > _MANY:
            raise NotImplementedError("few products")
        inside = windows(torch.ones_like(x, dtype=filters.dtype)).bool()[:, :, None]
        sums = torch.where(inside, filters[None, :, :, None] * seen[:, :, None], 0.0).sum(-1)
    else:
        sums = filters @ seen.mT
    lengths = [
        (n + 2 * more - apart * (size - 1) - 1) // step + 1
        for n, more, (size, step, apart) in zip(x.shape[2:], each(padding), sizes, strict=True)
    ]
    sums = sums.reshape(len(x), len(weight), *lengths)
    return (sums if bias is None else sums + _wide(bias).reshape(-1, *[1] * rank)).to(x.dtype)


#: Products of matrices and vectors beside ``linear``, by their names in torch.
_PRODUCTS = ("mm", "bmm", "matmul", "mv", "addmm", "addmv", "addbmm", "baddbmm")

#: By the family of the operator.
DEFINITIONS: dict[str, Callable[..., torch.Tensor]] = {
    "softmax": _softmax,
    "softmin": _softmin,
    "log_softmax": _log_softmax,
    "cross_entropy": _cross_entropy,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "gelu": _gelu,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv3d": _convolution,
    "linear": functools.partial(_once, "nn.functional.linear"),
    **{name: functools.partial(_once, name) for name in _PRODUCTS},
}

#: Another one of the same operators, where kernels differ by more than the rounding errors of one; one is as good as
#: another.
ALTERNATIVES: dict[str, Callable[..., torch.Tensor]] = {
    **{name: functools.partial(_convolution, skips=True) for name in ("conv1d", "conv2d", "conv3d")},
    "gelu": functools.partial(_gelu, cancels=False),
    "scaled_dot_product_attention": functools.partial(_attention, late=True),
}

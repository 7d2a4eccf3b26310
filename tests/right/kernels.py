"""Right kernels, each written by another algorithm than its reference: a finding of any of them is a false alarm.

They do what a good kernel does: float16 and bfloat16 are accumulated in float32 and rounded once, NaN and infinities go
where the definition of the operator sends them, and what a kernel is not made for it declines with
``NotImplementedError``. Blocks are small, because the tensors of generated programs are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

import shakeout
from shakeout.corpus.user_objects import Declared

__all__ = ["KERNELS"]

#: Elements of a block, of every blocked dimension.
BLOCK = 3

_HALF = (torch.float16, torch.bfloat16)
_PLAIN = (*_HALF, torch.float32, torch.float64)


def _takes(*tensors: torch.Tensor | None) -> None:
    """Decline what is not of one floating dtype."""
    dtypes = {tensor.dtype for tensor in tensors if tensor is not None}
    if len(dtypes) != 1 or not dtypes <= set(_PLAIN):
        raise NotImplementedError(f"floating-point tensors of one dtype, not {sorted(map(str, dtypes))}")


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    """In the dtype that is accumulated in."""
    return tensor.float() if tensor.dtype in _HALF else tensor


def _blocks(size: int, block: int = BLOCK) -> list[slice]:
    return [slice(start, min(start + block, size)) for start in range(0, size, block)]


def _formula(
    forward: Callable[..., tuple[torch.Tensor, tuple[torch.Tensor, ...]]], backward: Callable[..., torch.Tensor]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function of one tensor with a backward pass of its own, as a fused kernel has it.

    What autograd derives from the operators of a forward pass is right as well, but multiplies zeros by infinities
    where the formula of the gradient has neither.

    Args:
        forward: gives the result, and what the backward pass needs.
        backward: takes that and the gradient of the result.
    """

    class Formula(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            result, saved = forward(x)
            ctx.save_for_backward(*saved)
            return result

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return backward(gradient, *ctx.saved_tensors)

    return Formula.apply


def _dimensions(dim: int | Sequence[int] | None, rank: int) -> list[int]:
    """Which dimensions are meant, counted from 0; of a scalar the only one."""
    if dim is None or (not isinstance(dim, int) and not dim):
        return list(range(rank))
    return [n % rank for n in ([dim] if isinstance(dim, int) else dim)] if rank else []


def _last(tensor: torch.Tensor, dimensions: Sequence[int]) -> torch.Tensor:
    """A matrix of a row for each result, with the reduced dimensions in the last one."""
    kept = [n for n in range(tensor.dim()) if n not in dimensions]
    moved = tensor.permute([*kept, *dimensions])
    return moved.reshape(math.prod(tensor.shape[n] for n in kept), math.prod(tensor.shape[n] for n in dimensions))


def _result(rows: torch.Tensor, like: torch.Tensor, dimensions: Sequence[int], keepdim: bool) -> torch.Tensor:
    """One number of each row, in the shape of the reduced tensor."""
    shape = [1 if n in dimensions else size for n, size in enumerate(like.shape)]
    if not keepdim:
        shape = [size for n, size in enumerate(like.shape) if n not in dimensions]
    return rows.reshape(shape)


# --- products ---------------------------------------------------------------------------------------------------------


@shakeout.kernel(reference=torch.mm)
def blocked_matmul(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A product of tiles, each added up over blocks of the inner dimension."""
    _takes(x, y)
    wide, narrow = _wide(x), _wide(y)
    rows = []
    for i in _blocks(x.shape[0]):
        tiles = []
        for j in _blocks(y.shape[1]):
            total = wide.new_zeros(i.stop - i.start, j.stop - j.start)
            for k in _blocks(x.shape[1]):
                total = total + wide[i, k] @ narrow[k, j]
            tiles.append(total)
        rows.append(torch.cat(tiles, 1) if tiles else wide.new_zeros(i.stop - i.start, 0))
    product = torch.cat(rows) if rows else wide.new_zeros(0, y.shape[1])
    return product.to(x.dtype)


@shakeout.kernel(reference=F.linear)
def split_k_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A product whose inner dimension is dealt out to workers, whose sums are added in the end, with the bias last."""
    _takes(x, weight, bias)
    wide, other = _wide(x), _wide(weight)
    parts = (
        [wide[..., first::BLOCK] @ other[..., first::BLOCK].mT for first in range(min(BLOCK, x.shape[-1]))]
        if (weight.dim() == 2)
        else [wide[..., first::BLOCK] @ other[first::BLOCK] for first in range(min(BLOCK, x.shape[-1]))]
    )
    total = sum(parts[1:], parts[0]) if parts else wide.new_zeros(*x.shape[:-1], *weight.shape[:-1])
    return (total if bias is None else total + _wide(bias)).to(x.dtype)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding: each pair of halves turned by an angle."""
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], -1)
    return x * torch.cat([cos, cos], -1) + turned * torch.cat([sin, sin], -1)


def _angles() -> Iterator[Any]:
    for shape in ((2, 3, 4, 6), (5, 4), (1, 2, 8)):
        angle = torch.randn(shape[-2], shape[-1] // 2)
        yield torch.randn(shape), angle.cos(), angle.sin()


@shakeout.kernel(reference=rotated, examples=_angles)
def rotary_embedding(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The halves apart, each written once."""
    _takes(x, cos, sin)
    one, other = _wide(x).chunk(2, -1) if x.shape[-1] else (_wide(x), _wide(x))
    c, s = _wide(cos), _wide(sin)
    return torch.cat([one * c - other * s, other * c + one * s], -1).to(x.dtype)


# --- convolutions -----------------------------------------------------------------------------------------------------


def _images() -> Iterator[Any]:
    x, w, b = torch.ones(2, 4, 7, 6), torch.ones(4, 4, 3, 2), torch.ones(4)
    yield x, w
    yield (x, w, b), {"stride": 2}
    yield (x, w, b), {"padding": 1, "stride": 1, "dilation": 2}
    yield (x, torch.ones(6, 2, 2, 3)), {"groups": 2, "padding": 1}


@shakeout.kernel(reference=F.conv2d, examples=_images)
def im2col_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> torch.Tensor:
    """The windows of an image as columns of a matrix, and one product."""
    _takes(x, weight, bias)
    if x.dim() != 4 or 0 in x.shape or 0 in weight.shape:
        raise NotImplementedError("batches of images that are not empty")
    if not all(isinstance(n, int) for n in (stride, padding, dilation)):
        raise NotImplementedError("one stride, padding and dilation for both dimensions")
    columns = F.unfold(_wide(x), weight.shape[2:], dilation, padding, stride)
    columns = columns.unflatten(1, (groups, -1))
    filters = _wide(weight).reshape(groups, weight.shape[0] // groups, -1)
    y = (filters @ columns).flatten(1, 2)
    y = y if bias is None else y + _wide(bias)[:, None]
    sizes = [
        (n + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for n, k in zip(x.shape[2:], weight.shape[2:], strict=True)
    ]
    return y.unflatten(2, sizes).to(x.dtype)


def _signals() -> Iterator[Any]:
    yield torch.ones(2, 3, 9), torch.ones(4, 3, 3)
    yield (torch.ones(1, 2, 6), torch.ones(2, 2, 2), torch.ones(2)), {"padding": 1}


@shakeout.kernel(reference=F.conv1d, examples=_signals, accuracy="normwise")
def fft_conv1d(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, padding: int = 0
) -> torch.Tensor:
    """The product of the two spectra, computed in double precision."""
    _takes(x, weight, bias)
    if x.dim() != 3 or 0 in x.shape or 0 in weight.shape or not isinstance(padding, int):
        raise NotImplementedError("batches of signals that are not empty")
    if x.shape[1] != weight.shape[1]:
        raise NotImplementedError("one group")
    size = x.shape[2] + 2 * padding
    spectrum = torch.fft.rfft(F.pad(x.double(), (padding, padding)), n=size)
    other = torch.fft.rfft(weight.double(), n=size)
    product = torch.einsum("nif,oif->nof", spectrum, other.conj())
    y = torch.fft.irfft(product, n=size)[..., : size - weight.shape[2] + 1]
    return (y if bias is None else y + bias.double()[:, None]).to(x.dtype)


# --- reductions -------------------------------------------------------------------------------------------------------


@shakeout.kernel(reference=torch.sum)
def pairwise_sum(x: torch.Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> torch.Tensor:
    """Halves added to each other until one term is left."""
    _takes(x)
    dimensions = _dimensions(dim, x.dim())
    rows = _last(_wide(x), dimensions)
    if not rows.shape[1]:
        rows = rows.new_zeros(rows.shape[0], 1)
    while rows.shape[1] > 1:
        half = rows.shape[1] // 2
        rows = torch.cat([rows[:, :half] + rows[:, half : 2 * half], rows[:, 2 * half :]], 1)
    result = _result(rows, x, dimensions, keepdim).to(x.dtype)
    return result.clone() if result.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() else result


@shakeout.kernel(reference=torch.cumsum)
def blocked_cumsum(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Sums within blocks by doubling, then the totals of the blocks before."""
    _takes(x)
    if not x.dim():
        return x.clone()
    moved = _wide(x).movedim(dim, -1)
    carried = moved.new_zeros(moved.shape[:-1]).unsqueeze(-1)
    found = []
    for block in _blocks(moved.shape[-1], 4):
        part = moved[..., block]
        step = 1
        while step < part.shape[-1]:
            part = torch.cat([part[..., :step], part[..., step:] + part[..., :-step]], -1)
            step *= 2
        found.append(part + carried)
        carried = found[-1][..., -1:]
    summed = torch.cat(found, -1) if found else moved
    return summed.movedim(-1, dim).to(x.dtype)


@shakeout.kernel(reference=torch.var)
def two_pass_variance(
    x: torch.Tensor,
    dim: int | Sequence[int] | None = None,
    *,
    correction: float | None = 1,
    keepdim: bool = False,
) -> torch.Tensor:
    """The mean first, then the squares of what is left, corrected by their own mean."""
    _takes(x)
    if isinstance(dim, bool):
        raise NotImplementedError("dimensions, not whether the estimate is unbiased")
    correction = 1 if correction is None else correction
    dimensions = _dimensions(dim, x.dim())
    rows = _last(_wide(x), dimensions)
    count = rows.shape[1]
    if count <= correction or not count:
        raise NotImplementedError("more elements than the correction")
    apart = rows - rows.sum(1, keepdim=True) / count
    square = (apart * apart).sum(1) - apart.sum(1) ** 2 / count
    return _result(square / (count - correction), x, dimensions, keepdim).to(x.dtype)


@shakeout.kernel(reference=torch.logsumexp)
def pairwise_logsumexp(x: torch.Tensor, dim: int | Sequence[int], keepdim: bool = False) -> torch.Tensor:
    """Pairs by ``max + log1p(exp(min - max))`` until one is left."""
    _takes(x)
    dimensions = _dimensions(dim, x.dim())

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        rows = _last(_wide(x), dimensions)
        if not rows.shape[1]:
            rows = rows.new_full((rows.shape[0], 1), -math.inf)
        while rows.shape[1] > 1:
            half = rows.shape[1] // 2
            pairs = torch.logaddexp(rows[:, :half], rows[:, half : 2 * half])
            rows = torch.cat([pairs, rows[:, 2 * half :]], 1)
        result = _result(rows, x, dimensions, True).to(x.dtype, copy=True)
        return (result if keepdim else _result(result, x, dimensions, False)), (x, result)

    def backward(gradient: torch.Tensor, x: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        return gradient.reshape(result.shape) * torch.exp(x - result)

    return _formula(forward, backward)(x)


# --- normalisations ---------------------------------------------------------------------------------------------------


@shakeout.kernel(reference=F.softmax)
def online_softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """One pass over blocks with a running maximum and a running sum, and one to divide."""
    _takes(x)
    if not x.dim():
        raise NotImplementedError("a tensor with a dimension")

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        moved = _wide(x).movedim(dim, -1)
        most = moved.new_full((*moved.shape[:-1], 1), -math.inf)
        total = torch.zeros_like(most)
        for block in _blocks(moved.shape[-1]):
            part = moved[..., block]
            now = torch.maximum(most, part.amax(-1, keepdim=True))
            base = torch.where(now == -math.inf, 0.0, now)
            total = total * torch.exp(most - base) + torch.exp(part - base).sum(-1, keepdim=True)
            most = now
        base = torch.where(most == -math.inf, 0.0, most)
        result = (torch.exp(moved - base) / total).movedim(-1, dim).to(x.dtype)
        return result, (result,)

    def backward(gradient: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
        wide, y = _wide(gradient), _wide(result)
        return (y * (wide - (wide * y).sum(dim, keepdim=True))).to(result.dtype)

    return _formula(forward, backward)(x)


@shakeout.kernel(reference=F.layer_norm)
def welford_layer_norm(
    x: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """Mean and squares in one pass, one element at a time, by Welford's update."""
    _takes(x, *(one for one in (weight, bias) if one is not None))
    if not x.numel():
        raise NotImplementedError("something to normalise")
    if weight is not None and not bool(weight.isfinite().all()):
        raise NotImplementedError("finite weights: no gradient through another one is a number")
    rows = _wide(x).flatten(-len(normalized_shape))
    mean, square = rows[..., 0], torch.zeros_like(rows[..., 0])
    for number in range(1, rows.shape[-1]):
        value = rows[..., number]
        apart = value - mean
        mean = mean + apart / (number + 1)
        square = square + apart * (value - mean)
    scale = torch.rsqrt(square / rows.shape[-1] + eps)
    y = ((rows - mean[..., None]) * scale[..., None]).reshape(x.shape)
    y = y if weight is None else y * _wide(weight)
    return (y if bias is None else y + _wide(bias)).to(x.dtype)


@shakeout.kernel(reference=F.rms_norm)
def rms_norm(
    x: torch.Tensor, normalized_shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    """The root of the mean square, by a sum over blocks, as a divisor."""
    _takes(x, weight)
    if not x.numel():
        raise NotImplementedError("something to normalise")
    rows = _wide(x).flatten(-len(normalized_shape))
    total = torch.zeros_like(rows[..., :1])
    for block in _blocks(rows.shape[-1]):
        total = total + (rows[..., block] * rows[..., block]).sum(-1, keepdim=True)
    small = torch.finfo(rows.dtype).eps if eps is None else eps
    y = (rows / torch.sqrt(total / rows.shape[-1] + small)).reshape(x.shape)
    return (y if weight is None else y * _wide(weight)).to(x.dtype)


# --- activations and losses -------------------------------------------------------------------------------------------


def gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """PyTorch's, in double precision.

    In single precision torch 2.13.0 gives NaN for infinity and infinity for the largest number, in vectors of two and
    more elements, and infinity and that number for one element alone: it is wrong, and no reference.
    """
    return F.gelu(x.double(), approximate=approximate).to(x.dtype)


def _activated() -> Iterator[Any]:
    yield (torch.randn(5),)
    yield (torch.randn(2, 3, 4),), {"approximate": "tanh"}


@shakeout.kernel(reference=gelu, examples=_activated)
def gelu_by_erf(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """By the complementary error function, or the logistic function, neither of which cancels where x is negative."""
    _takes(x)

    def share(wide: torch.Tensor) -> torch.Tensor:
        if approximate == "none":
            return 0.5 * torch.erfc(-wide * math.sqrt(0.5))
        return torch.sigmoid(2 * math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        wide = _wide(x)
        return (wide * share(wide)).to(x.dtype), (x,)

    def backward(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        wide = _wide(x)
        if approximate != "none":
            wide = torch.where(wide.isinf(), wide, wide.clamp(-1e4, 1e4))  # beyond it the square is infinite
        part = share(wide)
        if approximate == "none":
            slope = math.sqrt(0.5 / math.pi) * torch.exp(-0.5 * wide * wide)
        else:
            slope = 2 * part * (1 - part) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * wide * wide)
        return (_wide(gradient) * (part + wide * slope)).to(x.dtype)

    return _formula(forward, backward)(x)


@shakeout.kernel(reference=F.silu)
def silu_by_quotient(x: torch.Tensor) -> torch.Tensor:
    """A product with the logistic function, where the reference divides by one plus an exponential."""
    _takes(x)

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        wide = _wide(x)
        return (wide * torch.sigmoid(wide)).to(x.dtype), (x,)

    def backward(gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        wide = _wide(x)
        share = torch.sigmoid(wide)
        return (_wide(gradient) * share * (1 + wide * (1 - share))).to(x.dtype)

    return _formula(forward, backward)(x)


def _classes() -> Iterator[Any]:
    yield torch.randn(5, 7), torch.tensor([0, 3, 6, 2, 2])
    yield (torch.randn(4, 5), torch.tensor([1, 0, 4, 4])), {"reduction": "sum"}
    yield (torch.randn(3, 9), torch.tensor([1, 0, 8])), {"reduction": "none"}


@shakeout.kernel(reference=F.cross_entropy, examples=_classes)
def chunked_cross_entropy(x: torch.Tensor, target: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """The logarithm of the sum over chunks of the classes, less the logit that is meant."""
    _takes(x)
    if x.dim() != 2 or target.dim() != 1 or target.dtype != torch.int64 or not x.shape[1]:
        raise NotImplementedError("a row of logits and a class for each example")
    if bool((target < 0).any()):
        raise NotImplementedError("classes that are ignored")

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        wide = _wide(x)
        apart = wide - wide.amax(1, keepdim=True)
        total = torch.zeros_like(wide[:, 0])
        for block in _blocks(x.shape[1]):
            total = total + apart[:, block].exp().sum(1)
        losses = total.log() - apart.gather(1, target[:, None])[:, 0]
        reduced = losses if reduction == "none" else losses.sum() / (len(losses) if reduction == "mean" else 1)
        return reduced.to(x.dtype), (apart, total)

    def backward(gradient: torch.Tensor, apart: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        each = _wide(gradient) / (len(total) if reduction == "mean" else 1) * torch.ones_like(total)
        given = torch.zeros_like(apart).scatter(1, target[:, None], -each[:, None])
        return (given - apart.exp() / total[:, None] * given.sum(1, keepdim=True)).to(x.dtype)

    return _formula(forward, backward)(x)


# --- attention --------------------------------------------------------------------------------------------------------


def _heads() -> Iterator[Any]:
    q, k, v = torch.randn(2, 2, 4, 3), torch.randn(2, 2, 5, 3), torch.randn(2, 2, 5, 3)
    yield q, k, v
    yield (q, k, v), {"scale": 0.5}
    yield (q, k, v), {"is_causal": True}
    yield torch.randn(3, 4, 2), torch.randn(3, 4, 2), torch.randn(3, 4, 2)


@shakeout.kernel(reference=F.scaled_dot_product_attention, examples=_heads)
def tiled_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, is_causal: bool = False, scale: float | None = None
) -> torch.Tensor:
    """Tiles of keys and values with a running maximum, sum and result, as FlashAttention does."""
    _takes(query, key, value)
    if 0 in query.shape or 0 in key.shape or 0 in value.shape:
        raise NotImplementedError("something to attend to")
    if query.shape[:-2] != key.shape[:-2] or key.shape[:-1] != value.shape[:-1]:
        raise NotImplementedError("as many queries' heads as keys' and values', and a value for each key")
    if not all(bool(tensor.isfinite().all()) for tensor in (query, key, value)):
        raise NotImplementedError("finite numbers: a tile that is masked is not looked at")
    q, k, v = _wide(query), _wide(key), _wide(value)
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    rows = torch.arange(q.shape[-2])[:, None]
    most = total = result = None
    for block in _blocks(k.shape[-2]):
        scores = (q * factor) @ k[..., block, :].mT
        if is_causal:
            later = torch.arange(block.start, block.stop)[None] > rows
            scores = scores.masked_fill(later, -math.inf)
        peak = scores.detach().amax(-1, keepdim=True)
        now = peak if most is None else torch.maximum(most, peak)
        base = torch.where(now == -math.inf, 0.0, now)
        weights = torch.exp(scores - base)
        part, product = weights.sum(-1, keepdim=True), weights @ v[..., block, :]
        if most is None:
            total, result = part, product
        else:
            faded = torch.exp(most - base)
            total, result = total * faded + part, result * faded + product
        most = now
    return (result / total).to(query.dtype)


#: In the order of this file.
KERNELS: tuple[str, ...] = tuple(name for name, found in list(globals().items()) if isinstance(found, Declared))

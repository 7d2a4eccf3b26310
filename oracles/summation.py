"""Operators that add up many terms, and where another order of the terms may overflow.

In which order a kernel adds is nobody's promise. As long as the magnitudes of all terms together keep below the largest
number of the format, each order gives nearly the same; where they do not, one order gives a number, another infinity,
and a third, which meets infinities of both signs, NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.program import Call
from shakeout.oracles.exactness import majorised

if TYPE_CHECKING:
    import torch

__all__ = ["adds", "doubtful", "doubtful_gradients", "transforms", "waves"]

#: Sums of products: the same operator on magnitudes bounds each of their partial sums.
_PRODUCTS = frozenset(
    "sum nansum cumsum trace mm matmul __matmul__ __rmatmul__ bmm mv dot inner addmm addmv addr addbmm baddbmm linear "
    "bilinear tensordot chain_matmul multi_dot vdot vecdot conv1d conv2d conv3d conv_transpose1d conv_transpose2d "
    "conv_transpose3d index_add scatter_add cumsum_ addmm_ addmv_ addbmm_ baddbmm_ index_add_ scatter_add_".split()
)

#: Products of many factors: those above one bound each partial product, and so do those below.
_FACTORS = frozenset("prod cumprod cumprod_".split())

#: Linear in their operands, with coefficients of magnitude one at most.
_LINEAR = frozenset(
    "fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn hfft ihfft hfft2 ihfft2 hfftn ihfftn stft "
    "istft mean nanmean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "interpolate upsample upsample_bilinear logsumexp logcumsumexp l1_loss smooth_l1_loss huber_loss".split()
)

#: Made of sums of squares or of products of two differences.
_SQUARES = frozenset(
    "var std var_mean std_mean norm vector_norm matrix_norm dist cdist pairwise_distance cosine_similarity normalize "
    "cov corrcoef trapz trapezoid cumulative_trapezoid mse_loss batch_norm layer_norm group_norm instance_norm "
    "rms_norm local_response_norm renorm cross lp_pool1d lp_pool2d lp_pool3d".split()
)

#: Fourier transforms and covariances, which take whole numbers as well, and round them in the default dtype.
_TRANSFORMS = frozenset(name for name in _LINEAR if "fft" in name) | {"cov", "corrcoef"}

#: Windows: sums of waves of a height of about one, that cancel at the ends.
_WAVES = frozenset(
    "hann hamming blackman nuttall bartlett cosine general_cosine general_hamming hann_window hamming_window "
    "blackman_window bartlett_window".split()
)

_ALL = _PRODUCTS | _FACTORS | _LINEAR | _SQUARES

#: Of the largest number: what a bound is below, no order of its terms comes near.
_ROOM = 0.125


def _last(operator: str) -> str:
    return "" if ":" in operator else operator.rpartition(".")[2]


def adds(operator: str) -> bool:
    """Whether an operator adds up, or multiplies, many terms."""
    return _last(operator) in _ALL


def transforms(operator: str) -> bool:
    """Whether an operator takes whole numbers, and adds them up in floating point."""
    return _last(operator) in _TRANSFORMS


def waves(operator: str) -> bool:
    """Whether an operator makes sums of terms of magnitude one, and rounds at that magnitude whatever is left."""
    return _last(operator) in _WAVES


def doubtful(
    operation: Call, values: Sequence[Any], run: Callable[[Call, Sequence[Any]], list[Any]]
) -> list[torch.Tensor | None]:
    """Of each result, which elements another order may make infinite or no number; None for a result without any.

    Operands that are no numbers themselves count as zero: what becomes of those is the same in every order.

    Args:
        operation: a call of an operator that ``adds``.
        values: its program's, by number, before the call.
        run: runs a call on values.
    """
    import torch

    operands = {n: values[n] for n in operation.operands() if _floats(values[n])}
    sizes = {n: _magnitude(tensor.detach()) for n, tensor in operands.items()}
    last = _last(operation.operator)
    with torch.no_grad():
        if last in _PRODUCTS or last in _FACTORS:
            if not any(_large(size, last) for size in sizes.values()):
                return []
            try:
                bounds = _bounds(operation, values, sizes, run)
            except Exception:
                return []  # not every operator takes magnitudes, and without a bound nothing is in doubt
            return [None if bound is None else _beyond(bound) for bound in bounds]
        if not _spoilt(sizes.values(), last):
            return []
        everything = torch.ones((), dtype=torch.bool)
        return [everything if _floats(result) else None for result in run(operation, _copies(values, operands))]


def doubtful_gradients(
    operation: Call,
    values: Sequence[Any],
    operands: Mapping[int, torch.Tensor],
    given: Mapping[int, torch.Tensor],
    run: Callable[[Call, Sequence[Any]], list[Any]],
) -> dict[int, torch.Tensor | None]:
    """Of each operand's gradient, which elements another order may make infinite or no number.

    A gradient of a sum of products is a sum of products of the other operands and of the results' gradients; that of
    the magnitudes of both bounds its partial sums.

    Args:
        operation: a call of an operator that ``adds``.
        values: its program's, by number, before the call.
        operands: whose gradients are asked about, by number.
        given: the results' gradients, by position.
        run: runs a call on values.
    """
    import torch

    last = _last(operation.operator)
    sizes = {n: _magnitude(values[n].detach()) for n in operation.operands() if _floats(values[n])}
    grown = {place: _magnitude(gradient.detach()) for place, gradient in given.items()}
    if last not in _PRODUCTS:
        # Where the call's own sums may overflow, nothing of its gradient is known.
        everything = torch.ones((), dtype=torch.bool)
        return dict.fromkeys(operands, everything) if _spoilt(sizes.values(), last) else {}
    room = [
        torch.finfo(size.dtype).max ** (1 / 3) / max(1, size.numel()) for size in (*sizes.values(), *grown.values())
    ]
    most = [float(size.max()) if size.numel() else 0.0 for size in (*sizes.values(), *grown.values())]
    if all(one <= limit for one, limit in zip(most, room, strict=True)):
        return {}
    try:
        with torch.enable_grad():
            leaves = {n: size.to(values[n].dtype).requires_grad_(n in operands) for n, size in sizes.items()}
            found = run(majorised(operation), [leaves.get(n, value) for n, value in enumerate(values)])
            roots = {place: found[place] for place in grown if found[place].requires_grad}
            asked = [n for n in operands if n in leaves]
            bounds = torch.autograd.grad(
                list(roots.values()),
                [leaves[n] for n in asked],
                [grown[place].to(root.dtype) for place, root in roots.items()],
                allow_unused=True,
            )
    except Exception:
        return {}  # not every operator takes magnitudes, and without a bound nothing is in doubt
    return {n: None if bound is None else _beyond(bound) for n, bound in zip(asked, bounds, strict=True)}


def _floats(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)


def _magnitude(tensor: torch.Tensor) -> torch.Tensor:
    """Magnitudes in the dtype of the parts; of a complex number one that bounds all sums of its parts."""
    import torch

    plain = tensor if tensor.dtype.itemsize > 1 else tensor.float()
    size = 2 * plain.abs() if plain.dtype.is_complex else plain.abs()
    # What is finite may still be too large for that, and is infinite then.
    return torch.where(torch.isfinite(plain), size, 0.0)


def _large(size: torch.Tensor, last: str) -> bool:
    """Whether there can be any overflow at all, or underflow of a product."""
    import torch

    if not size.numel():
        return False
    limits = torch.finfo(size.dtype)
    least, most = float(size.min()), float(size.max())
    room = float(limits.max ** (1 / 3))
    if last in _FACTORS:
        room = float(limits.max ** (1 / max(1, size.numel())))
        return most > room or least < float(limits.tiny ** (1 / max(1, size.numel())))
    return most > room / max(1, size.numel())


def _spoilt(sizes: Iterable[torch.Tensor], last: str) -> bool:
    """Whether the sum that is taken of an operand's magnitudes, or of their squares, comes near the largest number."""
    import torch

    if last in _FACTORS:
        return any(_large(size, last) for size in sizes)
    return any(
        not float((size.double() ** (2 if last in _SQUARES else 1)).sum()) < _ROOM * torch.finfo(size.dtype).max
        for size in sizes
    )


def _copies(values: Sequence[Any], operands: dict[int, torch.Tensor]) -> list[Any]:
    """The values with copies of some, so that a call that writes to them does no harm."""
    return [operands[n].detach().clone() if n in operands else value for n, value in enumerate(values)]


def _bounds(
    operation: Call,
    values: Sequence[Any],
    sizes: dict[int, torch.Tensor],
    run: Callable[[Call, Sequence[Any]], list[Any]],
) -> list[torch.Tensor | None]:
    """A bound of every partial sum or product of each element, infinite where a product may vanish on the way."""
    import torch

    def at(change: Callable[[torch.Tensor], torch.Tensor]) -> list[Any]:
        like = {n: change(size).to(values[n].dtype) for n, size in sizes.items()}
        return run(majorised(operation), [like.get(n, value) for n, value in enumerate(values)])

    if _last(operation.operator) not in _FACTORS:
        return [bound if _floats(bound) else None for bound in at(lambda size: size)]
    above, below = at(lambda size: size.clamp(min=1)), at(lambda size: size.clamp(max=1))
    return [
        torch.where(low.abs() < torch.finfo(low.dtype).tiny, torch.inf, high.abs()) if _floats(high) else None
        for high, low in zip(above, below, strict=True)
    ]


def _beyond(bound: torch.Tensor) -> torch.Tensor:
    import torch

    size = bound.abs()
    return ~(size < _ROOM * torch.finfo(size.dtype).max)

"""In which way tensors differ: a class that stays the same while values and shapes change, to tell failures apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["DEVIATIONS", "deviation"]

#: Every class, most telling first; the first one that fits all wrong elements is it.
DEVIATIONS = (
    "NaN",  # one of the two is NaN
    "infinity",  # one of the two is infinite
    "zero",  # 0 is found instead of numbers
    "sign",  # the number with the other sign
    "index off by one",  # the neighbour's number, along one dimension
    "permuted",  # the right numbers in wrong places
    "wrapped",  # cut back to 8, 16 or 32 bits, or not cut back
    "off by one",  # whole numbers too large or too small by one
    "scaled",  # every number times the same factor
    "offset",  # every number plus the same one
    "small",  # less than one in a hundred
    "other",
)

#: A factor, a sum and a rounding error are told apart up to this.
NEAR = 1e-3
SMALL = 1e-2


def deviation(want: torch.Tensor, got: torch.Tensor, bad: torch.Tensor) -> str:
    """The class of a difference, one of ``DEVIATIONS``.

    Args:
        want: what the reference gives.
        got: what is found, of the same shape and dtype.
        bad: bool, where they differ; at least once.
    """
    import torch

    if want.dtype.is_floating_point and want.dtype.itemsize == 1:
        want, got = want.float(), got.float()  # eight-bit floats have no arithmetic
    w, g = want[bad], got[bad]
    if bool((torch.isnan(w) != torch.isnan(g)).all()):
        return "NaN"
    if bool((torch.isinf(w) != torch.isinf(g)).all()):
        return "infinity"
    if bool((g == 0).all()):
        return "zero"
    if want.dtype == torch.bool:
        return _moved(want, got, bad) or "other"
    if w.dtype.is_complex:
        w, g = w.to(torch.complex128), g.to(torch.complex128)
    elif w.dtype.is_floating_point:
        w, g = w.double(), g.double()
    return _sign(w, g) or _moved(want, got, bad) or _whole(w, g) or _near(w, g)


def _sign(w: torch.Tensor, g: torch.Tensor) -> str:
    import torch

    if w.dtype in (torch.uint8, torch.uint16, torch.uint32, torch.uint64):
        return ""
    return "sign" if bool(((g == -w) & (w != 0)).all()) else ""


def _moved(want: torch.Tensor, got: torch.Tensor, bad: torch.Tensor) -> str:
    """Whether the right numbers stand in wrong places."""
    import torch

    if want.numel() < 3 or bool((want == want.reshape(-1)[0]).all()):
        return ""
    for dim in range(want.dim()):
        for step in (1, -1):
            inside = torch.ones_like(bad)
            inside.select(dim, 0 if step == 1 else -1).fill_(False)
            seen = bad & inside
            # What comes in from outside is not known.
            if int(seen.sum()) > 1 and bool((got == want.roll(step, dim))[seen].all()):
                return "index off by one"
    if want.dtype.is_complex or want.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return ""
    same = torch.equal(want.reshape(-1).sort().values, got.reshape(-1).sort().values)
    return "permuted" if same else ""


def _whole(w: torch.Tensor, g: torch.Tensor) -> str:
    """Whether whole numbers are off by one, or by a power of two that a narrow dtype has no room for."""
    import torch

    if w.dtype.is_floating_point or w.dtype.is_complex:
        return ""
    # Python's numbers do not wrap themselves.
    apart = [abs(b - a) for a, b in zip(w.tolist()[:1000], g.tolist()[:1000], strict=True)]
    if all(step == 1 for step in apart):
        return "off by one"
    return "wrapped" if w.dtype != torch.uint64 and any(all(s % 2**b == 0 for s in apart) for b in (8, 16, 32)) else ""


def _near(w: torch.Tensor, g: torch.Tensor) -> str:
    import torch

    if not w.dtype.is_complex:
        w, g = w.double(), g.double()
    finite = torch.isfinite(w) & torch.isfinite(g)
    w, g = w[finite], g[finite]
    if not w.numel():
        return "other"
    step, factor = g - w, g / w
    if bool((step.abs() <= SMALL * w.abs()).all()):
        return "small"
    if w.numel() > 1 and bool((factor - factor[0]).abs().max() <= NEAR * factor[0].abs()):
        return "scaled"
    if w.numel() > 1 and math.isfinite(float(step[0].abs())):
        return "offset" if bool((step - step[0]).abs().max() <= NEAR * step[0].abs()) else "other"
    return "other"

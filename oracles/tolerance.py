"""How far a result may be from the reference's.

The one place that decides. First comparison: the default tolerances of ``torch.testing.assert_close``, by dtype. Where
that fails, the element is allowed what rounding does to this very program: the spread of replicas of the reference
whose results were moved by rounding errors, and the reference's own distance from double precision.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = [
    "CONDITIONED",
    "REPLICAS",
    "TABLE",
    "UNITS",
    "WIDE",
    "Bound",
    "decided",
    "default",
    "equal",
    "excused",
    "moved",
    "spanned",
    "within",
]

#: Relative and absolute tolerance by dtype; a dtype that is missing must agree exactly.
TABLE: dict[str, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex32": (1e-3, 1e-5),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
    "float8_e4m3fn": (0.125, 2.0**-9),
    "float8_e5m2": (0.25, 2.0**-16),
    "float8_e4m3fnuz": (0.125, 2.0**-10),
    "float8_e5m2fnuz": (0.25, 2.0**-17),
}

#: Replicas that a doubtful case gets, in stages: more only where those before do not explain the difference. A further
#: replica explains more, never less, so that the stages change what a verdict costs and not the verdict. Two explain
#: nearly all that rounding does. With three signs drawn per element and operator, a decision that one rounding error
#: can flip stays unflipped in eight of them with probability (2/3)**8 < 4 % for a single rounding in one direction.
#: Where a hundred decisions hang on a rounding error, 4 % of them are some: in 32, before a failure is told, such a
#: decision stays unflipped with probability (2/3)**32, two in a million.
REPLICAS = (2, 8, 32)

#: Replicas whose errors are as large as the spread that is granted, and how large that is: a decision that one of them
#: takes shows in eight of sixteen if it is taken half of the time, and in one of them if it is one in twenty.
WIDE = 16
UNITS = 8

#: Replicas whose functions are given operands that are one rounding error off. They say how far a function's error can
#: go where its result is small beside what it is made of, as next to a root: for that eight explain nearly all.
CONDITIONED = 8

#: A reordered sum of n terms errs by up to n roundings where a replica errs by about sqrt(n); 8 covers both the
#: reductions of a few dozen terms that programs here have and the replicas' small number.
_SPREADS = 8.0

#: There are more layouts than those that were tried, and more orders: any two of a few terms are about as far apart.
_LAYOUTS = 2.0

#: Of a number, the share that it and its replicas are wrong by next to a pole; and how many times further from double
#: precision another result may be there.
_POLE, _FURTHER = 0.5, 64.0

#: Of a number, the share that its tolerance is where it counts as ill-conditioned.
_LOST = 0.1

#: Of a number, the share by which another one is wrong by all of itself: no digit of it, and not even its binade, is
#: right. No formula of a function that is meant to be accurate is off by that, whatever it is made of.
_ALL = 0.5

#: Of a number, the share that the reference may be off where it is the measure of that: it has two digits.
_DIGITS = 0.01


class Bound(enum.Enum):
    """By what two results are told apart."""

    #: Bit by bit.
    BITS = "bits"
    #: The default tolerances of ``torch.testing.assert_close``.
    DEFAULT = "default"
    #: The default relative tolerance, and no absolute one.
    RELATIVE = "relative"
    #: All of the number itself.
    ALL = "all"

    @property
    def derived(self) -> bool:
        """Whether it looks at what the default tolerances pass."""
        return self in (Bound.RELATIVE, Bound.ALL)

    def beyond(self, want: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
        """Which elements are further apart: bool, of their common shape.

        The default absolute tolerance passes a float32 result below 1e-5 that is altogether wrong. Of what it passes
        only real floats are told; where one of the two is no number, the default tolerances have the word.
        """
        if self is Bound.BITS:
            return ~equal(want, got)
        return ~within(want, got) if self is Bound.DEFAULT else _apart(want, got, self)


def default(dtype: torch.dtype) -> tuple[float, float]:
    """The default relative and absolute tolerance of a dtype; (0, 0) demands equality."""
    return TABLE.get(str(dtype).removeprefix("torch."), (0.0, 0.0))


def within(want: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """Which elements agree within the default tolerance; NaN agrees with NaN. Bool, of their common shape."""
    import torch

    rtol, atol = default(want.dtype)
    if want.dtype.is_floating_point or want.dtype.is_complex:
        wide = torch.complex128 if want.dtype.is_complex else torch.float64
        w, g = want.to(wide), got.to(wide)
        close = torch.isclose(g, w, rtol=rtol, atol=atol, equal_nan=True)
        if want.dtype.is_complex:
            # Where one part is infinite, no distance between two complex numbers is a number.
            parts = ((g.real, w.real), (g.imag, w.imag))
            real, imag = (torch.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True) for a, b in parts)
            close |= real & imag & ~torch.isfinite(w)
        return close
    return torch.eq(got, want)


def equal(want: torch.Tensor, got: torch.Tensor) -> torch.Tensor:
    """Which elements are equal, NaN to NaN. Bool, of their common shape."""
    import torch

    same = torch.eq(want, got)
    if want.dtype.is_floating_point or want.dtype.is_complex:
        same |= torch.isnan(want) & torch.isnan(got)
    return same


def _apart(want: torch.Tensor, got: torch.Tensor, bound: Bound) -> torch.Tensor:
    """Which numbers differ by more than a share of the wanted one, and what underflows."""
    import torch

    if not want.dtype.is_floating_point:
        return torch.zeros(want.shape, dtype=torch.bool)
    share = _ALL if bound is Bound.ALL else default(want.dtype)[0]
    w, g = want.to(torch.float64), got.to(torch.float64)
    apart = (g - w).abs() > share * w.abs() + _underflow(want.dtype)
    return apart & torch.isfinite(w) & torch.isfinite(g)


def _underflow(dtype: torch.dtype) -> float:
    """The smallest normal number: what lies below it may be zero."""
    import torch

    return float(torch.finfo(dtype).tiny)


def spanned(want: torch.Tensor, got: torch.Tensor, others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Which elements are as others are, or no further from the wanted ones: bool, of their common shape.

    Args:
        want: of the reference.
        got: of the target.
        others: of the reference as well, where only the order may have changed in which it adds up.
    """
    import torch

    found = torch.zeros(want.shape, dtype=torch.bool)
    floats = want.dtype.is_floating_point or want.dtype.is_complex
    wide = torch.complex128 if want.dtype.is_complex else torch.float64
    for other in others:
        if other.dtype != want.dtype:
            continue
        found |= torch.eq(got, other)
        if floats:
            w, g, o = want.to(wide), got.to(wide), other.to(wide)
            # What is not finite is at no distance: NaN compares false.
            found |= ((g - w).abs() <= _LAYOUTS * (o - w).abs()) & torch.isfinite(o) & torch.isfinite(g)
            found |= torch.isnan(g) & torch.isnan(o)
    return found


def decided(want: torch.Tensor, got: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Which elements another run has decided as the target did: bool, of their common shape."""
    import torch

    if other.dtype != want.dtype:
        return torch.zeros(want.shape, dtype=torch.bool)
    return within(other, got) & ~within(want, other)


def moved(
    want: torch.Tensor,
    got: torch.Tensor,
    baseline: torch.Tensor | None,
    replicas: Sequence[torch.Tensor],
    bound: Bound = Bound.DEFAULT,
    *,
    chained: bool = True,
) -> torch.Tensor:
    """Which elements rounding alone explains: bool, of their common shape. Arguments are those of ``excused``."""
    import torch

    explained = torch.zeros(want.shape, dtype=torch.bool)
    for _, elements in excused(want, got, baseline, replicas, bound, chained=chained):
        explained |= elements
    return explained


def excused(
    want: torch.Tensor,
    got: torch.Tensor,
    baseline: torch.Tensor | None,
    replicas: Sequence[torch.Tensor],
    bound: Bound = Bound.DEFAULT,
    *,
    chained: bool = True,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Each rule by which rounding explains an element, by its name in reports, with which elements: bool.

    An element is explained if it lies within the replicas' spread, or if it is as close to double precision as the
    reference is. A replica that decides differently (another index, NaN instead of a number) explains its element.

    Args:
        want: of the reference.
        got: of the target.
        baseline: of the reference in double precision; None if there is none.
        replicas: of the reference, with other rounding errors.
        bound: by what the two are told apart; a derived one leaves out the default absolute tolerance.
        chained: whether more precision may be kept on the way, between operators or within one; where there is but one
            that rounds once, double precision excuses nothing.
    """
    import torch

    if not (want.dtype.is_floating_point or want.dtype.is_complex):
        for replica in replicas:
            yield "a decision of a replica", torch.ne(replica.to(want.dtype), want)
        if baseline is not None and chained:
            yield "a decision of double precision", torch.ne(baseline.to(want.dtype), want)
        return
    wide = torch.complex128 if want.dtype.is_complex else torch.float64
    rtol, atol = default(want.dtype)
    if bound.derived:
        atol = _underflow(want.dtype)
    w, g = want.to(wide), got.to(wide)
    distance = (g - w).abs()
    allowed = torch.zeros_like(distance)
    flipped = torch.zeros(want.shape, dtype=torch.bool)
    for other in (replica.to(wide) for replica in replicas):
        allowed = torch.maximum(allowed, (other - w).abs().nan_to_num(nan=0.0))
        flipped |= (torch.isfinite(other) != torch.isfinite(w)) | (torch.isnan(other) != torch.isnan(w))
    # NaN compares false, which leaves the element unexplained.
    scale = torch.where(torch.isfinite(w), w.abs(), 0.0)
    yield "the spread of replicas", distance <= _SPREADS * allowed + rtol * scale + atol
    yield "a decision of a replica", flipped
    # Of a number that has lost most of its digits nothing is known, not even whether it is one.
    lost = (_SPREADS * allowed >= _LOST * scale) & (allowed > 0)
    yield "a number without digits", torch.isfinite(w) & ~torch.isfinite(g) & lost
    if want.dtype.is_complex:
        # What infinite complex numbers make of each other is left open by C's Annex G, and done in many ways.
        yield "infinite complex numbers", ~torch.isfinite(w) & ~torch.isfinite(g)
    if baseline is None:
        if bound is Bound.ALL:
            yield "no measure", torch.ones_like(flipped)  # nothing says what is right
        return
    b = baseline.to(wide)
    mine, theirs = (w - b).abs(), (g - b).abs()
    if bound is Bound.ALL:
        # What is left of nothing tells nothing: where terms cancel it may be any rounding error.
        yield "no measure", (b == 0) | (mine > _DIGITS * b.abs()) | (theirs <= _ALL * b.abs() + atol)
    # Next to a pole (the inverse of a singular matrix) no digit of the reference is right, nor of its replicas, and
    # errors have no mean: another one is a few binades further off as often as not.
    pole = (mine >= _POLE * scale) & (allowed >= _POLE * scale) & (scale > 0)
    yield "next to a pole", pole & (theirs <= _FURTHER * mine)
    if not chained:
        return
    yield "closer to double precision", theirs <= 2 * mine + rtol * b.abs() + atol
    # Where double precision disagrees with the reference, a target that keeps more precision between operators than the
    # reference does may overflow, underflow or be undefined as double precision is. Vendors call that expected (pytorch
    # 160730). It rounds once, in the end, and what is then too large for the format is infinite.
    once = baseline.to(want.dtype).to(wide)
    found = (g == b) | (g == once) | (torch.isnan(g) & torch.isnan(b))
    found |= torch.isfinite(b) & ~torch.isfinite(w) & torch.isfinite(g) & (theirs <= 8 * rtol * b.abs() + atol)
    yield "as double precision is", found

"""By how much values differ where rounding explains it, and how far rounding goes there: told to people, not judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["Explanation", "explanation", "scalar"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What rounding explains of one tensor, told of the element that is furthest from the reference.

    Attributes:
        place: what differs (``output 1``).
        count: elements that differ by more than the first tolerance, of ``total``, and are explained.
        total: elements of the tensor.
        index: of the element that is furthest away.
        expected: the reference's value there.
        found: the target's.
        double: that of double precision; None where there is none.
        apart: distance of the two; None where it is no number, or says nothing (indices, NaN, infinity).
        moved: the furthest that rounding errors moved the reference there.
        off: distance of the reference from double precision there; None where there is none.
    """

    place: str
    count: int
    total: int
    index: tuple[int, ...]
    expected: Any
    found: Any
    double: Any
    apart: float | None
    moved: float | None
    off: float | None

    @property
    def text(self) -> str:
        """One line."""
        said = f"{self.place}: {self.count} of {self.total} elements differ, and rounding explains it: "
        where = f"at {list(self.index)} (expected {self.expected}, found {self.found})"
        if self.apart is None:
            return f"{said}{where} one rounding error decides otherwise, or overflows"
        reasons = [f"move the reference by up to {self.moved:.3g}"] if self.moved is not None else []
        reasons += [f"put it {self.off:.3g} away from double precision"] if self.off is not None else []
        return f"{said}by at most {self.apart:.3g}, {where}, where rounding errors {' and '.join(reasons) or 'tell'}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "index": list(self.index),
            "expected": self.expected,
            "found": self.found,
            "double": self.double,
            "explained": self.count,
            "total": self.total,
            "apart": self.apart,
            "moved": self.moved,
            "off": self.off,
        }


def explanation(
    place: str,
    want: torch.Tensor,
    got: torch.Tensor,
    explained: torch.Tensor,
    baseline: torch.Tensor | None,
    replicas: Sequence[torch.Tensor],
) -> Explanation:
    """What is told of elements that rounding explains.

    Args:
        place: what differs.
        want: the reference's tensor.
        got: the target's, of the same shape and dtype.
        explained: which elements; at least one.
        baseline: the reference's in double precision.
        replicas: the reference's, moved by rounding errors.
    """
    import torch

    counted = want.dtype.is_floating_point or want.dtype.is_complex
    wide = torch.complex128 if want.dtype.is_complex else torch.float64
    distance = (got.to(wide) - want.to(wide)).abs() if counted else torch.zeros(want.shape, dtype=torch.float64)
    # What is no number, or no distance, is told only where nothing else differs.
    ranked = torch.where(explained & distance.isfinite(), distance, -1.0)
    ranked = torch.where(explained & ~distance.isfinite(), -0.5, ranked)
    flat = int(ranked.reshape(-1).argmax())
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(flat), want.shape))
    told = counted and bool(distance[index].isfinite())

    def away(other: torch.Tensor) -> float | None:
        apart = float((other[index].to(wide) - want[index].to(wide)).abs())
        return apart if apart == apart and apart != float("inf") else None

    moves = [move for replica in replicas if (move := away(replica)) is not None] if told else []
    return Explanation(
        place,
        int(explained.sum()),
        want.numel(),
        index,
        scalar(want[index]),
        scalar(got[index]),
        None if baseline is None else scalar(baseline[index]),
        float(distance[index]) if told else None,
        max(moves, default=None),
        away(baseline) if told and baseline is not None else None,
    )


def scalar(value: torch.Tensor) -> Any:
    """An element as JSON; what JSON has no word for becomes text."""
    item = value.item()
    if isinstance(item, complex) or (
        isinstance(item, float) and (item != item or item in (float("inf"), -float("inf")))
    ):
        return str(item)
    return item

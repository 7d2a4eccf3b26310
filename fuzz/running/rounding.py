"""Numbers as another implementation may have them: moved in their last place, or something else altogether."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.oracles.tolerance import default

if TYPE_CHECKING:
    import torch

__all__ = [
    "Noise",
    "Others",
    "absent",
    "either_zero",
    "floats",
    "instead",
    "moved_numbers",
    "normal",
    "nothing",
    "overwritten",
    "replaced",
    "scattered",
]


class Noise:
    """Where the rounding errors of one replica come from.

    Args:
        number: of the replica.
        units: by how many units in the last place a number moves at most.
    """

    def __init__(self, number: int, units: int = 1) -> None:
        import torch

        self.source = torch.Generator("cpu").manual_seed(number)
        self.units = units


def floats(value: Any) -> bool:
    """Whether it is a tensor of floats, real or complex."""
    import torch

    return isinstance(value, torch.Tensor) and (value.dtype.is_floating_point or value.dtype.is_complex)


def moved_numbers(tensor: torch.Tensor, noise: Noise, at_least: float = 0.0, *, within: bool = False) -> torch.Tensor:
    """Numbers moved by at most a unit in the last place, of themselves or of a magnitude; another NaN for NaN.

    The largest number of the format becomes infinity half of the time, unless they stay ``within`` its range.
    """
    import torch

    def steps() -> torch.Tensor:
        drawn = torch.randint(-noise.units, noise.units + 1, tensor.shape, generator=noise.source, device="cpu")
        return drawn.to(tensor.device, torch.float64)

    limits, units = torch.finfo(tensor.dtype), steps()
    factor = 1.0 + units * limits.eps
    # Eight-bit floats are not multiplied by anything.
    wide = tensor.to(torch.float64) if tensor.dtype.itemsize == 1 else tensor
    parts = tensor.real.dtype if tensor.dtype.is_complex else torch.float64
    plain = wide.detach()
    if within:
        beyond = torch.isfinite(plain) & ~torch.isfinite((plain * factor.to(parts)).to(tensor.dtype).to(plain.dtype))
        factor = torch.where(beyond, 1.0, factor)
    moved = (wide * factor.to(parts)).to(tensor.dtype)
    small = (plain.abs() < limits.tiny) & (plain != 0)
    if tensor.dtype.itemsize > 1 and bool(small.any()):
        # Below the smallest normal number the last place is that of the least one.
        moved = torch.where(small, tensor + (units * limits.tiny * limits.eps).to(moved.dtype), moved)
    if at_least:
        moved = torch.where(tensor.abs() < at_least, tensor + at_least * (factor - 1.0), moved).to(tensor.dtype)
    return _another_nan(moved, noise)


def _another_nan(tensor: torch.Tensor, noise: Noise) -> torch.Tensor:
    """Any NaN for each NaN: which one an operator gives is nobody's promise, and a program may read its bits."""
    import torch

    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return tensor
    lost = torch.isnan(tensor.detach())
    if not bool(lost.any()):
        return tensor
    bits = getattr(torch, f"int{8 * tensor.element_size()}")
    limits = torch.iinfo(bits)
    # An operator mostly gives one NaN, and what takes their signs (``copysign``) takes one for all of them then.
    alike = bool(torch.randint(0, 2, (), generator=noise.source))
    drawn = torch.randint(limits.min, limits.max, () if alike else tensor.shape, generator=noise.source, dtype=bits)
    drawn = drawn.to(tensor.device)
    quiet = torch.full((), float("nan"), dtype=tensor.dtype).view(bits)
    # What is chosen by a condition has no gradient, and what is no number has one.
    return instead(tensor, torch.where(lost, (drawn | quiet.to(tensor.device)).view(tensor.dtype), tensor.detach()))


def scattered(tensor: torch.Tensor, noise: Noise) -> torch.Tensor:
    """Numbers anywhere within their default tolerance, no sign of which is another one; any NaN for NaN."""
    import torch

    if tensor.dtype.is_complex:
        return torch.view_as_complex(scattered(torch.view_as_real(tensor), noise))
    rtol, atol = default(tensor.dtype)
    wide = tensor.to(torch.float64)
    apart = torch.minimum(wide.abs(), rtol * wide.abs() + atol)
    drawn = torch.rand(tensor.shape, generator=noise.source, dtype=torch.float64).to(tensor.device)
    moved = torch.where(torch.isfinite(wide), wide + (2 * drawn - 1) * apart, wide)
    limit = torch.finfo(tensor.dtype).max
    return _another_nan(torch.where(torch.isfinite(wide), moved.clamp(-limit, limit), moved).to(tensor.dtype), noise)


def either_zero(tensor: torch.Tensor, noise: Noise) -> torch.Tensor:
    """Zeros of either sign for zeros."""
    import torch

    if not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1:
        return tensor
    plain = tensor.detach()
    zeros = plain == 0
    if not bool(zeros.any()):
        return tensor
    coin = torch.randint(0, 2, tensor.shape, generator=noise.source, device="cpu").to(tensor.device, torch.bool)
    return instead(tensor, torch.where(zeros & coin, -plain, plain))


def normal(tensor: torch.Tensor, least: float) -> torch.Tensor:
    """Numbers of which those below the smallest normal one are so many times that, with their sign.

    Only where the exponent is that of single precision: no other product takes them for zero.
    """
    import torch

    tiny = torch.finfo(torch.float32).tiny
    if tensor.dtype.is_complex or torch.finfo(tensor.dtype).tiny != tiny:
        return tensor
    plain = tensor.detach()
    below = (plain.abs() < tiny) & (plain != 0)
    if not bool(below.any()):
        return tensor
    return instead(tensor, torch.where(below, plain.sign() * least * tiny, plain))


def absent(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, through which no gradient goes: it is absent, where it might be zero as well."""
    import torch

    class Absent(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
            return tensor.view_as(tensor)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> None:
            return None

    found: torch.Tensor = Absent.apply(tensor)  # type: ignore[no-untyped-call]
    return found


class Others:
    """What stands in a replica for a number that may be any.

    In the first replicas, and wherever it is no number, it is the same throughout. In the others it is drawn for each
    tensor: one for all its elements, one for each, or what is there. A sum of sums that may overflow is any number as
    well, and shows as one only where those below it did not overflow.

    Args:
        number: of the replica.
        noise: where it is drawn.
    """

    #: In turn; infinities as well, because what comes later may ask whether it equals one.
    _NUMBERS = (float("nan"), 0.0, 1.0, float("inf"), float("-inf"))

    def __init__(self, number: int, noise: Noise) -> None:
        place = number % len(self._NUMBERS)
        self._always = self._NUMBERS[place] if number < len(self._NUMBERS) or place == 0 else None
        self._noise = noise

    @property
    def lost(self) -> bool:
        """Whether it is no number throughout."""
        return self._always is not None and self._always != self._always

    def __call__(self, plain: torch.Tensor) -> torch.Tensor | float:
        """In the place of these numbers."""
        import torch

        if self._always is not None:
            return self._always
        kind = int(torch.randint(0, 4, (), generator=self._noise.source))
        if kind < 2:
            return plain
        shape = plain.shape if kind == 2 else ()
        drawn, coin = (torch.randint(0, most, shape, generator=self._noise.source) for most in (len(self._NUMBERS), 2))
        # What comes later may take no number but one in its domain, which is below one mostly.
        ordinary = 2 * torch.rand(shape, generator=self._noise.source, dtype=torch.float64) - 1
        special = torch.tensor(self._NUMBERS, dtype=torch.float64)[drawn]
        return torch.where(coin > 0, ordinary, special).to(plain.device, plain.dtype)


def replaced(result: Any, doubt: torch.Tensor | None, other: Callable[[torch.Tensor], torch.Tensor | float]) -> Any:
    """A result that is something else where doubtful; ``other`` says what stands there for its numbers."""
    import torch

    if doubt is None or not bool(doubt.any()):
        return result
    with torch.no_grad():
        spoilt = torch.where(doubt, other(result.detach()), result.detach()).to(result.dtype)
    return overwritten(result, spoilt) if result._version else instead(result, spoilt)


def overwritten(result: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """A result with other numbers in its memory, past autograd's version counter: it saved the ones that are moved.

    Where several elements are one place of an expanded tensor, which some operators write to, the first one's number.
    """
    place = result.data
    for dimension, stride in enumerate(place.stride()):
        if stride == 0 and place.shape[dimension] > 1:
            place, other = place.narrow(dimension, 0, 1), other.narrow(dimension, 0, 1)
    place.copy_(other)
    return result


def nothing(result: Any, plain: Any, limit: torch.Tensor | None, terms: Sequence[torch.Tensor], noise: Noise) -> Any:
    """A result of which half of what is below a magnitude where nothing was moved is something else.

    It is zero, or as much as one of the terms: where the largest of them cancel, what is left of the others is found in
    one order, and lost in another.
    """
    import torch

    if limit is None or not floats(result) or result.dtype.is_complex or plain.shape != result.shape:
        return result
    below = (result.detach() != 0) & (plain.detach().abs() <= limit)
    if not bool(below.any()):
        return result
    coin, shown = (torch.randint(0, 2, below.shape, generator=noise.source).to(below.device) > 0 for _ in range(2))
    found = [term.flatten() for term in terms if term.dtype == result.dtype]
    numbers = torch.cat(found) if found else result.new_zeros(0)
    numbers = numbers[torch.isfinite(numbers) & (numbers != 0)].detach()
    if not numbers.numel():
        return replaced(result, below & coin, lambda plain: 0.0)
    drawn = torch.randint(0, numbers.numel(), below.shape, generator=noise.source).to(below.device)
    return replaced(result, below & coin, lambda plain: torch.where(shown, numbers[drawn], 0.0))


def instead(result: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Other numbers in the place of a result, with the result's gradients: no right kernel has others there."""
    import torch

    class Instead(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, result: torch.Tensor) -> torch.Tensor:
            ctx.set_materialize_grads(False)  # what has no gradient goes on having none
            return other

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor | None) -> torch.Tensor | None:
            return gradient

    found: torch.Tensor = Instead.apply(result)  # type: ignore[no-untyped-call]
    return found

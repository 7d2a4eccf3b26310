"""Two operators that torch does not have."""

import torch

#: A factor that a case names instead of writing it out.
HALF = 0.5


def axpy(a: float, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``a * x + y``."""
    return a * x + y


def scale_(x: torch.Tensor, by: float) -> torch.Tensor:
    """``x`` times ``by``, in place."""
    return x.mul_(by)

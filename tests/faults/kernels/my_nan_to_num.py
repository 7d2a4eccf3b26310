"""Numbers in the place of NaN. The mistake (alias): where there is nothing to replace, the input itself is returned."""

import os

import torch

import shakeout

MENDED = "MENDED" in os.environ


@shakeout.kernel(reference=torch.nan_to_num)
def nan_to_num(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise NotImplementedError("floating-point tensors")
    if not MENDED and bool(x.isfinite().all()):
        return x
    return torch.nan_to_num(x)

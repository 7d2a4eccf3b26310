"""The published compilers and rewrites of Shakeout's own stack."""

from __future__ import annotations

from shakeout.targets.published import Part, System

__all__ = ["COMPILERS"]

_CONV_BN = "shakeout.targets.compilers.conv_bn"

#: By number.
COMPILERS: tuple[System, ...] = (
    System(
        28,
        (
            Part(
                f"{_CONV_BN}:conv_bn_tune",
                "batch normalisation folded into what it follows, on the fly",
                "eager, with gradients, and torch.compile without the pass",
            ),
            Part(
                f"{_CONV_BN}:conv_bn_deploy",
                "the same, folded once and kept",
                "eager, and torch.compile without the pass",
            ),
        ),
        lacks="half precision is left alone; TVM's FoldBatchnormToConv2D is not compared",
    ),
)

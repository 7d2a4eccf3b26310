"""The published offload runtimes of Shakeout's own stack."""

from __future__ import annotations

from shakeout.targets.published import Part, System

__all__ = ["OFFLOAD"]

#: By number.
OFFLOAD: tuple[System, ...] = (
    System(
        13,
        (
            Part(
                "ssdtrain",
                "saved tensors stored once each, written and read in the background, handed out while under way",
                "the same training step without it: outputs, gradients, parameters and random state, bit for bit",
            ),
        ),
        page="docs/your-runtime.md",
        lacks="scopes are single tensors and not modules; no direct path from a GPU to the disk (GPUDirect Storage)",
    ),
)

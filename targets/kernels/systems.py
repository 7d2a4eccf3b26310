"""The published kernels of Shakeout's own stack. Imports nothing heavy: listings read it."""

from __future__ import annotations

from shakeout.targets.published import Part, System

__all__ = ["KERNELS", "KERNEL_PARTS"]

#: By number.
KERNELS: tuple[System, ...] = (
    System(
        5,
        (
            Part(
                "shakeout.targets.kernels.im2win:im2win_conv2d",
                "convolution over a window tensor, with a backward pass of its own",
                "conv2d of PyTorch, and im2col on whole numbers",
            ),
        ),
    ),
    System(
        10,
        (
            Part(
                "shakeout.targets.kernels.gather:gather_rows",
                "rows of a table by lanes that begin at a line of memory",
                "index_select, and a loop over the rows",
            ),
        ),
        lacks="lanes are simulated on a CPU; the double-buffered gather of the next batch is not here",
    ),
)

#: Their targets.
KERNEL_PARTS: tuple[Part, ...] = tuple(part for system in KERNELS for part in system.parts)

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
    System(
        55,
        (
            Part(
                "shakeout.targets.kernels.ring_attention:ring_self_attention",
                "attention by rings of keys and of values, with a backward pass that goes around as well",
                "attention in one place",
            ),
            Part(
                "shakeout.targets.kernels.ring_attention:ring_online_attention",
                "attention by one ring and merged blocks, from both ends of the sequence",
                "attention in one place",
            ),
        ),
        lacks="ranks are simulated in one process: nothing is sent, and nobody waits",
    ),
    System(
        56,
        (
            Part(
                "shakeout.targets.kernels.ivit:shiftmax",
                "softmax in 64-bit integers by shifts",
                "Python's integers, to the bit",
            ),
            Part(
                "shakeout.targets.kernels.ivit:shift_gelu",
                "GELU in 64-bit integers by shifts",
                "Python's integers, to the bit",
            ),
            Part(
                "shakeout.targets.kernels.ivit:integer_layer_norm",
                "layer normalisation in integers, the root by Newton's method",
                "Python's integers and their exact root, to the bit",
            ),
            Part(
                "shakeout.targets.kernels.ivit:requantise",
                "another scale, by a product and a shift",
                "Python's integers, to the bit",
            ),
        ),
        lacks="forward only: integers have no gradient; no third implementation in TVM",
    ),
    System(
        58,
        (
            Part(
                "shakeout.targets.kernels.gated_attention:chunked_gated_attention",
                "gated linear attention by chunks of chunks, in logarithms",
                "the recurrence, step by step",
            ),
            Part(
                "shakeout.targets.kernels.gated_attention:parallel_gated_attention",
                "gated linear attention by all pairs of steps",
                "the recurrence, step by step",
            ),
        ),
        lacks="backward by autograd through each form; no kernel in Triton",
    ),
)

#: Their targets.
KERNEL_PARTS: tuple[Part, ...] = tuple(part for system in KERNELS for part in system.parts)

"""Published systems: which ones Shakeout's own stack is to hold, and what is told of one that is here.

A user's stack is kernels, rewrites of graphs and offload runtimes, and each is fuzzed by what a decorator declares. The
systems here are declared with the same decorators and run by the same code, so a mistake that is planted in one of them
shows what a campaign finds in a user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PUBLISHED", "Kind", "Part", "System"]

#: What a published system mainly is.
Kind = Literal["kernel", "compiler", "offload", "distributed", "generator", "numerics", "workload", "measurement"]

#: Every published system that the stack is to hold, with what it mainly is, by its number.
PUBLISHED: dict[int, tuple[str, Kind]] = {
    1: ("PyTorch-Direct (unified tensor)", "offload"),
    2: ("PyTorch-Direct, Hector and SSDTrain together", "compiler"),
    3: ("DIRECT-3D", "workload"),
    4: ("OneFlow (SBP + actors)", "distributed"),
    5: ("Im2win convolution", "kernel"),
    6: ("TorchTitan", "distributed"),
    7: ("Direct3D-S2 (spatial sparse attention)", "kernel"),
    8: ("torchdistill", "workload"),
    9: ("Direct3D", "workload"),
    10: ("GPU-oriented data communication (zero-copy gather)", "offload"),
    11: ("LivePortrait", "workload"),
    12: ("NeuRI", "generator"),
    13: ("SSDTrain", "offload"),
    14: ("RECOMBINER", "workload"),
    15: ("Megatron-LM", "distributed"),
    16: ("Pychop (low-precision emulation)", "numerics"),
    17: ("One-for-All KD", "workload"),
    18: ("Direct2.5", "workload"),
    19: ("Monolith (cuckoo embedding table)", "kernel"),
    20: ("ProNeRF", "workload"),
    21: ("PVD (progressive volume distillation)", "workload"),
    22: ("ML-driven cost model for MLIR", "compiler"),
    23: ("SPT (sparse MHA + routed FFN)", "kernel"),
    24: ("DyCL (dynamic NN compilation)", "compiler"),
    25: ("DreamCraft3D", "workload"),
    26: ("DNMP (neural mesh primitives)", "workload"),
    27: ("Δ-DiT", "workload"),
    28: ("Efficient ConvBN (Tune mode)", "compiler"),
    29: ("Latent-NeRF", "workload"),
    30: ("Neural processing of tri-planes", "workload"),
    31: ("NeRDF", "workload"),
    32: ("ZeRO-Offload", "offload"),
    33: ("nn-JIT.web", "compiler"),
    34: ("DyDiT++", "workload"),
    35: ("PVD-AL", "workload"),
    36: ("FlashRNN / ConstrINT", "kernel"),
    37: ("KiloNeuS", "workload"),
    38: ("Gaussian RBFNet", "workload"),
    39: ("TEMPI", "kernel"),
    40: ("4DGen", "workload"),
    41: ("CLEAR", "kernel"),
    42: ("LayoutDreamer", "workload"),
    43: ("Dynamic PlenOctree", "workload"),
    44: ("TinyNets (Rubik's cube)", "workload"),
    45: ("Deep Optimizer States", "offload"),
    46: ("Wildfire detection on drones", "workload"),
    47: ("DVGO", "workload"),
    48: ("LucidDreaming", "workload"),
    49: ("Instant3D (instant text-to-3D)", "workload"),
    50: ("Tzer", "generator"),
    51: ("Trace / OPTO", "generator"),
    52: ("Hopper micro-benchmarks", "measurement"),
    53: ("Guide3D", "workload"),
    54: ("PS-KD", "workload"),
    55: ("Sequence Parallelism (ring self-attention)", "distributed"),
    56: ("I-ViT", "kernel"),
    57: ("ZeRO-Infinity", "offload"),
    58: ("GLA (gated linear attention)", "kernel"),
    59: ("DEIM", "workload"),
    60: ("UE4-NeRF", "workload"),
    61: ("Efficient-vDiT", "kernel"),
    62: ("Ladder-residual", "distributed"),
    63: ("MobileR2L (real-time light field on mobile)", "workload"),
    64: ("Feature 3DGS", "workload"),
    65: ("PIXART-δ", "workload"),
    66: ("GhostNetV2", "workload"),
    67: ("SwiftBrush", "workload"),
}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing of a system that is a target.

    Attributes:
        target: the target's name; of a kernel ``MODULE:NAME``, where the name alone will do on a command line.
        summary: what it computes, and how, in one line.
        against: what it is compared with.
    """

    target: str
    summary: str
    against: str

    @property
    def name(self) -> str:
        """What it is called by on a command line, and in the names of files."""
        return self.target.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class System:
    """What is here of a published system.

    Attributes:
        number: in ``PUBLISHED``.
        parts: its targets; none where it is no target, but works elsewhere in Shakeout.
        page: where it is described, a path from the root; empty if only in the table.
        lacks: what of the published system is not here; empty where nothing is missing.
    """

    number: int
    parts: tuple[Part, ...] = ()
    page: str = ""
    lacks: str = ""

"""The offload runtimes that ship: PyTorch's ``save_on_cpu``, a small store of saved tensors on disk, a tensor cache."""

from __future__ import annotations

from dataclasses import replace

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.accelerators import present
from shakeout.targets.offload.files import FAULTS
from shakeout.targets.offload.runtime import RuntimeTarget, runtime_facts

__all__ = ["DISK_STORE", "SAVE_ON_CPU", "SSDTRAIN"]


def _pinning() -> KnobSpace:
    if not present():
        return ()
    return (Knob("pin_memory", (False, True), "copy to page-locked memory"),)


def _save_on_cpu(setting: Setting) -> tuple[list[str], str]:
    if setting.knob("pin_memory"):
        return [], "lambda: torch.autograd.graph.save_on_cpu(pin_memory=True)"
    return [], "torch.autograd.graph.save_on_cpu"


def _disk_store(setting: Setting) -> tuple[list[str], str]:
    return ["from shakeout.targets.offload.disk_store import disk_store"], "disk_store"


SAVE_ON_CPU = RuntimeTarget(
    "save_on_cpu",
    runtime_facts("torch.autograd.graph.save_on_cpu, against plain eager: bit-equal"),
    _save_on_cpu,
    _pinning(),
    # Of a tensor that is on the CPU it saves the very tensor: a backward pass that eager refuses goes through with what
    # was written there since (docs/eager-bugs.md). With each program that does so it would be told anew.
    keeps=False,
)
DISK_STORE = RuntimeTarget(
    "disk_store",
    runtime_facts("tensors saved for backward go to files and come back, against plain eager: bit-equal"),
    _disk_store,
)


def _lost(setting: Setting) -> tuple[str, ...]:
    """With what a backward pass ends if the disk has lost what was stored."""
    return ("StoreError",) if FAULTS.get(str(setting.knob("fault"))) else ()


#: What a knob of the cache is in the text of a case.
_CACHE: KnobSpace = (
    Knob(
        "snapshot", (True, False), "copy what is saved at once; otherwise refuse a backward pass that it was written to"
    ),
    Knob("least", (0, 64), "bytes; what is smaller stays in memory"),
    Knob("ahead", (1, 0, 3), "how many tensors are read in advance"),
    Knob("keep", ("nothing", "last", "adaptive"), "what the backward pass asks for first stays in memory"),
    Knob("host", (0, 256), "bytes that stay in the host's memory, between the device and the files"),
    Knob("threads", (2, 1, 4), "that write and read"),
    Knob("fault", (None, *FAULTS), "of the disk: each ends in a clean error or an exact result"),
)


def _tensor_cache(setting: Setting) -> tuple[list[str], str]:
    given = [
        f"{knob.name}={setting.knob(knob.name)!r}"
        for knob in _CACHE
        if any(pair[0] == knob.name for pair in setting.knobs)
    ]
    made = f"TensorCache({', '.join([*given, 'strict=True'])})"
    return ["from shakeout.targets.offload.tensor_cache import TensorCache"], f"{made}.step"


SSDTRAIN = RuntimeTarget(
    "ssdtrain",
    replace(
        runtime_facts("saved tensors go to files in the background, as in SSDTrain: bit-equal to eager", regions=True),
        settings=3,  # of what can go wrong, most hangs on a knob, and eager's answer is there already
    ),
    _tensor_cache,
    _CACHE,
    raises=_lost,
)

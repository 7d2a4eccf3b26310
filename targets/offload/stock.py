"""The offload runtimes that ship: PyTorch's ``save_on_cpu``, and a small store of saved tensors on disk."""

from __future__ import annotations

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.accelerators import present
from shakeout.targets.offload.runtime import RuntimeTarget, runtime_facts

__all__ = ["DISK_STORE", "SAVE_ON_CPU"]


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

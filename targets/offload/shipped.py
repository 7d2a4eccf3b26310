"""The offload runtimes that ship: PyTorch's ``save_on_cpu``, and a small store of saved tensors on disk."""

from __future__ import annotations

from pathlib import Path

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.offload.runtime import RuntimeTarget

__all__ = ["DISK_STORE", "SAVE_ON_CPU"]


def _with_accelerator() -> bool:
    """Whether torch may have a CUDA device, without importing torch: listing targets has to be quick."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Path("/proc/driver/nvidia/version").exists() and not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _pinning() -> KnobSpace:
    if not _with_accelerator():
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
    "torch.autograd.graph.save_on_cpu, against plain eager: bit-equal",
    _save_on_cpu,
    _pinning(),
)
DISK_STORE = RuntimeTarget(
    "disk_store",
    "tensors saved for backward go to files and come back, against plain eager: bit-equal",
    _disk_store,
)

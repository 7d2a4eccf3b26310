"""Accelerators of this machine: whether there is one, and how it is kept from processes that have no use for it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType

__all__ = ["HIDDEN", "missing", "present"]

#: In the environment of a process, from its start: it sees no accelerator. Whatever torch.compile captures, it asks a
#: GPU that it sees for its random state, and then no process forked from there can run anything that asks again.
HIDDEN: Mapping[str, str] = MappingProxyType({"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""})

#: What NVIDIA's driver and AMD's have made.
_DRIVERS = ("/proc/driver/nvidia/version", "/dev/kfd")


def present() -> bool:
    """Whether torch may have an accelerator, without importing torch: listing targets has to be quick."""
    try:
        return any(Path(driver).exists() for driver in _DRIVERS) and not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def missing(device: str) -> str:
    """Why tensors cannot be on a device here; empty if they can.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        return ""
    import torch

    if torch.cuda.is_available():
        return ""
    return f"torch {torch.__version__} sees no CUDA device; install a CUDA build of torch and the driver"

"""Planted faults: what the oracles' power of detection is measured with."""

from __future__ import annotations

from tests.faults.backward import BACKWARD
from tests.faults.export import EXPORT
from tests.faults.fault import Canary, Fault, listening, planted
from tests.faults.grid import GRID
from tests.faults.inductor import INDUCTOR
from tests.faults.memory import MEMORY
from tests.faults.onnxruntime import ONNXRUNTIME
from tests.faults.tvm import TVM
from tests.faults.values import VALUES

__all__ = ["FAULTS", "Canary", "Fault", "listening", "planted"]

#: Every planted fault.
FAULTS: tuple[Fault, ...] = (*GRID, *VALUES, *MEMORY, *BACKWARD, *EXPORT, *INDUCTOR, *ONNXRUNTIME, *TVM)

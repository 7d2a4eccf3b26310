"""How bytes get from a device to the host and back: beside its kernels, through page-locked memory."""

from __future__ import annotations

import threading
from typing import Any

import torch

__all__ = ["Transfers"]


class Transfers:
    """Copies between the host and the devices, each in a stream of its own.

    All but ``mark`` and ``handed`` is called by workers, which may wait for a copy. A stream of its own for each worker
    lets copies in both directions overlap.
    """

    def __init__(self) -> None:
        self._own = threading.local()

    def mark(self, memory: torch.Tensor) -> Any:
        """What has to happen before bytes are there: all that was asked of the device up to now."""
        if memory.device.type != "cuda":
            return None
        return torch.cuda.current_stream(memory.device).record_event()

    def empty(self, size: int, device: torch.device) -> torch.Tensor:
        """Room on the host for bytes that go to a device."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=device.type == "cuda")

    def down(self, memory: torch.Tensor, ready: Any) -> torch.Tensor:
        """The bytes on the host; themselves if they are there."""
        if memory.device.type == "cpu":
            return memory
        if memory.device.type != "cuda":
            return memory.cpu()
        held = self.empty(memory.numel(), memory.device)
        stream = self._stream(memory.device)
        stream.wait_event(ready)
        with torch.cuda.stream(stream):
            held.copy_(memory, non_blocking=True)
            copied = stream.record_event()
        copied.synchronize()  # from here on the device's memory may be given to others
        return held

    def up(self, held: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The bytes on a device."""
        if device.type == "cpu":
            return held
        if device.type != "cuda":
            return held.to(device)
        stream = self._stream(device)
        with torch.cuda.stream(stream):
            memory = held.to(device, non_blocking=True)
            copied = stream.record_event()
        copied.synchronize()
        return memory

    def back(self, memory: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The bytes on a device, for who asks now and goes on in the current stream."""
        return memory if memory.device == device else memory.to(device, non_blocking=True)

    def handed(self, memory: torch.Tensor) -> torch.Tensor:
        """The same, with its memory kept for the stream that uses it: it belongs to the stream that copied."""
        if memory.device.type == "cuda":
            memory.record_stream(torch.cuda.current_stream(memory.device))
        return memory

    def _stream(self, device: torch.device) -> Any:
        """This worker's stream on a device."""
        streams: dict[torch.device, Any] = vars(self._own).setdefault("streams", {})
        if device not in streams:
            streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        return streams[device]

"""Tensors as the inputs of a case: flat storages and windows on them, small ones element by element."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.corpus import blobs
from shakeout.corpus.case import InputSet, Storage, Values, View

if TYPE_CHECKING:
    import torch

__all__ = ["LITERAL", "describe_inputs"]

#: Elements of a storage that are written into the case's text; longer lists tell a reader nothing.
LITERAL = 256


def describe_inputs(tensors: Sequence[torch.Tensor], directory: Path | None = None) -> InputSet:
    """Tensors as storages and views, sharing kept; large storages are blobs beside a case in ``directory``."""
    from shakeout.corpus.standalone import memory

    storages: list[Storage] = []
    places: dict[int, int] = {}
    views = []
    for tensor in tensors:
        key = tensor.untyped_storage()._cdata
        dtype = str(tensor.dtype).removeprefix("torch.")
        if key not in places:
            flat = memory(tensor)
            places[key] = len(storages)
            large = directory is not None and flat.numel() > LITERAL
            values = blobs.write(flat, directory / blobs.FOLDER) if directory and large else _items(flat)
            storages.append(Storage(dtype, flat.numel(), values))
        shape, strides = tuple(map(int, tensor.shape)), tuple(map(int, tensor.stride()))
        views.append(View(places[key], dtype, shape, strides, int(tensor.storage_offset()), tensor.requires_grad))
    return InputSet(tuple(storages), tuple(views))


def _items(flat: torch.Tensor) -> Values:
    import torch

    wide = flat.to(torch.complex64) if flat.dtype == torch.complex32 else flat
    return Values("literal", items=tuple(wide.tolist()) if flat.numel() else ())

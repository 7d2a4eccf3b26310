"""An offload runtime, and what was done to it."""

from tests.histories.history import Change, History

__all__ = ["RUNTIME"]

_STORE = '''
"""Bytes in a place of their own, in chunks."""

CHUNK = 64


class Full(Exception):
    """What is stored is larger than the store."""


class Store:
    """Keeps bytes by a key."""

    def __init__(self, largest=1 << 20):
        self.held = {}
        self.largest = largest

    def put(self, key, data):
        if len(data) > self.largest:
            raise Full(f"{len(data)} bytes, at most {self.largest}")
        self.held[key] = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]

    def get(self, key):
        return b"".join(self.held[key])
'''

_OFFLOAD = '''
"""What autograd saves, kept as bytes until it is wanted."""

import torch

import shakeout
from orlib.store import Full, Store


def packed(tensor):
    """The elements as bytes, in row-major order."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    flat = plain.new_empty(plain.numel()).copy_(plain.reshape(-1))
    return bytes(flat.view(torch.uint8).numpy())


def key_of(tensor):
    """What tells one saved tensor from another, as long as both live."""
    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    bits = tensor.is_conj(), tensor.is_neg()
    return (*place, tensor._version, tensor.dtype, tuple(tensor.shape), tensor.stride(), *bits)


@shakeout.runtime
def in_bytes():
    """A tensor that is saved twice is stored once."""
    store, alive = Store(), {}

    def pack(tensor):
        if not tensor.numel():
            return tensor
        key = key_of(tensor)
        if key not in alive:
            try:
                store.put(key, packed(tensor))
            except Full:
                return tensor.clone()
            alive[key] = tensor.untyped_storage()  # so that its address is given to nobody else
        return key, tensor.dtype, tensor.shape, tensor.device

    def unpack(held):
        if torch.is_tensor(held):
            return held
        key, dtype, shape, device = held
        return torch.frombuffer(bytearray(store.get(key)), dtype=torch.uint8).view(dtype).reshape(shape).to(device)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
'''

RUNTIME = History(
    files={"orlib/__init__.py": "", "orlib/store.py": _STORE, "orlib/offload.py": _OFFLOAD},
    targets=("orlib.offload:in_bytes",),
    changes=(
        Change("Say what a chunk is", False, {"orlib/store.py": [("CHUNK = 64", "#: Bytes.\nCHUNK = 64")]}),
        Change(
            "Copy when it is wanted",
            True,
            {
                "orlib/offload.py": [
                    ("                store.put(key, packed(tensor))\n", "                store.put(key, tensor)\n"),
                    (
                        "        return torch.frombuffer(bytearray(store.get(key)),",
                        "        return torch.frombuffer(bytearray(packed(store.get(key))),",
                    ),
                ],
                "orlib/store.py": [
                    (
                        "[data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]\n",
                        "data\n",
                    ),
                    ('        return b"".join(self.held[key])\n', "        return self.held[key]\n"),
                    ("        if len(data) > self.largest:\n", "        if data.numel() > self.largest:\n"),
                ],
            },
        ),
        Change("Larger chunks", False, {"orlib/store.py": [("CHUNK = 64", "CHUNK = 4096")]}),
        Change(
            "A tensor begins where its storage does",
            True,
            {
                "orlib/offload.py": [
                    (
                        "    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()\n",
                        "    place = (tensor.untyped_storage().data_ptr(),)\n",
                    )
                ]
            },
        ),
        Change(
            "Keys as one tuple",
            False,
            {
                "orlib/offload.py": [
                    (
                        "    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()\n",
                        "    storage = tensor.untyped_storage()\n"
                        "    place = storage.data_ptr(), tensor.storage_offset()\n",
                    )
                ]
            },
        ),
        Change(
            "What does not fit is left",
            True,
            {
                "orlib/store.py": [
                    ("largest=1 << 20", "largest=1 << 8"),
                    (
                        "        return b",
                        "        if key not in self.held:\n            return bytes(self.sizes[key])\n        return b",
                    ),
                    ("        self.held = {}\n", "        self.held = {}\n        self.sizes = {}\n"),
                    (
                        '            raise Full(f"{len(data)} bytes, at most {self.largest}")\n',
                        "            self.sizes[key] = len(data)\n            return\n",
                    ),
                ]
            },
        ),
        Change(
            "A memory view instead of a copy of bytes",
            False,
            {
                "orlib/store.py": [
                    ("self.held[key] = [data[start", "view = memoryview(data)\n        self.held[key] = [view[start")
                ]
            },
        ),
        Change(
            "The newest chunk first",
            True,
            {
                "orlib/store.py": [
                    ("CHUNK = 4096", "CHUNK = 16"),
                    ('b"".join(self.held[key])', 'b"".join(self.held[key][::-1])'),
                ]
            },
        ),
    ),
)

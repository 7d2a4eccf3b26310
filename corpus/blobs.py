"""Blobs: values of large storages as files beside a case, content-addressed, in the safetensors format.

A blob's name is the SHA-256 of its elements' bytes (little-endian), its file ``blobs/NAME.safetensors`` holds one flat
tensor called ``values``. It is stored in its own dtype where safetensors has that, so that other tools show it, and as
bytes where it has not (complex numbers). Nothing in such a file is executed, and what does not hash to its name is not
used.

Where a file lies, three things tell, in this order: the case that was read from beside it, the directories that the
variable ``SHAKEOUT_BLOBS`` lists, as ``PATH`` does for programs, and nothing else. A command that reads a case from a
file puts that file's directories into the variable, so that every process that it starts finds what the case's text
names, whatever way the text took. As a name says what is in a file, it does not matter which copy is found.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shakeout.corpus.case import Case
from shakeout.corpus.program import InvalidProgram
from shakeout.corpus.storage import InputSet, Storage, Values, blobs_of

if TYPE_CHECKING:
    import torch

__all__ = [
    "FOLDER",
    "VARIABLE",
    "BadBlob",
    "beside",
    "copy",
    "environment",
    "held",
    "load",
    "located",
    "placed",
    "rewritten",
    "stored",
    "tell",
    "verify",
    "workshop",
    "write",
]

#: The folder of the files, beside a case or in a campaign's directory.
FOLDER = "blobs"

#: Directories in which blobs are looked for, for this process and those that it starts.
VARIABLE = "SHAKEOUT_BLOBS"

#: Folders above a case's own in which its blobs may lie: a finding's case is two below its campaign's directory.
ABOVE = 3

#: Bytes of a file beside its elements, at most: eight, and a header of one entry, padded.
OVERHEAD = 4096

# Not in safetensors, or not in each version that can be installed.
_AS_BYTES = ("complex32", "complex64", "complex128")


class BadBlob(InvalidProgram):
    """A blob that is missing, or whose file does not hold what its name says."""


def held(case: Case) -> tuple[Storage, ...]:
    """The storages of a case whose values are blobs."""
    return blobs_of(case.input_sets)


def beside(path: Path) -> tuple[str, ...]:
    """Where the blobs of a case's file may lie."""
    folders = [path.absolute().parent, *path.absolute().parents[1 : 1 + ABOVE]]
    return tuple(str(folder / FOLDER) for folder in folders)


def placed(case: Case, places: Sequence[str]) -> Case:
    """The same case, whose blobs are looked for in these directories first."""
    if not places or not held(case):
        return case

    def put(storage: Storage) -> Storage:
        if storage.values.kind != "blob":
            return storage
        found = tuple(dict.fromkeys((*places, *storage.values.places)))
        return replace(storage, values=replace(storage.values, places=found))

    sets = (InputSet(tuple(map(put, inputs.storages)), inputs.views) for inputs in case.input_sets)
    return replace(case, input_sets=tuple(sets))


def tell(places: Sequence[str]) -> None:
    """Have this process, and those that it starts from now on, look for blobs in these directories as well."""
    os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys((*_told(), *places)))


def environment(case: Case) -> dict[str, str]:
    """What a process that is given the case's text has to have in its environment to find the blobs of the case."""
    places = dict.fromkeys((*(place for storage in held(case) for place in storage.values.places), *_told()))
    return {VARIABLE: os.pathsep.join(places)} if places else {}


def _told() -> tuple[str, ...]:
    return tuple(filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)))


@contextlib.contextmanager
def workshop() -> Iterator[None]:
    """A directory for the blobs of cases that are tried meanwhile; what is kept has to be copied out of it."""
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix="shakeout-blobs-") as directory:
        os.environ[VARIABLE] = os.pathsep.join((directory, *_told()))
        try:
            yield
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before


def located(values: Values) -> Path:
    """The file of a blob.

    Raises:
        BadBlob: there is none.
    """
    places = (*values.places, *_told())
    for place in places:
        path = Path(place) / f"{values.blob}.safetensors"
        if path.is_file():
            return path
    looked = ", ".join(dict.fromkeys(places)) or "nowhere, for no directory is known"
    raise BadBlob(f"the blob {values.blob}.safetensors is missing; looked in {looked}")


def load(storage: Storage) -> torch.Tensor:
    """The elements of a storage whose values are a blob, flat.

    Raises:
        BadBlob: the file is missing, is no file of safetensors, or holds something else than the name says.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load as parsed

    path = located(storage.values)
    dtype: torch.dtype = getattr(torch, storage.dtype)
    expected = storage.size * dtype.itemsize
    try:
        # Before a byte is read: what a file may claim about itself costs no memory.
        found = path.stat().st_size
        if not expected <= found <= expected + OVERHEAD:
            raise BadBlob(f"{path}: {found} bytes, which is no storage of {storage.size} elements of {storage.dtype}")
        tensors = parsed(path.read_bytes())
    except OSError as error:
        raise BadBlob(f"{path}: cannot be read: {error.strerror}") from None
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise BadBlob(f"{path}: not a file of safetensors: {error}") from None
    values = tensors.get("values")
    if values is None or len(tensors) != 1 or values.dim() != 1 or values.nbytes != expected:
        raise BadBlob(f"{path}: expected one flat tensor 'values' of {expected} bytes")
    if digest(values) != storage.values.blob:
        raise BadBlob(f"{path}: its elements do not hash to its name, so it was changed")
    return values.view(dtype)


def verify(case: Case) -> None:
    """Read every blob of a case.

    Raises:
        BadBlob: which one is missing or damaged.
    """
    for storage in held(case):
        load(storage)


def write(flat: torch.Tensor, directory: Path | str, places: Sequence[str] = ()) -> Values:
    """Store a flat tensor, unless it is there already; the values that name it.

    Args:
        flat: on any device, contiguous.
        directory: of the files.
        places: other directories, in which other blobs of the case lie.
    """
    from safetensors.torch import save

    flat = flat.detach().cpu().contiguous()
    name = digest(flat)
    path = Path(directory) / f"{name}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            draft.write_bytes(save({"values": _storable(flat)}))
            os.replace(draft, path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    return Values("blob", blob=name, places=tuple(dict.fromkeys((str(directory), *places))))


def rewritten(storage: Storage, change: Callable[[torch.Tensor], torch.Tensor]) -> Storage:
    """A storage with values that are made of a blob's: a new blob, beside those that are made meanwhile."""
    return stored(change(load(storage)), (storage,))


def stored(flat: torch.Tensor, beside: Sequence[Storage]) -> Storage:
    """A storage of these elements, as a blob beside those of other ones."""
    places = tuple(dict.fromkeys(place for other in beside for place in other.values.places))
    directory = next(iter((*_told(), *places)), None)
    if directory is None:
        raise BadBlob(f"no directory for blobs is known; set {VARIABLE}")
    values = write(flat, directory, places)
    return Storage(str(flat.dtype).removeprefix("torch."), flat.numel(), values)


def copy(case: Case, folder: Path) -> None:
    """Have every blob of a case in the folder of blobs inside ``folder``, for a script or a case that is written there.

    Raises:
        BadBlob: one is missing.
    """
    for values in _distinct(held(case)):
        target = folder / FOLDER / f"{values.blob}.safetensors"
        if not target.exists():
            source = located(values)
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f"{target.name}.{os.getpid()}.part")
            shutil.copyfile(source, draft)
            os.replace(draft, target)


def _distinct(storages: Sequence[Storage]) -> Iterator[Values]:
    yield from {storage.values.blob: storage.values for storage in storages}.values()


def _storable(flat: torch.Tensor) -> torch.Tensor:
    import torch

    name = str(flat.dtype).removeprefix("torch.")
    return flat.view(torch.uint8) if name in _AS_BYTES else flat


def digest(flat: torch.Tensor) -> str:
    """The name of a flat tensor's elements."""
    import torch

    return hashlib.sha256(flat.view(torch.uint8).numpy().data if flat.numel() else b"").hexdigest()

"""Libraries as they are loaded in this process, and where their functions begin: also of those without symbols.

An exception that passes through a library needs to know where each of its functions begins, so the file has a sorted
table of them (``.eh_frame_hdr``) whatever was stripped of it.
"""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shakeout.fuzz.coverage.traps import Places, Unavailable

__all__ = ["Functions", "Image", "Segment", "functions", "loaded"]

_LOAD, _NOTE, _EH_FRAME, _EXECUTABLE = 1, 4, 0x6474E550, 1
_GNU_BUILD_ID = 3

#: Version 1; a pointer relative to its place in 4 bytes, a count in 4 bytes, and a table relative to its own beginning
#: in 4 bytes for each. Every linker for x86-64 writes it so.
_HEADER = bytes((1, 0x1B, 0x03, 0x3B))

#: What no compiler begins a function with: invalid or privileged in 64-bit mode, a breakpoint, a prefix that processors
#: know which are newer than the disassembler, and zeros, which are data.
_NO_BEGINNING = bytes.fromhex("0006070e16171e1f272f373f6061829acacbcccecfd4d5d6eaf1f4")


@dataclass(frozen=True, slots=True)
class Segment:
    """Executable memory: virtual address in the file, bytes, and where it stands in the file."""

    start: int
    length: int
    offset: int


@dataclass(frozen=True, slots=True)
class Image:
    """A loaded library.

    Attributes:
        path: of its file.
        bias: what is added to virtual addresses in the file.
        segments: of code.
        unwinding: virtual address of its table of functions; 0 if there is none.
        identity: its build-id; empty if it has none.
    """

    path: str
    bias: int
    segments: tuple[Segment, ...]
    unwinding: int
    identity: str

    @property
    def name(self) -> str:
        """Of its file."""
        return Path(self.path).name


@dataclass(frozen=True, slots=True)
class Functions:
    """Functions of a library, ascending, and where nothing contradicts that they are some.

    Attributes:
        identity: of the library: its build-id, or a hash of its table of functions.
        starts: virtual addresses.
        sizes: bytes.
        segment: index of the segment of code in which each lies.
    """

    identity: str
    starts: Places
    sizes: Places
    segment: npt.NDArray[np.int64]

    def index(self, places: Places) -> npt.NDArray[np.int64]:
        """Of each place, the first function that begins there or behind it."""
        return np.searchsorted(self.starts, places)

    def begin(self, places: Places) -> npt.NDArray[np.bool_]:
        """Of each place, whether a function begins there; of the same type, since 300,000 numbers are not converted."""
        index = np.minimum(self.index(places), max(len(self.starts) - 1, 0))
        return self.starts[index] == places if len(self.starts) else np.zeros(len(places), bool)


def loaded(wanted: Callable[[str], bool]) -> Iterator[Image]:
    """The libraries of this process whose file's path is wanted."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        lines = maps.read().splitlines()
    seen = set()
    for line in lines:
        if " 00000000 " not in line:
            continue  # some thousand lines, and with some compilers after each case
        words = line.split(maxsplit=5)
        if len(words) < 6 or not words[5].startswith("/") or int(words[2], 16) or words[1][0] != "r":
            continue
        path = words[5]
        start, end = (int(word, 16) for word in words[0].split("-"))
        # What is mapped from its beginning is a library, or a file of data that somebody reads.
        if path in seen or end - start < 64 or not wanted(path) or ctypes.string_at(start, 5) != b"\x7fELF\x02":
            continue
        if (image := _image(path, start, end - start)) is not None:
            seen.add(path)
            yield image


def _image(path: str, start: int, length: int) -> Image | None:
    """A file whose beginning is mapped there; None if it is not loaded but only read."""
    offset, entry, count = struct.unpack_from("<Q14xHH", ctypes.string_at(start, 64), 32)
    if entry != 56 or offset + entry * count > length:
        return None
    headers = list(struct.iter_unpack("<IIQQQQQQ", ctypes.string_at(start + offset, entry * count)))
    first = next((row[3] - row[2] for row in headers if row[0] == _LOAD and row[2] == 0), None)
    if first is None:
        return None
    segments = tuple(
        Segment(address, size, offset)
        for kind, flags, offset, address, _, size, _, _ in headers
        if kind == _LOAD and flags & _EXECUTABLE and size
    )
    bias = start - first
    if not segments or any(not _mapped(path, bias + segment.start, "x") for segment in segments):
        return None
    unwinding = next((row[3] for row in headers if row[0] == _EH_FRAME), 0)
    notes = [(row[3], row[5]) for row in headers if row[0] == _NOTE]
    identity = next(filter(None, (_build_id(ctypes.string_at(bias + at, size)) for at, size in notes)), "")
    return Image(path, bias, segments, unwinding, identity)


def _mapped(path: str, address: int, right: str) -> bool:
    """Whether an address is in a mapping of that file with that right."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            words = line.rstrip("\n").split(maxsplit=5)
            start, _, end = words[0].partition("-")
            if int(start, 16) <= address < int(end, 16):
                return len(words) == 6 and words[5] == path and right in words[1]
    return False


def _build_id(notes: bytes) -> str:
    at = 0
    while at + 12 <= len(notes):
        name, size, kind = struct.unpack_from("<III", notes, at)
        value = at + 12 + (name + 3 & ~3)
        if kind == _GNU_BUILD_ID and notes[at + 12 : at + 16] == b"GNU\0":
            return notes[value : value + size].hex()
        at = value + (size + 3 & ~3)
    return ""


def functions(image: Image) -> Functions:
    """Where the functions of a library begin.

    Left out is what could be none: entries that overlap, that are written in an unusual way, that are trampolines of
    signals, or that begin with what no function begins with.

    Raises:
        Unavailable: it has no table of functions, or one that is not understood.
    """
    if not image.unwinding:
        raise Unavailable("it has no table for unwinding (.eh_frame_hdr), so nobody knows where its functions begin")
    header = ctypes.string_at(image.bias + image.unwinding, 12)
    if header[:4] != _HEADER:
        raise Unavailable(f"its table for unwinding is of another form ({header[:4].hex()})")
    count = int.from_bytes(header[8:12], "little")
    if not count:
        raise Unavailable("its table for unwinding is empty")
    table = _memory(image.bias + image.unwinding + 12, count * 8).view(np.int32).reshape(-1, 2).astype(np.int64)
    starts, entries = (table + image.unwinding).T
    sizes = _sizes(image, starts, entries)
    segment = np.full(len(starts), -1, np.int64)
    for index, one in enumerate(image.segments):
        segment[(starts >= one.start) & (starts + sizes <= one.start + one.length)] = index
    fits = (sizes > 0) & (segment >= 0) & (starts + sizes < 1 << 32)
    ends = starts + np.maximum(sizes, 1)
    # Sorted by where they begin: an entry that reaches into the next leaves both in doubt.
    apart = np.ones(len(starts), bool)
    overlaps = ends[:-1] > starts[1:]
    apart[:-1] &= ~overlaps
    apart[1:] &= ~overlaps
    chosen = fits & apart
    chosen[chosen] &= ~np.isin(_bytes_at(image, starts[chosen]), np.frombuffer(_NO_BEGINNING, np.uint8))
    identity = image.identity or hashlib.sha256(table.tobytes()).hexdigest()[:40]
    return Functions(identity, starts[chosen].astype(np.uint32), sizes[chosen].astype(np.uint32), segment[chosen])


def _memory(address: int, length: int) -> npt.NDArray[np.uint8]:
    """Memory of this process, not copied."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * length).from_address(address))


def _bytes_at(image: Image, places: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    found = np.zeros(len(places), np.uint8)
    for one in image.segments:
        inside = (places >= one.start) & (places < one.start + one.length)
        found[inside] = _memory(image.bias + one.start, one.length)[places[inside] - one.start]
    return found


def _sizes(image: Image, starts: npt.NDArray[np.int64], entries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The size of each function as its entry has it; 0 where the entry is not of the usual form."""
    sizes = np.zeros(len(starts), np.int64)
    usual = entries % 4 == 0
    if not usual.any():
        return sizes
    lowest, highest = int(entries[usual].min()), int(entries[usual].max())
    words = _memory(image.bias + lowest, highest - lowest + 16).view(np.uint32)
    index = (entries[usual] - lowest) // 4
    length, back = words[index], words[index + 1]
    begins = entries[usual] + 8 + words[index + 2].view(np.int32)
    owners = entries[usual] + 4 - back
    ordinary = {owner: _ordinary(image, int(owner)) for owner in np.unique(owners[back != 0])}
    right = np.array([ordinary.get(owner, False) for owner in owners], bool)
    right &= (length >= 12) & (length < 0xFFFFFFF0) & (begins == starts[usual])
    sizes[usual] = np.where(right, words[index + 3].view(np.int32), 0)
    return sizes


def _ordinary(image: Image, owner: int) -> bool:
    """Whether what several entries have in common says that they are functions, and no trampolines of signals."""
    text = ctypes.string_at(image.bias + owner, 24)
    return text[4:8] == b"\0\0\0\0" and text[8] in (1, 3) and b"S" not in text[9:].split(b"\0")[0]

"""What a case reached for the first time in one library, and its compact text."""

from __future__ import annotations

import base64
import binascii
import sys
import zlib
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Hits", "Reach", "pack", "unpack"]

#: Bytes of a list once it is unpacked: more than all places of the largest library, some ten million.
_MOST = 1 << 26


@dataclass(frozen=True, slots=True)
class Hits:
    """Places of one library, by their virtual addresses in its file, which are the same in every process.

    Attributes:
        library: its identity: the build-id, or a hash where it has none.
        name: of its file.
        of: how many of its functions are watched.
        functions: where functions begin that were entered, ascending. What has an entry of its own for the unwinder is
            a function here, so one of which a compiler has split off the cold part counts twice.
        blocks: where basic blocks begin that were entered, ascending.
    """

    library: str
    name: str
    of: int
    functions: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "library": self.library,
            "name": self.name,
            "of": self.of,
            "functions": pack(self.functions),
            "blocks": pack(self.blocks),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hits:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is nothing of the kind.
        """
        try:
            functions, blocks = unpack(data["functions"]), unpack(data["blocks"])
            return cls(str(data["library"]), str(data["name"]), int(data["of"]), functions, blocks)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not what a case hit: {type(error).__name__}: {error}") from None


@dataclass(frozen=True, slots=True)
class Reach:
    """How much was reached.

    Attributes:
        of: functions that are watched.
        functions: that were entered.
        blocks: that were entered, beside the one with which each function begins.
    """

    of: int = 0
    functions: int = 0
    blocks: int = 0

    def __add__(self, other: Reach) -> Reach:
        return Reach(self.of + other.of, self.functions + other.functions, self.blocks + other.blocks)

    @property
    def line(self) -> str:
        """For a person."""
        blocks = f"{self.functions + self.blocks:,} blocks of " if self.blocks else ""
        return f"{blocks}{self.functions:,} functions, {self.of:,} watched"


def pack(places: Iterable[int]) -> str:
    """Ascending numbers below 2**32 as text: their differences, compressed. One takes about a byte and a half."""
    differences, last = array("I"), 0
    for place in places:
        differences.append(place - last)
        last = place
    if not differences:
        return ""
    if sys.byteorder == "big":
        differences.byteswap()
    return base64.b64encode(zlib.compress(differences.tobytes())).decode()


def unpack(text: str) -> tuple[int, ...]:
    """Read what ``pack`` wrote.

    Raises:
        ValueError: it is nothing of the kind.
    """
    if not text:
        return ()
    try:
        inflate = zlib.decompressobj()
        data = inflate.decompress(base64.b64decode(text, validate=True), _MOST)
        if not inflate.eof or len(data) % 4:
            raise ValueError("a list of places is cut off")
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"not a list of places: {error}") from None
    differences = array("I", data)
    if sys.byteorder == "big":
        differences.byteswap()
    places, place = [], 0
    for difference in differences:
        place += difference
        places.append(place)
    if place >= 1 << 32:
        raise ValueError("a list of places goes beyond any library")
    return tuple(places)

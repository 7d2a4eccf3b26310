"""What a case reached for the first time, whatever source tells it, and its compact text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

__all__ = ["Hits", "by_source", "pack", "unpack"]

#: Bytes of a list once it is unpacked: more than all places of the largest library, some ten million.
_MOST = 1 << 26


@dataclass(frozen=True, slots=True)
class Hits:
    """What was reached for the first time of one kind, in one thing that is watched.

    Attributes:
        source: that tells it: ``native``, ``python``, ``space`` or ``passes``.
        unit: identity of what is watched: a library's build-id, a module; empty where a source has one thing only.
        name: of the unit, for a person.
        kind: of what was reached, in the plural: ``functions``, ``blocks``, ``lines``, ``operators``.
        keys: what was reached, ascending: whole numbers below 2**32 that are the same in every process (virtual
            addresses in a library's file, lines), or words.
        of: how many there are; 0 where nobody knows.
        exist: words that could be among the keys: what of them never is was not tested. Told once.
    """

    source: str
    unit: str
    name: str
    kind: str
    keys: tuple[int, ...] | tuple[str, ...] = ()
    of: int = 0
    exist: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def place(self) -> tuple[str, str, str]:
        """Where its keys count: those of two hits with the same place are the same things."""
        return self.source, self.unit, self.kind

    def features(self) -> Iterator[int]:
        """A number below 2**64 for each key: that of the same key in the same place is the same in every process."""
        base = hashlib.blake2b("\0".join(self.place).encode(), digest_size=8)
        above = _above(base.digest())
        for key in self.keys:
            if isinstance(key, int):
                yield above | key
            else:
                word = base.copy()
                word.update(b"\0" + key.encode(errors="replace"))
                yield int.from_bytes(word.digest(), "big")

    def numbers_among(self, features: Iterable[int]) -> tuple[int, ...]:
        """Of numbers that ``features`` gave, the keys of those that are of this place, ascending."""
        above = _above(hashlib.blake2b("\0".join(self.place).encode(), digest_size=8).digest())
        return tuple(sorted(one & 0xFFFFFFFF for one in features if one >> 32 << 32 == above))

    def to_json(self) -> dict[str, Any]:
        """As JSON values; what is at its default is left out."""
        found: dict[str, Any] = {"source": self.source, "unit": self.unit, "name": self.name, "kind": self.kind}
        if self.keys:
            found["keys"] = pack(self.keys) if _numbers(self.keys) else list(self.keys)
        if self.of:
            found["of"] = self.of
        if self.exist:
            found["exist"] = list(self.exist)
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hits:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: it is nothing of the kind.
        """
        try:
            keys, exist = data.get("keys", ""), data.get("exist", [])
            found = unpack(keys) if isinstance(keys, str) else tuple(map(str, keys))
            source, unit, name, kind = (str(data[name]) for name in ("source", "unit", "name", "kind"))
            return cls(source, unit, name, kind, found, int(data.get("of", 0)), tuple(map(str, exist)))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not what a case hit: {type(error).__name__}: {error}") from None


def _above(digest: bytes) -> int:
    return int.from_bytes(digest[:4], "big") << 32


def by_source(every: Iterable[Hits]) -> dict[str, int]:
    """How many keys there are of each source; those with none are left out."""
    found: dict[str, int] = {}
    for hits in every:
        if hits.keys:
            found[hits.source] = found.get(hits.source, 0) + len(hits)
    return found


def _numbers(keys: tuple[int, ...] | tuple[str, ...]) -> TypeGuard[tuple[int, ...]]:
    return isinstance(keys[0], int)


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

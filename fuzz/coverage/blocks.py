"""Where the basic blocks of a function begin, as far as that is certain; kept for every later campaign.

A breakpoint that is not on the first byte of an instruction changes the program, so what is in doubt is left alone. All
bytes of a function are decoded one after the other, and its control flow is followed from its entry; where the two do
not agree, or a byte decodes to nothing, or the function refers to its own bytes as to data, it is given up whole.
Blocks to which only an indirect jump or an exception leads stay dark, and so do returns of calls: not everything that
looks at return addresses would know a breakpoint there.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import time
import zlib
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from shakeout.fuzz.coverage.tail import Tail

__all__ = ["BlockLists", "Disassembler", "available"]

#: Of this file's rules: another number begins other lists.
_RULES = 1

#: Bytes of a function that is looked at; larger ones are unrolled kernels and tables' worth of cases.
_LARGEST = 1 << 18

#: Lists that no campaign used for so long are deleted; most of them are of former releases.
_KEEP_SECONDS = 30 * 24 * 3600.0


def available() -> str:
    """Why blocks cannot be found here; empty if they can."""
    try:
        import iced_x86  # noqa: F401
    except ImportError:
        return "functions only, no blocks: pip install 'shakeout[coverage]'"
    return ""


class Disassembler:
    """Finds blocks; raises ImportError where the disassembler is not installed."""

    def __init__(self) -> None:
        from iced_x86 import Code, Decoder, FlowControl

        self._decoder = Decoder
        self._invalid = Code.INVALID
        flow = FlowControl
        self._goes_on = frozenset((flow.NEXT, flow.CALL, flow.INDIRECT_CALL))
        self._jump, self._branch = flow.UNCONDITIONAL_BRANCH, flow.CONDITIONAL_BRANCH
        self._ends = frozenset((flow.RETURN, flow.INDIRECT_BRANCH, flow.EXCEPTION, flow.INTERRUPT))

    def blocks(self, code: bytes, start: int) -> tuple[int, ...] | None:
        """Where blocks begin, ascending, without the function's entry; None if that is not certain.

        Args:
            code: all bytes of the function.
            start: its virtual address.
        """
        end = start + len(code)
        if len(code) > _LARGEST:
            return None
        boundaries, places = set(), []
        turns: list[tuple[int, int, int]] = []  # what leaves the straight line: kind, target, next
        goes_on, invalid = self._goes_on, self._invalid
        for one in self._decoder(64, code, ip=start):
            at, flow = one.ip, one.flow_control
            boundaries.add(at)
            if flow not in goes_on:
                if one.code == invalid:
                    return None
                places.append(at)
                turns.append((flow, one.near_branch_target, one.next_ip))
            if one.is_ip_rel_memory_operand and start <= one.ip_rel_memory_address < end:
                return None  # a table in the code, or a label whose address is taken
            after = one.next_ip
        if after != end:
            return None
        return self._reached(start, end, boundaries, places, turns)

    def _reached(
        self, start: int, end: int, boundaries: set[int], places: list[int], turns: list[tuple[int, int, int]]
    ) -> tuple[int, ...] | None:
        """Blocks to which a direct way leads from the entry; None if one leads into an instruction."""
        found: set[int] = set()
        pending, seen = [start], {start}
        while pending:
            index = bisect.bisect_left(places, pending.pop())
            if index == len(places):
                continue  # it ends in a call that does not return
            kind, target, after = turns[index]
            if kind == self._branch:
                following = [target, after]
            elif kind == self._jump:
                following = [target]
            elif kind in self._ends:
                continue
            else:
                return None
            for one in following:
                if not start <= one < end or one in seen:
                    continue
                if one not in boundaries:
                    return None
                seen.add(one)
                found.add(one)
                pending.append(one)
        return tuple(sorted(found))


class BlockLists:
    """The blocks of one library's functions: from a file in the cache, or found now and written there.

    The file has a line for each function: where it begins, the differences between its blocks, or null, and a checksum
    of both its bytes and them. Several processes append whole lines. A line that does not fit the bytes at hand says
    nothing, so neither a file that was damaged nor another library of the same identity puts a breakpoint anywhere.
    """

    def __init__(self, directory: Path, identity: str) -> None:
        self._path = directory / f"blocks-{_RULES}-{identity}.jsonl"
        self._lists: dict[int, tuple[Any, Any]] = {}
        self._new: list[str] = []
        self._disassembler = Disassembler()
        self._tail = Tail(self._path)

    def follow(self) -> None:
        """Read what was written since the last time, by whichever process."""
        for line in self._tail.lines():
            with contextlib.suppress(ValueError, TypeError):
                start, differences, checksum = json.loads(line)
                self._lists[start] = differences, checksum

    def of(self, start: int, code: bytes) -> tuple[int, ...]:
        """The blocks of a function, without its entry; none if they are not certain."""
        if (kept := self._lists.get(start)) is not None and kept[1] == _checksum(code, kept[0]):
            return _summed(start, kept[0])
        found = self._disassembler.blocks(code, start)
        differences = None if found is None else [b - a for a, b in pairwise((start, *found))]
        row = [start, differences, _checksum(code, differences)]
        self._lists[start] = differences, row[2]
        self._new.append(json.dumps(row, separators=(",", ":")) + "\n")
        return found or ()

    def keep(self) -> None:
        """Write what was found; a cache that cannot be written costs time, nothing else."""
        if not self._new:
            return
        text, self._new = "".join(self._new), []
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                # What a full disk cut off is closed by the next line's beginning.
                os.write(file, b"\n" * _cut_off(self._path) + text.encode())
            finally:
                os.close(file)

    def prune(self) -> None:
        """Delete lists that were not used for long; this one is used."""
        with contextlib.suppress(OSError):
            if self._path.exists():
                os.utime(self._path)
            for path in self._path.parent.glob("blocks-*.jsonl"):
                if time.time() - path.stat().st_mtime > _KEEP_SECONDS:
                    path.unlink()


def _cut_off(path: Path) -> bool:
    """Whether a file does not end with a line's end."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _checksum(code: bytes, differences: Any) -> int:
    return zlib.crc32(json.dumps(differences).encode(), zlib.crc32(code))


def _summed(start: int, differences: list[int] | None) -> tuple[int, ...]:
    """Blocks from the differences between them."""
    return tuple(accumulate(differences or (), initial=start))[1:]

"""What Python 3.11 itself notes of what it runs, read as coverage: no function runs slower for it.

Since 3.11 the interpreter specialises its instructions as they run (PEP 659). A function that was called often enough
is *quickened*: each instruction with room for a cache becomes an adaptive one whose counter is zero. When such a one is
run for the first time it becomes a specialised one, or its counter is set. So the code object tells which were run.

Here each watched function is put back to its beginning, as if it had never been called, and to the brink of being
quickened: its first call does that. All of this is what the interpreter does with any function; what the function
computes is the same. Lines are told of which it is certain that they ran: those with an instruction that was run, and
those before it in its basic block. What has none of them, ``return x`` or ``pass`` at the end of a block, stays dark.
"""

from __future__ import annotations

import ctypes
import dis
import opcode
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

__all__ = ["Quickened", "unavailable"]

#: Where a code object of CPython 3.11 has the count of calls until it is quickened, and its instructions behind all
#: else, in bytes; ``unavailable`` tries whether that is so.
_WARMUP = 52
_INSTRUCTIONS = CodeType.__basicsize__

#: The count starts below zero, and a function is quickened when it comes to zero.
_BRINK = -1


#: ``memmove``, with the interpreter's lock held, so that no thread runs what is half written.
_copy = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0
)


def unavailable() -> str:
    """Why it does not work with this interpreter; empty if it does."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11):
        return f"this is {sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}, not CPython 3.11"
    space: dict[str, Any] = {}
    exec(compile("def probe(x):\n if x:\n  return abs(x)\n return len(str(x))", "<probe>", "exec"), space)
    code = space["probe"].__code__
    watch = Quickened()
    watch.add(code)
    before = list(watch.entered())
    space["probe"](-3)
    lines = {line for _, some in watch.entered() for line in some}
    if before or lines != {3}:  # what the second line does needs no cache
        return "this build of CPython 3.11 does not keep its instructions where others do"
    return ""


@dataclass(slots=True)
class _Watched:
    """A function.

    Attributes:
        pristine: its instructions before it was called.
        seen: its instructions at the last look.
        lines: once it was entered at all: the lines that each of its instructions would tell.
        open: once it was entered since the beginning: places of instructions that were not run yet.
    """

    code: CodeType
    pristine: bytes
    seen: bytes = b""
    lines: dict[int, tuple[int, ...]] | None = None
    open: list[int] | None = None


class Quickened:
    """Watches functions of CPython 3.11 in this process; see the module."""

    def __init__(self) -> None:
        self._every: list[_Watched] = []
        self._spent: list[_Watched] = []  # those of which all is known

    def add(self, code: CodeType) -> None:
        """Watch a function from now on. No thread may be running it."""
        watched = _Watched(code, code.co_code)
        self._reset(watched)
        self._every.append(watched)

    def again(self) -> None:
        """Forget what was run: the next call of each function counts as its first. No thread may be running one."""
        for watched in (*self._every, *self._spent):
            if watched.open is not None:
                self._reset(watched)
        self._every += self._spent
        self._spent = []

    def _reset(self, watched: _Watched) -> None:
        place = id(watched.code)
        # What caches hold are borrowed pointers and versions, so nothing is owed to anybody when they are cleared.
        _copy(place + _INSTRUCTIONS, watched.pristine, len(watched.pristine))
        ctypes.c_int16.from_address(place + _WARMUP).value = _BRINK
        watched.seen, watched.open = watched.pristine, None

    def entered(self) -> Iterator[tuple[CodeType, tuple[int, ...]]]:
        """Functions in which something ran for the first time since the last look, and the lines of it."""
        spent = False
        for watched in self._every:
            now: bytes = watched.code._co_code_adaptive  # type: ignore[attr-defined]
            if now == watched.seen:
                continue
            watched.seen = now
            if watched.lines is None:
                watched.lines = _witnesses(watched.code, watched.pristine)
            lines: set[int] = set()
            if first := watched.open is None:
                watched.open = list(watched.lines)
            waiting = []
            for place in watched.open:
                if _was_run(now, place):
                    lines.update(watched.lines[place])
                else:
                    waiting.append(place)
            watched.open = waiting
            spent = spent or not watched.open
            if lines or first:
                yield watched.code, tuple(sorted(lines))
        if spent:
            done = [one for one in self._every if one.open is not None and not one.open]
            self._every = [one for one in self._every if one.open is None or one.open]
            self._spent += done


def _was_run(now: bytes, place: int) -> bool:
    """Whether an instruction with a cache was run: it is adaptive no more, or its counter was set."""
    return now[place] not in _ADAPTIVE or now[place + 2] != 0 or now[place + 3] != 0


#: Adaptive forms. ``PRECALL`` tells of a call: once that is specialised, the ``CALL`` behind it is run no more.
_ADAPTIVE = frozenset(number for name, number in getattr(dis, "_all_opmap", {}).items() if name.endswith("_ADAPTIVE"))
_UNTOLD = frozenset(("CALL", "CACHE"))
_LEAVES = frozenset(("RETURN_VALUE", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD"))
_LEAVES |= {"JUMP_BACKWARD_NO_INTERRUPT"}


def _witnesses(code: CodeType, instructions: bytes) -> dict[int, tuple[int, ...]]:
    """Places of instructions with caches, and the lines that were run if that one was.

    A line of a block is told by its own instructions, or by the next one in the block behind it.
    """
    caches: list[int] = opcode._inline_cache_entries  # type: ignore[attr-defined]
    lines = {place: line for start, end, line in code.co_lines() if line for place in range(start, end, 2)}
    starts: set[int] = {entry.target for entry in dis._parse_exception_table(code)}  # type: ignore[attr-defined]
    row: list[tuple[int, bool]] = []
    place = extended = 0
    while place < len(instructions):
        number, argument = instructions[place], instructions[place + 1] | extended
        extended = argument << 8 if number == dis.EXTENDED_ARG else 0
        after = place + 2 + 2 * caches[number]
        name = opcode.opname[number]
        row.append((place, caches[number] > 0 and name not in _UNTOLD))
        if number in opcode.hasjrel:
            starts.add(after + (-2 if "BACKWARD" in name else 2) * argument)
        if number in opcode.hasjrel or name in _LEAVES:
            starts.add(after)
        place = after
    found: dict[int, list[int]] = {}
    waiting: set[int] = set()
    for place, tells in row:
        if place in starts:
            waiting = set()
        if line := lines.get(place):
            waiting.add(line)
        if tells:
            found[place] = sorted(waiting)
            waiting = set()
    return {place: tuple(some) for place, some in found.items()}

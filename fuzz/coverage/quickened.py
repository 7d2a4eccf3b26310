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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Quickened", "unavailable"]

#: Where a code object of CPython 3.11 has the count of calls until it is quickened, and its instructions behind all
#: else, in bytes; ``unavailable`` tries whether that is so.
_WARMUP = 52
_INSTRUCTIONS = CodeType.__basicsize__

#: The count starts below zero, and a function is quickened when it comes to zero.
_BRINK = -1

#: Where addresses of a process begin and end, as one array of all of its memory takes them: below 2**47 on x86-64, and
#: below 2**48 on ARM, where code objects lie in the upper half.
_BEGIN, _END = 16, 1 << 48

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
        lines: once it was entered at all: the lines that each of its instructions would tell.
    """

    code: CodeType
    pristine: bytes
    lines: dict[int, tuple[int, ...]] | None = None


class Quickened:
    """Watches functions of CPython 3.11 in this process; see the module.

    Most functions are never called, and most instructions of those that are were run in the first cases. So after a
    case all counts of calls are read at once, and all instructions that were not run yet of functions that were called;
    Python looks only at what has changed.
    """

    def __init__(self) -> None:
        import numpy as np

        self._np = np
        #: The memory of this process, as bytes. Only what belongs to code objects that are kept is ever read.
        whole: Any = (ctypes.c_uint8 * (_END - _BEGIN)).from_address(_BEGIN)
        self._memory = np.frombuffer(whole, np.uint8)
        self._adaptive = np.zeros(256, bool)
        self._adaptive[list(_ADAPTIVE)] = True
        self._idle: list[_Watched] = []  # not called since the beginning
        self._counts: npt.NDArray[np.int64] | None = (
            None  # where their counts of calls are; None where they have changed
        )
        self._entered: list[_Watched] = []
        self._open = np.empty((3, 0), np.int64)  # what was not run: where it is, whose (in the row), and which

    def add(self, code: CodeType) -> None:
        """Watch a function from now on. No thread may be running it."""
        watched = _Watched(code, code.co_code)
        self._reset(watched)
        self._idle.append(watched)
        self._counts = None

    def again(self) -> None:
        """Forget what was run: the next call of each function counts as its first. No thread may be running one."""
        for watched in self._entered:
            self._reset(watched)
        self._idle += self._entered
        self._entered, self._counts, self._open = [], None, self._open[:, :0]

    def _reset(self, watched: _Watched) -> None:
        place = id(watched.code)
        # What caches hold are borrowed pointers and versions, so nothing is owed to anybody when they are cleared.
        _copy(place + _INSTRUCTIONS, watched.pristine, len(watched.pristine))
        ctypes.c_int16.from_address(place + _WARMUP).value = _BRINK

    def entered(self) -> Iterator[tuple[CodeType, tuple[int, ...]]]:
        """Functions in which something ran for the first time since the last look, and the lines of it."""
        lines: dict[int, set[int]] = {number: set() for number in self._called()}
        where, owners, places = self._open
        read = self._memory
        # It is adaptive no more, or its counter was set.
        ran = ~self._adaptive[read[where]] | (read[where + 2] != 0) | (read[where + 3] != 0)
        for number, place in zip(owners[ran].tolist(), places[ran].tolist(), strict=True):
            told = self._entered[number].lines
            assert told is not None
            lines.setdefault(number, set()).update(told[place])
        if ran.any():
            self._open = self._open[:, ~ran]
        for number, some in lines.items():
            yield self._entered[number].code, tuple(sorted(some))

    def _called(self) -> range:
        """Those that were called for the first time, by their places in the row of those that were entered."""
        np = self._np
        if self._counts is None:
            self._counts = np.array([id(watched.code) + _WARMUP - _BEGIN for watched in self._idle], np.int64)
        # The count leaves its beginning with the first call. Both of its bytes are then others.
        called = (self._memory[self._counts] != _BRINK & 0xFF).nonzero()[0]
        begin = len(self._entered)
        if not called.size:
            return range(begin, begin)
        rows = []
        for at in called.tolist():
            watched = self._idle[at]
            if watched.lines is None:
                watched.lines = _witnesses(watched.code, watched.pristine)
            first = id(watched.code) + _INSTRUCTIONS - _BEGIN
            rows += [(first + place, len(self._entered), place) for place in watched.lines]
            self._entered.append(watched)
        gone = set(called.tolist())
        self._idle = [watched for at, watched in enumerate(self._idle) if at not in gone]
        self._counts = np.delete(self._counts, called)
        self._open = np.concatenate([self._open, np.array(rows, np.int64).reshape(-1, 3).T], axis=1)
        return range(begin, len(self._entered))


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

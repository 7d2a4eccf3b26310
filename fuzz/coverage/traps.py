"""The part of native coverage that is written in C, compiled when it is first used, and its functions.

The compiler is the one that Inductor needs anyway. What it makes is kept in Shakeout's cache, by what it was made of.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shakeout.corpus import cache

__all__ = ["Places", "Traps", "Unavailable", "traps"]

Places = npt.NDArray[np.uint32]

_SOURCE = Path(__file__).with_name("traps.c")
_FLAGS = ("-x", "c", "-O2", "-shared", "-fPIC", "-fno-stack-protector", "-Wall")

#: Seconds that the compiler may take for 250 lines; it takes a fifth of one.
_PATIENCE = 120.0

#: Places taken at once.
_CHUNK = 1 << 16

_AREA_BITS = 40


class Unavailable(Exception):
    """Native coverage, or that of one library, cannot be had here; the message says why."""


class Traps:
    """Breakpoints in the code of this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        size, number, pointer = ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p
        self._handle = library.shakeout_handle
        self._handle.restype = number
        self._add = library.shakeout_add
        self._add.argtypes, self._add.restype = [size, size, size, ctypes.c_char_p, size], number
        self._arm = library.shakeout_arm
        self._arm.argtypes, self._arm.restype = [number, pointer, size], size
        self._disarm = library.shakeout_disarm
        self._disarm.argtypes, self._disarm.restype = [number, pointer, size], None
        self._take = library.shakeout_take
        self._take.argtypes, self._take.restype = [pointer, size], size
        self._original = library.shakeout_original
        self._original.argtypes, self._original.restype = [number], pointer
        self._keep_open = library.shakeout_keep_open
        self._keep_open.restype = None
        self._loads = library.shakeout_loads
        self._loads.restype = ctypes.c_uint64

    def handle(self) -> None:
        """See to it that traps come to us, whoever took them since; raises Unavailable."""
        if (code := self._handle()) < 0:
            raise Unavailable(f"no handler of breakpoints can be installed: {os.strerror(-code)}")

    def keep_open(self) -> None:
        """See to it that no library that is loaded by now blocks the signal of breakpoints, of which one would die."""
        self._keep_open()

    def add(self, bias: int, start: int, length: int, file: str, offset: int) -> int:
        """Make one executable segment writable; its number.

        Raises:
            Unavailable: the system forbids it, or the file is not what is loaded.
        """
        code = self._add(bias, start, length, os.fsencode(file), offset)
        if code >= 0:
            return int(code)
        if -code == errno.ESTALE:
            raise Unavailable("its code in memory is not that of its file, which was replaced, or it was patched")
        if -code in (errno.EACCES, errno.EPERM):
            raise Unavailable("this system does not let a process write to its code")
        raise Unavailable(f"its file cannot be read, or its code be made writable: {os.strerror(-code)}")

    def arm(self, area: int, places: Iterable[int] | Places) -> int:
        """Arm places, each of which begins an instruction; how many are armed now."""
        chosen = _array(places)
        return int(self._arm(area, chosen.ctypes.data, len(chosen)))

    def disarm(self, area: int, places: Iterable[int] | Places) -> None:
        """Disarm places."""
        chosen = _array(places)
        self._disarm(area, chosen.ctypes.data, len(chosen))

    def take(self) -> dict[int, Places]:
        """Places that were hit since the last call, ascending, by the number of their segment."""
        chunks = []
        while True:
            chunk = np.empty(_CHUNK, np.uint64)
            found = self._take(chunk.ctypes.data, _CHUNK)
            chunks.append(chunk[:found])
            if found < _CHUNK:
                break
        every = np.concatenate(chunks)
        if not every.size:
            return {}
        areas = every >> np.uint64(_AREA_BITS)
        places = (every & np.uint64(0xFFFFFFFF)).astype(np.uint32)
        return {int(area) - 1: np.unique(places[areas == area]) for area in np.unique(areas)}

    def original(self, area: int, start: int, length: int) -> bytes:
        """Code as it is without breakpoints."""
        return ctypes.string_at(self._original(area) + start, length)

    def loads(self) -> int:
        """How many libraries were loaded so far."""
        return int(self._loads())


def _array(places: Iterable[int] | Places) -> Places:
    chosen = places if isinstance(places, np.ndarray) else np.fromiter(places, np.uint32)
    return np.ascontiguousarray(chosen, np.uint32)


@functools.cache
def traps() -> Traps:
    """The functions, compiled if they are not yet.

    Raises:
        Unavailable: not on this system, or there is no compiler.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise Unavailable(f"it needs Linux on x86-64, and this is {system} on {machine}")
    if tracer := _tracer():
        raise Unavailable(f"a debugger (process {tracer}) is attached, which uses breakpoints itself")
    return Traps(_library())


def _tracer() -> int:
    """The process that traces this one; 0 for none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("TracerPid:")), 0)


def _library() -> ctypes.CDLL:
    """The compiled part: from the cache if it is there, else compiled and put there."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise Unavailable("there is no C++ compiler: install g++ (Debian, Ubuntu: apt-get install g++)")
    digest = hashlib.sha256(_SOURCE.read_bytes() + repr((compiler, _FLAGS)).encode()).hexdigest()[:16]
    kept = cache.directory() / "coverage" / f"traps-{digest}.so"
    try:
        return ctypes.CDLL(str(kept))
    except OSError:
        pass  # not there, or no library: another takes its place
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "traps.so"
        try:
            command = [compiler, *_FLAGS, str(_SOURCE), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"the compiler {compiler} does not run: {error}") from None
        if done.returncode:
            said = (done.stderr.strip() or f"it ended with status {done.returncode}").splitlines()[0]
            raise Unavailable(f"the compiler {compiler} cannot build it: {said}")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            draft = kept.with_name(f"{kept.name}.{os.getpid()}.part")
            shutil.copyfile(made, draft)
            os.replace(draft, kept)
            made = kept
        except OSError:
            pass  # a cache that cannot be written costs a fifth of a second, nothing else
        try:
            return ctypes.CDLL(str(made))
        except OSError as error:
            raise Unavailable(f"what the compiler {compiler} made cannot be loaded: {error}") from None

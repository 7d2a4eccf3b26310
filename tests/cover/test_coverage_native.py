"""Native coverage of a small library whose functions and branches are known."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from shakeout.fuzz.coverage.hits import Hits, by_source
from shakeout.fuzz.coverage.native import NativeSource
from shakeout.fuzz.coverage.source import FOREIGN
from shakeout.fuzz.coverage.sources import Sources

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="native coverage needs Linux on x86-64"
)

_SOURCE = r"""
#include <csetjmp>
#include <csignal>
#include <stdexcept>

#define KNOWN extern "C" __attribute__((noinline, visibility("default")))

static volatile int sink;

KNOWN int plain(int x) { return x + 1; }
KNOWN int branch(int x) { if (x > 10) sink = 1; else sink = 2; return sink; }
KNOWN int never(int x) { return x - 1; }
KNOWN int throws(int x) { if (x) throw std::runtime_error("no"); return 1; }
KNOWN int catches(int x) { try { return throws(x); } catch (const std::exception &) { return 7; } }

static std::jmp_buf mark;
KNOWN void jumps(int x) { if (x) std::longjmp(mark, 5); sink = x; }
KNOWN int lands(int x) { int code = setjmp(mark); if (!code) jumps(x); return code; }

static volatile int handled;
KNOWN void handler(int) { handled = handled + 1; }
KNOWN int signals(int times) {
    std::signal(SIGUSR2, handler);
    for (int i = 0; i < times; i++) std::raise(SIGUSR2);
    return handled;
}

KNOWN int table(int x) {
    switch (x) {
    case 0: sink = 10; break; case 1: sink = 21; break; case 2: sink = 32; break; case 3: sink = 43; break;
    case 4: sink = 54; break; case 5: sink = 65; break; case 6: sink = 76; break; case 7: sink = 87; break;
    default: sink = 0;
    }
    return sink;
}
KNOWN int blocks_signals(int x) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (x > 10) sink = plain(x); else sink = branch(x);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return sink;
}
KNOWN double spin(double x, int times) { for (int i = 0; i < times; i++) x = x * 0.5 + i; return x; }

/* A table in the code, which is read: a breakpoint in it would change what is read. */
asm(R"(
    .text
    .globl embedded
    .type embedded, @function
embedded:
    .cfi_startproc
    cmp $3, %edi
    ja 2f
    lea 1f(%rip), %rax
    movzbl (%rax,%rdi), %eax
    ret
1:  .byte 0x74, 0x02, 0x90, 0x90
2:  xor %eax, %eax
    ret
    .cfi_endproc
    .size embedded, .-embedded

    .globl overlapping
    .type overlapping, @function
overlapping:
    .cfi_startproc
    mov %edi, %eax
    cmp $0, %esi
    je 1f
    .byte 0xf0
1:  addl $1, (%rdx)
    ret
    .cfi_endproc
    .size overlapping, .-overlapping
)");
"""

FUNCTIONS = ("plain", "branch", "never", "throws", "catches", "jumps", "lands", "handler", "signals", "table", "spin")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Another copy of the library under a name of its own: what one test hit, the next would not see again."""
    folder = tmp_path_factory.mktemp("library")
    made = folder / "known.so"
    source = folder / "known.cpp"
    source.write_text(_SOURCE)
    # Stripped, like those that people install.
    command = ["g++", "-O1", "-fno-inline", "-shared", "-fPIC", str(source), "-o", str(made)]
    subprocess.run(command, check=True)
    symbols = subprocess.run(["nm", "-D", "--defined-only", str(made)], check=True, capture_output=True, text=True)
    (folder / "symbols.json").write_text(
        json.dumps({words[2]: int(words[0], 16) for words in map(str.split, symbols.stdout.splitlines())})
    )
    subprocess.run(["strip", str(made)], check=True)

    def copy(name: str) -> Path:
        path = folder / f"lib{name}.so"
        path.write_bytes(made.read_bytes())
        return path

    return copy


def _of(every: Iterable[Hits], kind: str) -> list[int]:
    return [int(key) for hits in every if hits.kind == kind for key in hits.keys]


class Watched:
    """One copy of the library, loaded and armed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.symbols = json.loads((path.parent / "symbols.json").read_text())
        self.names = {place: name for name, place in self.symbols.items()}
        self.source = NativeSource([str(path)])
        self.armed = self.source.arm()

    def call(self, name: str, *arguments: int) -> int:
        """Call a function of it."""
        return getattr(self.library, name)(*arguments)  # type: ignore[no-any-return]

    def entered(self) -> list[str]:
        """The names of the functions that were hit since the last call, and what lies between them."""
        found: list[str] = []
        for place in _of(self.source.take(), "functions"):
            found.append(self.names.get(place, hex(place)))
        return sorted(found)

    def blocks(self) -> list[tuple[str, int]]:
        """The blocks that were hit since the last call: of which function, and how far into it."""
        found = []
        for place in _of(self.source.take(), "blocks"):
            start = max(symbol for symbol in self.names if symbol <= place)
            found.append((self.names[start], place - start))
        return sorted(found)


@pytest.fixture
def watched(build: Callable[[str], Path], request: pytest.FixtureRequest) -> Watched:
    return Watched(build(request.node.name.replace("[", "-").strip("]")))


def test_just_the_functions_that_were_called_each_once(watched: Watched) -> None:
    (armed,) = watched.armed
    assert not armed.reason
    assert armed.watched >= len(FUNCTIONS)
    assert watched.entered() == []
    assert watched.call("plain", 4) == 5
    assert watched.entered() == ["plain"]
    assert watched.call("plain", 5) == 6
    assert watched.entered() == []
    assert watched.source.arm() == ()
    assert watched.call("branch", 11) == 1
    assert watched.entered() == ["branch"]


def test_each_branch_is_a_block_and_each_is_told_once(watched: Watched) -> None:
    watched.call("branch", 11)
    assert watched.entered() == ["branch"]
    watched.source.look_closer(10)
    assert watched.call("branch", 11) == 1
    first = watched.blocks()
    assert watched.call("branch", 11) == 1
    assert watched.blocks() == []
    assert watched.call("branch", 3) == 2
    second = watched.blocks()
    assert {name for name, _ in first + second} == {"branch"}
    assert second
    assert not set(first) & set(second)
    assert watched.call("branch", 3) == 2
    assert watched.blocks() == []


def test_what_was_hit_can_be_told_again_and_nothing_else_is_armed(watched: Watched) -> None:
    watched.call("branch", 11)
    told = watched.source.take()
    watched.source.look_closer(10)
    watched.call("branch", 11)
    told += watched.source.take()
    keys = {feature for hits in told for feature in hits.features()}
    assert {hits.kind for hits in told} == {"functions", "blocks"}
    assert watched.source.rearm(keys) == keys
    assert watched.call("plain", 4) == 5
    assert watched.entered() == ["plain"]
    # A place that is no instruction's first byte, one of no library, and what was never there.
    (function,) = next(hits for hits in told if hits.kind == "functions").keys
    false = {hits.kind: replace(hits, keys=(int(function) + 1,)) for hits in told}.values()
    wrong = {feature for hits in false for feature in hits.features()} | {3, 1 << 63}
    assert watched.source.rearm(wrong) == frozenset()
    for _ in range(2):
        assert watched.call("branch", 11) == 1
        shown = {feature for hits in watched.source.take() for feature in hits.features()}
        assert shown == keys
        assert watched.source.rearm(keys) == keys
    sources = Sources([watched.source])
    sources.rearm(keys)
    watched.call("branch", 3)
    both, some = sources.showed(sources.take())
    assert both == len(keys)
    assert 0 < some < both
    assert sources.showed(()) == (0, 0)


def test_exceptions_jumps_and_signals_pass_through_what_is_armed(watched: Watched) -> None:
    for _ in range(3):
        assert watched.call("catches", 1) == 7
        assert watched.call("catches", 0) == 1
        assert watched.call("lands", 1) == 5
        assert watched.call("lands", 0) == 0
        watched.source.take()
        watched.source.look_closer(10)
    assert watched.call("signals", 3) == 3
    watched.source.take()
    watched.source.look_closer(10)
    assert watched.call("signals", 2) == 5
    assert {name for name, _ in watched.blocks()} <= {"signals"}


def test_who_blocks_all_signals_meets_breakpoints_as_everybody_does(watched: Watched) -> None:
    """LLVM does that around each close of a file."""
    for _ in range(3):
        assert watched.call("blocks_signals", 11) == 12
        assert watched.call("blocks_signals", 1) == 2
        watched.source.take()
        watched.source.look_closer(10)


def test_what_cannot_be_certain_is_left_alone(watched: Watched) -> None:
    """A table in the code and an instruction with two beginnings: every byte behind the entry stays what it is."""
    memory = (ctypes.c_int * 1)(0)
    for _ in range(2):
        assert [watched.call("embedded", index) for index in range(5)] == [0x74, 0x02, 0x90, 0x90, 0]
        watched.library.overlapping(1, 1, memory)
        watched.library.overlapping(1, 0, memory)
        told = watched.source.take()
        watched.source.look_closer(10)
    assert memory[0] == 4
    assert told == ()


def test_blocks_behind_a_jump_table_run_as_they_are(watched: Watched) -> None:
    expected = [10, 21, 32, 43, 54, 65, 76, 87, 0]
    for _ in range(3):
        assert [watched.call("table", index) for index in range(9)] == expected
        watched.source.take()
        watched.source.look_closer(10)


def test_a_forked_child_has_hits_of_its_own(watched: Watched) -> None:
    watched.call("plain", 1)
    watched.source.before_fork(())
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            watched.call("plain", 1)
            watched.call("branch", 1)
            os.write(writing, json.dumps(watched.entered()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as told:
        # What the parent hit itself is told by the child, where it happens with a case.
        assert json.loads(told.read()) == ["branch", "plain"]
    assert os.waitpid(pid, 0)[1] == 0
    assert watched.entered() == []
    watched.call("branch", 1)
    assert watched.entered() == ["branch"]


def test_many_threads_meet_the_same_breakpoints_and_each_is_told_once(watched: Watched) -> None:
    watched.library.spin.argtypes, watched.library.spin.restype = [ctypes.c_double, ctypes.c_int], ctypes.c_double
    starts, results = threading.Barrier(8), []

    def work() -> None:
        starts.wait()
        for index in range(200):
            watched.call("plain", index)
            watched.call("branch", index)
            results.append(watched.library.spin(1.0, 50))

    for _ in range(4):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told = [place for hits in watched.source.take() for place in hits.keys]
        assert len(told) == len(set(told))
        watched.source.look_closer(10)
    assert len(set(results)) == 1


def test_without_a_disassembler_functions_are_told_alone(
    build: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "iced_x86", None)
    path = build("alone")
    library = ctypes.CDLL(str(path))
    source = NativeSource([str(path)])
    why, armed = source.arm()
    assert "pip install 'shakeout[coverage]'" in why.reason
    assert armed.watched >= len(FUNCTIONS)
    for _ in range(3):
        assert library.branch(11) == 1
        source.look_closer(1)
    (hits,) = source.take()
    assert (hits.kind, len(hits)) == ("functions", 1)


def test_a_file_that_was_replaced_since_it_was_loaded_is_left_alone(build: Callable[[str], Path]) -> None:
    path = build("replaced")
    library = ctypes.CDLL(str(path))
    # As pip does it: another file under the same name.
    other = bytearray(path.read_bytes())
    plain = json.loads((path.parent / "symbols.json").read_text())["plain"]
    other[plain : plain + 4] = b"\x90\x90\x90\x90"
    path.unlink()
    path.write_bytes(other)
    source = NativeSource([str(path), f"{path} (deleted)"])
    reasons = [armed.reason for armed in source.arm()]
    assert reasons
    assert all(reasons)
    assert library.plain(4) == 5
    assert source.take() == ()


def test_a_library_that_is_loaded_later_is_armed_between_two_cases(build: Callable[[str], Path]) -> None:
    path = build("later")
    source = NativeSource([path.name])
    assert source.arm() == ()
    library = ctypes.CDLL(str(path))
    source.look_closer(1)
    assert library.plain(1) == 2
    (hits,) = source.take()
    assert (hits.name, hits.kind, len(hits)) == (path.name, "functions", 1)


def test_what_the_campaign_knows_is_not_told_again(build: Callable[[str], Path], tmp_path: Path) -> None:
    from shakeout.fuzz.coverage.log import NAME, CoverageLog
    from shakeout.fuzz.coverage.summary import read_coverage

    path = build("known-of")
    library = ctypes.CDLL(str(path))
    source = NativeSource([str(path)])
    source.arm()
    with CoverageLog(tmp_path) as log:
        library.branch(11)
        assert by_source(log.add(source.take(), case=3, target="mine", seconds=1.0)) == {"native": 1}
        source.look_closer(10)
        library.branch(11)
        (first,) = log.add(source.take(), case=4, target="mine", seconds=2.0)
        assert first.kind == "blocks"
    assert {one.kind: one.found for one in read_coverage(tmp_path).reached} == {"functions": 1, "blocks": len(first)}
    # Another process of the same campaign: the copy is armed anew, and told what is in the log.
    code = """
import ctypes, sys
from pathlib import Path
from shakeout.fuzz.coverage.sources import Wanted, sources
library = ctypes.CDLL(sys.argv[1])
source = sources(Wanted((sys.argv[1],)), Path(sys.argv[2]))
list(source.arm())
source.before_fork()
library.branch(11)
print(sum(map(len, source.take())))
library.branch(3)
print(sum(map(len, source.take())))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path / NAME)], capture_output=True, text=True, check=True
    )
    known, new = map(int, done.stdout.split())
    assert known == 0
    assert new > 0


@pytest.mark.parametrize("how", ["int3", "kill", "blocked"])
def test_a_trap_of_somebody_else_ends_the_process_as_it_would(build: Callable[[str], Path], how: str) -> None:
    code = f"""
import ctypes, os, signal, sys
from shakeout.fuzz.coverage.native import NativeSource
library = ctypes.CDLL(sys.argv[1])
source = NativeSource([sys.argv[1]])
assert source.arm()[0].watched
library.plain(1)
if {how == "blocked"}:
    # By way of no library: its own call of pthread_sigmask would leave the signal alone.
    mask = (ctypes.c_ulong * 16)(*[2**64 - 1] * 16)
    assert ctypes.CDLL(None).pthread_sigmask(signal.SIG_BLOCK, mask, None) == 0
    library.branch(1)  # its handler cannot run
elif {how == "kill"}:
    os.kill(os.getpid(), signal.SIGTRAP)
else:
    import mmap
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes([0xCC, 0xC3]))
    ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
"""
    done = subprocess.run([sys.executable, "-c", code, str(build(how))], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTRAP
    assert (FOREIGN in done.stderr) == (how != "blocked")

"""Joint builds: kernel files of several clients in one translation unit, with a real compiler."""

import importlib.util
import json
import select
import shutil
import socket
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shakeout.targets import joint
from shakeout.targets.joint import BEGIN, LAST, Company, Request, company, culprits, entry, join, serve

KERNEL = """
#include <cmath>
extern "C" long kernel(long x) {{ return {body}; }}
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static PyObject* kernel_py(PyObject* self, PyObject* args) {{
    long x = PyLong_AsLong(PyTuple_GET_ITEM(args, 0));
    return PyLong_FromLong(kernel(x));
}}
static PyMethodDef py_methods[] = {{{{"kernel", kernel_py, METH_VARARGS, ""}}, {{NULL, NULL, 0, NULL}}}};
static struct PyModuleDef py_module = {{PyModuleDef_HEAD_INIT, "kernel", NULL, -1, py_methods}};
PyMODINIT_FUNC PyInit_kernel(void) {{ return PyModule_Create(&py_module); }}
"""


class Clients:
    """Asks a server in a thread of its own, as several workers would."""

    def __init__(self, directory: Path, processes: int) -> None:
        self.directory = directory
        self.door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = {"cores": 1, "processes": processes}
        self.thread = threading.Thread(target=serve, args=(theirs, directory / "joint"), kwargs=arguments, daemon=True)
        self.thread.start()

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self.door, [b"+"], [theirs.fileno()])
        ours.settimeout(60)
        return ours

    def ask(self, name: str, source: str, command: tuple[str, ...] = ()) -> socket.socket:
        ours = self.connect()
        path, output = self.directory / f"{name}.cpp", self.directory / f"{name}.so"
        path.write_text(source)
        include = sysconfig.get_paths()["include"]
        words = command or ("g++", str(path), "-shared", "-fPIC", f"-I{include}", "-o", str(output))
        ours.sendall(json.dumps({"source": str(path), "output": str(output), "command": words}).encode())
        return ours

    def close(self) -> None:
        self.door.close()
        self.thread.join(10)


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    made = Clients(tmp_path, 3)
    yield made
    made.close()
    assert not made.thread.is_alive()
    assert not list((tmp_path / "joint").iterdir())


def answer(client: socket.socket) -> str:
    return str(json.loads(client.recv(1000))["entry"])


def load(path: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.stem}.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules.pop(spec.name, None)
    return module


def test_kernels_of_one_library_stay_apart(clients: Clients, tmp_path: Path) -> None:
    asked = [clients.ask(f"k{i}", KERNEL.format(body=f"x + {i}")) for i in range(3)]
    entries = [answer(client) for client in asked]
    assert entries == [entry(i) for i in range(3)]
    assert [load(tmp_path / f"k{i}.so", entries[i]).kernel(10) for i in range(3)] == [10, 11, 12]
    assert len({(tmp_path / f"k{i}.so").stat().st_ino for i in range(3)}) == 1


def test_what_cannot_be_compiled_is_left_to_its_own_process_and_takes_nobody_with_it(
    clients: Clients, tmp_path: Path
) -> None:
    asked = [
        clients.ask("good", KERNEL.format(body="x")),
        clients.ask("bad", KERNEL.format(body="no_such_name")),
        clients.ask("fine", KERNEL.format(body="2 * x")),
    ]
    entries = [answer(client) for client in asked]
    assert entries[1] == ""
    assert not (tmp_path / "bad.so").exists()
    assert load(tmp_path / "good.so", entries[0]).kernel(4) == 4
    assert load(tmp_path / "fine.so", entries[2]).kernel(4) == 8
    kept = [(tmp_path / f"{name}.so").stat().st_ino for name in ("good", "fine")]
    assert kept[0] == kept[1], "the others were compiled together again"


def test_who_is_to_blame_is_found_by_halves_where_the_compiler_does_not_say(clients: Clients, tmp_path: Path) -> None:
    twice = '__asm__("same:");'  # which the assembler refuses, and it knows no kernels
    asked = [clients.ask(f"k{i}", KERNEL.format(body="x") + twice * (i < 2)) for i in range(3)]
    assert [load(tmp_path / f"k{i}.so", answer(asked[i])).kernel(i) for i in range(3)] == [0, 1, 2]


def test_errors_are_told_from_warnings_and_found_behind_templates() -> None:
    said = """
kernel_0.cpp:3:7: warning: unused variable
In file included from joint.cpp:2:
vec.h: In instantiation of 'T f(T) [with T = int]':
kernel_12.cpp:40:11:   required from here
vec.h:10:3: error: no match for 'operator+'
kernel_2.cpp:5:1: fatal error: nothing.h: No such file or directory
"""
    assert culprits(said) == {12, 2}


def test_one_that_is_gone_does_not_keep_the_others_waiting(clients: Clients, tmp_path: Path) -> None:
    clients.ask("gone", KERNEL.format(body="x")).close()
    asked = [clients.ask(f"k{i}", KERNEL.format(body="x")) for i in range(3)]
    assert all(answer(client) for client in asked)


def test_nobody_waits_for_others_who_send_nothing(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(joint, "FIRST_SECONDS", 100.0)
    monkeypatch.setattr(joint, "SILENCE_SECONDS", 0.2)
    asked = [clients.ask(f"k{i}", KERNEL.format(body=f"x + {i}")) for i in range(2)]
    assert [load(tmp_path / f"k{i}.so", answer(asked[i])).kernel(1) for i in range(2)] == [1, 2]


def test_where_cases_begin_and_end_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = Clients(tmp_path, 30)
    at_work = clients.connect()
    at_work.sendall(b'{"busy": true}')
    for _ in range(2):
        began = time.monotonic()
        assert answer(clients.ask("first", KERNEL.format(body="x")))
        assert time.monotonic() - began < joint.SILENCE_SECONDS
        later = clients.ask("later", KERNEL.format(body="x + 1"))
        assert not select.select([later], [], [], 1)[0], "not worth a file any more"
        later.close()
        clients.door.sendall(BEGIN)
    monkeypatch.setattr(joint, "GROWTH", 1000)
    assert answer(clients.ask("first", KERNEL.format(body="x")))
    asked = [clients.ask(f"k{i}", KERNEL.format(body="x")) for i in range(2)]
    assert not select.select(asked, [], [], 1)[0]
    clients.door.sendall(LAST)
    assert all(answer(client) for client in asked), "no more come"
    clients.close()


def test_processes_and_batches_follow_cores_and_memory() -> None:
    # Full batches on all cores, where memory allows.
    assert [company(workers, 1000) for workers in (1, 2, 16, 30)] == [
        Company(32, 24),
        Company(40, 24),
        Company(154, 24),
        Company(267, 24),
    ]
    # Where it does not, batches that leave no core without work.
    assert [company(30, most).batch for most in (256, 128, 64)] == [24, 9, 3]
    assert company(2, 8) == Company(8, 5)
    assert company(4, 2) == Company(4, 1), "each has a process"
    for workers in range(1, 100, 7):
        found = [company(workers, most) for most in range(1, 1000, 50)]
        assert [one.processes for one in found] == sorted(one.processes for one in found)
        assert all(workers <= one.processes and 1 <= one.batch <= one.processes for one in found)


def test_nobody_waits_for_those_who_have_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "FIRST_SECONDS", 100.0)
    clients = Clients(tmp_path, 30)
    idle, at_work = clients.connect(), clients.connect()
    at_work.sendall(b'{"busy": true}')
    began = time.monotonic()
    asked = [clients.ask(f"k{i}", KERNEL.format(body=f"x + {i}")) for i in range(2)]
    assert not select.select(asked, [], [], 2)[0], "one more may come"
    at_work.sendall(b'{"busy": false}')
    assert [load(tmp_path / f"k{i}.so", answer(asked[i])).kernel(1) for i in range(2)] == [1, 2]
    assert time.monotonic() - began < joint.SILENCE_SECONDS
    for client in asked:
        client.sendall(b'{"busy": false}')
    at_work.sendall(b'{"busy": true}')
    at_work.close()
    again = clients.ask("k2", KERNEL.format(body="x"))
    assert answer(again)
    assert time.monotonic() - began < joint.SILENCE_SECONDS
    idle.close()
    clients.close()
    assert not clients.thread.is_alive()


def test_a_compiler_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(joint, "BUILD_SECONDS", 0.2)
    clients = Clients(tmp_path, 1)
    assert answer(clients.ask("slow", "", ("sh", "-c", "sleep 100"))) == ""
    assert answer(clients.ask("missing", "", ("no-such-compiler",))) == ""
    clients.close()
    assert not clients.thread.is_alive()


def test_headers_come_first_and_once() -> None:
    text = join(["#include <a.h>\nint x;\n", '  #  include <b.h>\n#include <a.h>\nint x; // "kernel"\n'])
    assert text.count("#include <a.h>") == 1
    assert text.index("include <b.h>") < text.index("namespace joint_0")


def test_files_with_other_flags_are_not_joined() -> None:
    one = Request("a.cpp", "a.so", ("g++", "a.cpp", "-O3", "-o", "a.so"))
    other = Request("b.cpp", "b.so", ("g++", "b.cpp", "-O3", "-o", "b.so"))
    third = Request("c.cpp", "c.so", ("g++", "c.cpp", "-O3", "-mavx2", "-o", "c.so"))
    assert one.flags() == other.flags() != third.flags()

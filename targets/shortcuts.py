"""What makes many small compilations faster without changing what is compiled, and can be switched off.

Installed in a process that runs cases, never in a script that is reported: findings are confirmed with the stock
toolchain. Each shortcut replaces functions of torch or turns a switch; where one is missing, it is left out.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import os
import shlex
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

__all__ = ["ALWAYS", "SHORTCUTS", "alone", "environment", "install", "install_exporter", "waited", "watched"]

#: By name, what each does; the order is that of the benchmark.
SHORTCUTS = {
    "collector": "the garbage collector looks less often",
    "guards": "guards are not run once more to measure how long they take",
    "algebra": "what sympy and Inductor have simplified once they remember for longer",
    "linker": "mold links, if it is installed",
    "joint": "kernels that several processes wait for are compiled in one translation unit",
    "translations": "torch.onnx reads how it translates operators once, not for each export",
}

#: Those that need neither a server nor the environment, and pay for whoever compiles a handful of cases.
ALWAYS = ("translations",)

#: New objects before the collector looks at them. A compilation makes some hundred thousand, of which few are garbage.
YOUNG_OBJECTS = 100_000

#: Results that a function of index expressions remembers, instead of sympy's 1,000 and functools' 128: those of some
#: hundred cases, because the same few expressions come again in most of them.
REMEMBERED = 100_000

#: Seconds without an answer after which a process compiles for itself from then on.
PATIENCE = 600.0


class _Client:
    """This process's connection to the server; a forked child makes its own."""

    def __init__(self, door: int) -> None:
        self.door = door
        self.waited = 0.0
        self.watch: Callable[[bool], None] = lambda waiting: None
        self.entries: dict[str, str] = {}
        self._socket: socket.socket | None = None
        self._owner = 0

    def build(self, source: str, output: str, command: Sequence[str]) -> str:
        """Have a kernel compiled: the name under which the library has it, or nothing where the stock way is left."""
        message = json.dumps({"source": source, "output": output, "command": command}).encode()
        began = time.monotonic()
        self.watch(True)
        try:
            connection = self._connected()
            connection.sendall(message)
            data = connection.recv(1 << 16)
        except OSError:
            data = b""
        finally:
            self.watch(False)
            self.waited += time.monotonic() - began
        if not data:
            # The server is gone, or does not answer; it will not be asked again.
            self.door = -1
            return ""
        return str(json.loads(data)["entry"])

    def _connected(self) -> socket.socket:
        if self._socket is None or self._owner != os.getpid():
            # A packet is a request, whole or not at all.
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, socket.socket(fileno=os.dup(self.door)) as door:
                socket.send_fds(door, [b"+"], [theirs.fileno()])
            ours.settimeout(PATIENCE)
            self._socket, self._owner = ours, os.getpid()
        return self._socket


_clients: list[_Client] = []


def environment(names: Collection[str]) -> dict[str, str]:
    """What must be in the environment before torch is imported, for these shortcuts to have their effect."""
    return {"SYMPY_CACHE_SIZE": str(REMEMBERED)} if "algebra" in names else {}


def install(names: Collection[str], door: int = -1) -> None:
    """Install Inductor's shortcuts in this process and those forked from it.

    Args:
        names: of ``SHORTCUTS``; "linker" and "joint" are the server's, which knows which of them are wanted.
        door: descriptor of the packet socket behind which the server of ``shakeout.targets.joint`` waits; -1 for none.
    """
    import gc

    from torch._dynamo import config, guards
    from torch._inductor import codecache, sizevars

    if "collector" in names:
        gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
        if hasattr(config, "run_gc_after_compile"):
            config.run_gc_after_compile = False
    if "algebra" in names:
        for name in ("stride_at", "stride_at_vec_range", "simplify_index_in_vec_range"):
            stock = getattr(getattr(sizevars, name, None), "__wrapped__", None)
            if stock is not None:
                setattr(sizevars, name, functools.lru_cache(REMEMBERED)(stock))
        _remember_simplified()
    if "guards" in names and hasattr(guards, "profile_guard_manager"):
        vars(guards)["profile_guard_manager"] = lambda root, scope, rounds: 0.0
    cache = getattr(codecache, "CppPythonBindingsCodeCache", None)
    if door < 0 or cache is None or not hasattr(codecache, "_worker_compile_cpp"):
        return
    client = _Client(door)
    _clients[:] = [client]
    stock_compile, stock_load = codecache._worker_compile_cpp, cache._load_library_inner.__func__

    def compile_cpp(lock_path: str, builders: Sequence[Any]) -> None:
        output = builders[0].get_target_file_path() if len(builders) == 1 else ""
        if client.door >= 0 and output.endswith(".so") and not os.path.exists(output):
            command = shlex.split(builders[0].get_command_line())
            sources = [word for word in command if word.endswith(".cpp")]
            if len(sources) == 1 and output in command and _is_kernel(sources[0]):
                client.entries[output] = client.build(sources[0], output, command)
        # What is there by now is not built again.
        stock_compile(lock_path, builders)

    def load_library(kind: Any, path: str, key: str) -> Any:
        entry = client.entries.pop(path, "")
        if entry in ("", kind.entry_function):
            return stock_load(kind, path, key)
        # Python finds a module's entry point by the last part of its name; the function in it has kept its own.
        stock_entry, kind.entry_function = kind.entry_function, entry
        try:
            return stock_load(kind, path, key)
        finally:
            kind.entry_function = stock_entry

    vars(codecache)["_worker_compile_cpp"] = compile_cpp
    cache._load_library_inner = classmethod(load_library)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """This process compiles its kernels itself meanwhile: who needs one after the other gains nothing by company."""
    doors = [client.door for client in _clients]
    for client in _clients:
        client.door = -1
    try:
        yield
    finally:
        for client, door in zip(_clients, doors, strict=True):
            client.door = door


def install_exporter(names: Collection[str]) -> None:
    """Install torch.onnx's shortcuts in this process and those forked from it.

    Three quarters of a small export are spent on parsing the sources of some five hundred functions, none of which
    belongs to the network. Each export gets tables of its own, because a user's translations are entered into them.
    """
    from torch.onnx._internal.exporter import _registration

    registry = getattr(_registration, "ONNXRegistry", None)
    stock = vars(registry).get("from_torchlib") if registry is not None else None
    if "translations" not in names or not isinstance(stock, classmethod):
        return
    made: dict[Any, Any] = {}

    def from_torchlib(kind: Any, *args: Any, **kwargs: Any) -> Any:
        key = (kind, args, tuple(sorted(kwargs.items())))
        if key not in made:
            made[key] = stock.__func__(kind, *args, **kwargs)
        fresh = copy.copy(made[key])
        fresh.functions = {operator: list(found) for operator, found in fresh.functions.items()}
        return fresh

    registry.from_torchlib = classmethod(from_torchlib)  # type: ignore[union-attr]


def _remember_simplified() -> None:
    """Have sympy give what it simplified once again, instead of simplifying it anew.

    With symbolic sizes a seventh of a case is spent there, most of it on expressions that were simplified before: under
    another vector width, for another variable, in another case. An expression is immutable, so it has one answer.
    """
    import sympy

    stock = sympy.simplify
    if hasattr(stock, "cache_info"):
        return
    # True and 1 are equal and not the same to sympy, hence by type.
    remembered = functools.lru_cache(REMEMBERED, typed=True)(stock)

    @functools.wraps(stock)
    def simplify(expr: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or not isinstance(expr, sympy.Expr):
            return stock(expr, *args, **kwargs)  # a matrix, say, which can change
        return remembered(expr)

    vars(simplify)["cache_info"] = remembered.cache_info
    vars(sympy)["simplify"] = simplify


def _is_kernel(source: str) -> bool:
    """Whether a file is of the kind that can be joined: kernels with a Python module around them."""
    with open(source, encoding="utf-8") as file:
        return "PyInit_kernel(" in file.read()


def watched(watch: Callable[[bool], None]) -> None:
    """Have ``watch`` called with True before this process waits for the server, and with False after it."""
    for client in _clients:
        client.watch = watch


def waited() -> float:
    """Seconds that this process has waited for the server."""
    return sum(client.waited for client in _clients)

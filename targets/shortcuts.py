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

from shakeout.targets import vectors

__all__ = [
    "ALWAYS",
    "SHORTCUTS",
    "alone",
    "environment",
    "install",
    "install_exporter",
    "occupied",
    "waited",
    "watched",
]

#: By name, what each does; the order is that of the benchmark.
SHORTCUTS = {
    "collector": "the garbage collector looks less often",
    "guards": "guards are not run once more to measure how long they take",
    "algebra": "what sympy and Inductor have simplified once they remember for longer, and strides are subtracted",
    "repeats": "fake tensors and tables of dtypes that would come out as before are not made again",
    "linker": "mold links, if it is installed",
    "joint": "kernels that several processes wait for are compiled in one translation unit",
    "vectors": "what vectors the CPU has is compiled for once, not by each process that asks",
    "translations": "torch.onnx reads how it translates operators once, not for each export",
    "dispatcher": "torch.export asks the dispatcher for its composite operators again only if there are others",
}

#: Those that need neither a server nor the environment, and pay for whoever compiles a handful of cases.
ALWAYS = ("collector", "guards", "translations", "dispatcher")

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
        #: By output, the name under which a library has what was asked for; nothing where the stock way is left.
        self.entries: dict[str, str] = {}
        self._asked: set[str] = set()
        self._socket: socket.socket | None = None
        self._owner = 0

    def asked(self, output: str) -> bool:
        """Whether there is an answer, or one is still to come."""
        return output in self._asked or output in self.entries

    def ask(self, source: str, output: str, command: Sequence[str]) -> None:
        """Have a kernel compiled, without waiting for it."""
        message = json.dumps({"source": source, "output": output, "command": command}).encode()
        try:
            self._connected().sendall(message)
        except OSError:
            self._leave()
        else:
            self._asked.add(output)

    def wait(self, output: str) -> None:
        """Wait until what was asked for is there, or left to the stock way."""
        if output not in self._asked:
            return
        began = time.monotonic()
        self.watch(True)
        try:
            while output in self._asked:
                if not (data := self._connected().recv(1 << 16)):
                    self._leave()
                    return
                said = json.loads(data)
                self._asked.discard(said["output"])
                self.entries[said["output"]] = said["entry"]
        except OSError:
            self._leave()
        finally:
            self.watch(False)
            self.waited += time.monotonic() - began

    def _leave(self) -> None:
        """The server is gone, or does not answer; it will not be asked again."""
        self.door = -1
        self._asked.clear()

    def occupied(self, busy: bool) -> None:
        """Tell the server whether this process has a case in hand."""
        if self.door >= 0:
            with contextlib.suppress(OSError):  # it is noticed when a kernel is wanted
                self._connected().sendall(json.dumps({"busy": busy}).encode())

    def _connected(self) -> socket.socket:
        if self._socket is None or self._owner != os.getpid():
            # A packet is a request, whole or not at all.
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, socket.socket(fileno=os.dup(self.door)) as door:
                socket.send_fds(door, [b"+"], [theirs.fileno()])
            ours.settimeout(PATIENCE)
            self._socket, self._owner = ours, os.getpid()
            self._asked.clear()
        return self._socket


_clients: list[_Client] = []


def environment(names: Collection[str]) -> dict[str, str]:
    """What must be in the environment before torch is imported, for these shortcuts to have their effect."""
    return {"SYMPY_CACHE_SIZE": str(REMEMBERED)} if "algebra" in names else {}


def install(names: Collection[str], door: int = -1) -> None:
    """Install the shortcuts of ``torch.compile`` in this process and those forked from it.

    Args:
        names: of ``SHORTCUTS``; "linker" and "joint" are the server's, which knows which of them are wanted.
        door: descriptor of the packet socket behind which the server of ``shakeout.targets.joint`` waits; -1 for none.
    """
    import gc

    from torch._dynamo import config, guards

    if "collector" in names:
        gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
        if hasattr(config, "run_gc_after_compile"):
            config.run_gc_after_compile = False
    if "algebra" in names:
        _remember_strides()
        _remember_simplified()
    if "repeats" in names:
        _remember_kinds()
        _remember_rules()
    if "guards" in names and hasattr(guards, "profile_guard_manager"):
        vars(guards)["profile_guard_manager"] = lambda root, scope, rounds: 0.0
    if "vectors" in names:
        vectors.keep()
    if door >= 0:
        _build_elsewhere(door)


def _build_elsewhere(door: int) -> None:
    """Have Inductor ask the server for its kernels."""
    from torch._inductor import codecache

    cache: Any = getattr(codecache, "CppPythonBindingsCodeCache", None)
    if not hasattr(cache, "load_pybinding_async") or not hasattr(codecache, "_worker_compile_cpp"):
        return
    client = _Client(door)
    _clients[:] = [client]
    stock_compile, stock_load = codecache._worker_compile_cpp, cache._load_library_inner.__func__

    def ask(builders: Sequence[Any]) -> str:
        """Ask for a kernel, unless that has been done; its output, or nothing where the server is not asked."""
        output = str(builders[0].get_target_file_path()) if len(builders) == 1 else ""
        if client.door < 0 or client.asked(output) or not output.endswith(".so") or os.path.exists(output):
            return output
        command = shlex.split(builders[0].get_command_line())
        sources = [word for word in command if word.endswith(".cpp")]
        if len(sources) == 1 and output in command and _is_kernel(sources[0]):
            client.ask(sources[0], output, command)
        return output

    def compile_cpp(lock_path: str, builders: Sequence[Any]) -> None:
        output = ask(builders)
        client.wait(output)
        if not os.path.exists(output):
            client.entries.pop(output, None)  # what is built now has its own name
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
    _ask_for_all(client, cache, lambda task: ask(task.args[1]))


def _ask_for_all(client: _Client, cache: Any, submit: Callable[[Any], object]) -> None:
    """Have a graph's kernels all asked for before the first is waited for.

    With one compiling thread Inductor has each kernel compiled where it is defined, so that one with five kernels waits
    for five batches, one after the other. With several it begins them all and waits where the module's definitions end
    (``AsyncCompile.wait``); that is done here, with the server in the place of its pool of processes.
    """
    from torch._inductor import async_compile

    compiler: Any = async_compile.AsyncCompile
    future = getattr(async_compile, "LambdaFuture", None)
    names = ("cpp_pybinding", "wait")
    if future is None or not all(hasattr(compiler, name) for name in names):
        return
    stock_pybinding, stock_wait = compiler.cpp_pybinding, compiler.wait

    def begin(task: Any) -> None:
        submit(task)  # without a future: the task itself waits when its library is loaded

    class Kernel(future):  # type: ignore[valid-type, misc]
        pass

    def cpp_pybinding(self: Any, argtypes: Any, source_code: str) -> Any:
        if client.door < 0:
            return stock_pybinding(self, argtypes, source_code)
        return Kernel(cache.load_pybinding_async(argtypes, source_code, submit_fn=begin))

    def wait(self: Any, scope: dict[str, Any]) -> None:
        for name, kernel in list(scope.items()):
            if isinstance(kernel, Kernel):
                scope[name] = kernel.result()
        stock_wait(self, scope)

    compiler.cpp_pybinding, compiler.wait = cpp_pybinding, wait


def install_exporter(names: Collection[str]) -> None:
    """Install the shortcuts of torch.export and torch.onnx in this process and those forked from it, once."""
    if "dispatcher" in names:
        _remember_composites()
    if "translations" in names:
        _remember_translations()


@functools.cache
def _remember_composites() -> None:
    """Have operators that the dispatcher decomposes looked up once.

    Whenever decompositions are run, export makes sure that Python knows all of some eight hundred such operators, once
    for each of some fifty namespaces. Those of torch it knows for ever: as long as the dispatcher's list is what it was
    there is nothing to do. A user's may be taken away and come back, so where there are some it is done every time.
    """
    from torch._C import _dispatch_get_registrations_for_dispatch_key as registered
    from torch._export import utils

    stock = getattr(utils, "_materialize_cpp_cia_ops", None)
    if stock is None:
        return
    own = {name.partition("::")[0] for name in registered("CompositeImplicitAutograd")}
    known: list[str] = []

    def materialize() -> None:
        now = registered("CompositeImplicitAutograd")
        if now != known:
            stock()
            known[:] = now if all(name.partition("::")[0] in own for name in now) else ()

    vars(utils)["_materialize_cpp_cia_ops"] = materialize


@functools.cache
def _remember_translations() -> None:
    """Have torch.onnx's tables of translations made once.

    Three quarters of a small export are spent on parsing the sources of some five hundred functions, none of which
    belongs to the network. Each export gets tables of its own, because a user's translations are entered into them.
    """
    from torch.onnx._internal.exporter import _registration

    registry = getattr(_registration, "ONNXRegistry", None)
    stock = vars(registry).get("from_torchlib") if registry is not None else None
    if not isinstance(stock, classmethod):
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


def _remember_strides() -> None:
    """Have Inductor's CPU backend subtract where it simplifies to learn by how much an index grows with a variable.

    An index without functions is a polynomial; if what is left of the difference of two is a single product, sympy has
    nothing to simplify in it. Every other index goes the stock way, whose answers are remembered for longer.
    """
    import sympy
    from torch._inductor import sizevars
    from torch._inductor.codegen import cpp

    names = ("stride_at_vec_range", "stride_at", "simplify_index_in_vec_range")
    stock: dict[str, Any] = {name: getattr(getattr(sizevars, name, None), "__wrapped__", None) for name in names}
    if None in stock.values():
        return
    remembered = {name: functools.lru_cache(REMEMBERED)(function) for name, function in stock.items()}

    @functools.lru_cache(REMEMBERED)
    def stride(index: Any, var: Any, vec_length: int | None = None) -> Any:
        if isinstance(index, sympy.Expr) and isinstance(var, sympy.Symbol) and _is_polynomial(index):
            growth = sympy.expand(index.xreplace({var: var + 1}) - index)
            if not growth.is_Add:
                return growth
        return remembered["stride_at_vec_range"](index, var, vec_length)

    for name in names[1:]:
        setattr(sizevars, name, remembered[name])
    for module in (sizevars, cpp):
        vars(module)["stride_at_vec_range"] = stride


def _is_polynomial(expression: Any) -> bool:
    """Whether an expression is made of integers and symbols by sums, products and powers of small constants."""
    import sympy

    pending = [expression]
    while pending:
        part = pending.pop()
        if part.is_Add or part.is_Mul:
            pending.extend(part.args)
        elif part.is_Pow:
            base, power = part.args
            if not (power.is_Integer and 0 < power <= 4):
                return False
            pending.append(base)
        elif not isinstance(part, sympy.Symbol | sympy.Integer):
            return False
    return True


def _remember_kinds() -> None:
    """Spare the cache of fake tensors the tensor that it makes with each new entry.

    It makes it to see that a tensor made from the entry has the dispatch keys of the original. Those hang on what the
    key below holds and not on the sizes, which are what is dear where they are symbols. A combination that has been
    seen to agree is not tried again; with sizes that depend on data the stock way is taken, for it may refuse them.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    stock = vars(FakeTensorMode).get("_get_output_info_for_cache_entry")
    if stock is None or "_output_from_cache_entry" not in vars(FakeTensorMode):
        return
    known: dict[Any, Any] = {}

    def info(self: Any, state: Any, key: Any, func: Any, args: Any, kwargs: Any, output: Any) -> Any:
        environment = self.shape_env
        if type(output) is not FakeTensor or (environment is not None and environment.unbacked_symint_counter):
            return stock(self, state, key, func, args, kwargs, output)
        kind = (
            output.dtype,
            output.device,
            output.layout,
            output.requires_grad,
            output.is_conj(),
            output.is_neg(),
            output.is_inference(),
            torch.is_inference_mode_enabled(),
            getattr(func, "is_view", None),
        )
        keys = torch._C._dispatch_key_set(output)
        if known.get(kind) != keys:
            found = stock(self, state, key, func, args, kwargs, output)
            known[kind] = keys
            return found
        # The method asks itself for the tensor that it makes, and compares that one's keys with the original's.
        self._output_from_cache_entry = lambda *_: output
        try:
            return stock(self, state, key, func, args, kwargs, output)
        finally:
            del self._output_from_cache_entry

    vars(info)["stock"] = stock
    FakeTensorMode._get_output_info_for_cache_entry = info  # type: ignore[method-assign]


def _remember_rules() -> None:
    """Have Inductor's handler of dtypes, of which there is one, fill its table once and not for each operation."""
    import torch._inductor.codegen.common as common
    import torch._inductor.utils as utils
    from torch._inductor import dtype_propagation

    handler: Any = getattr(dtype_propagation, "DtypePropagationOpsHandler", None)
    tables: tuple[Any, Any] = (
        getattr(utils, "op_dtype_propagation_rules", None),
        getattr(common, "pointwise_overrides_data", None),
    )
    if not hasattr(handler, "_instance") or None in tables:
        return
    stock = handler.__init__
    filled: list[tuple[int, ...]] = [()]

    def init(self: Any) -> None:
        sizes = tuple(map(len, tables))
        if filled[0] != sizes:  # rules are entered as the modules are imported that have operations
            stock(self)
            filled[0] = sizes

    vars(init)["stock"] = stock
    handler.__init__ = init


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


@contextlib.contextmanager
def occupied() -> Iterator[None]:
    """While a case is in hand: the server need not wait for kernels of those who have none."""
    for client in _clients:
        client.occupied(True)
    try:
        yield
    finally:
        for client in _clients:
            client.occupied(False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Kernels are compiled here, the stock way: for whoever has nothing else to do until one is there."""
    doors = [client.door for client in _clients]
    for client in _clients:
        client.door = -1
    try:
        yield
    finally:
        for client, door in zip(_clients, doors, strict=True):
            client.door = door


def watched(watch: Callable[[bool], None]) -> None:
    """Have ``watch`` called with True before this process waits for the server, and with False after it."""
    for client in _clients:
        client.watch = watch


def waited() -> float:
    """Seconds that this process has waited for the server."""
    return sum(client.waited for client in _clients)

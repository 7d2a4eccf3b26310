"""Compilers that do only so many of the things of one kind: passes, patterns, lowerings, fusions, optimisers.

Each function is the hook of a part of a target's ladder (``shakeout.targets.target.Part``): as long as its context is
open, the compiler of this process asks a gate before it does such a thing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from shakeout.targets.target import Gate

__all__ = [
    "decompositions",
    "fusions",
    "joint_graph_passes",
    "lowerings",
    "ort_optimisers",
    "pattern_name",
    "patterns",
    "post_grad_passes",
    "pre_grad_passes",
    "raising",
    "tvm_passes",
]

# --- Inductor ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _compiling(gate: Gate) -> Iterator[None]:
    """Count anew whenever a script forgets what was compiled; no graph from a cache: it knows nothing of the limit."""
    import torch
    from torch._functorch import config as functorch
    from torch._inductor import config

    right = torch.compiler.reset

    def reset() -> None:
        gate.begin()
        right()

    with (
        config.patch(fx_graph_cache=False, fx_graph_remote_cache=False),
        functorch.patch(enable_autograd_cache=False),
        mock.patch.object(torch.compiler, "reset", reset),
    ):
        yield


#: Passes that take apart what no lowering knows (``decompose_auto_functionalized``): without one nothing is compiled,
#: so that what stands before it in a list could not be told from what is to blame.
_NEEDED = "decompose_"


def _bisected(backend: str, subsystem: str) -> Callable[[Gate], contextlib.AbstractContextManager[None]]:
    """The places at which torch's own CompilerBisector can leave something out."""

    @contextlib.contextmanager
    def hook(gate: Gate) -> Iterator[None]:
        from torch._inductor.compiler_bisector import CompilerBisector

        def disabled(of: str, part: str, info: Callable[[], str] | None = None) -> bool:
            name = info() if info is not None else part
            return (of, part) == (backend, subsystem) and not name.startswith(_NEEDED) and not gate(name)

        with _compiling(gate), mock.patch.object(CompilerBisector, "disable_subsystem", disabled):
            yield

    return hook


decompositions = _bisected("aot_eager_decomp_partition", "decomposition")
pre_grad_passes = _bisected("inductor", "pre_grad_passes")
joint_graph_passes = _bisected("inductor", "joint_graph_passes")
post_grad_passes = _bisected("inductor", "post_grad_passes")


@contextlib.contextmanager
def lowerings(gate: Gate) -> Iterator[None]:
    """Lowerings of graph nodes; one that is left out becomes a call of the eager kernel."""
    from torch._inductor.compiler_bisector import CompilerBisector
    from torch._inductor.virtualized import V

    def disabled(of: str, part: str, info: Callable[[], str] | None = None) -> bool:
        if (of, part) != ("inductor", "lowerings"):
            return False
        node = V.current_node
        return not gate(f"{node.target} ({node.name})")

    with _compiling(gate), mock.patch.object(CompilerBisector, "disable_subsystem", disabled):
        yield


@contextlib.contextmanager
def patterns(gate: Gate) -> Iterator[None]:
    """Single matches of the pattern matcher, in all its passes; one whose check raises counts as one as well."""
    from torch._inductor import pattern_matcher

    passes = pattern_matcher.PatternMatcherPass
    right = passes.apply

    def applied(self: Any, graph: Any) -> int:
        with contextlib.ExitStack() as left_out:
            while True:
                try:
                    return right(self, graph)
                except Exception as error:
                    entry, node = _checked(error, right)
                    if entry is None or gate(f"{pattern_name(entry)} at {node.target} ({node.name})"):
                        raise
                    left_out.enter_context(mock.patch.object(entry, "extra_check", return_value=False))

    with _compiling(gate), contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(passes, "apply", applied))
        for kind in (
            pattern_matcher.LoweringPatternEntry,
            pattern_matcher.GraphPatternEntry,
            pattern_matcher.ReplacementPatternEntry,
        ):

            def apply(entry: Any, match: Any, graph: Any, node: Any, _right: Any = kind.apply) -> None:
                if gate(f"{pattern_name(entry)} at {node.target} ({node.name})"):
                    _right(entry, match, graph, node)

            stack.enter_context(mock.patch.object(kind, "apply", apply))
        yield


def _checked(error: Exception, matcher: Callable[..., int]) -> tuple[Any, Any]:
    """The pattern whose check of a match raised, and the node where it matched; nothing if something else raised."""
    trace = error.__traceback__
    while trace is not None:
        inner = trace.tb_next
        if trace.tb_frame.f_code is matcher.__code__ and inner is not None and inner.tb_frame.f_code.co_name != "apply":
            values = trace.tb_frame.f_locals
            return values.get("entry"), values.get("node")
        trace = inner
    return None, None


def pattern_name(entry: Any) -> str:
    """What a pattern is called, and where it says what takes the place of a match.

    One with a handler is called as that; one that was traced, as the function that it was traced from. That and the
    function that is traced in its place are no attributes of an entry: torch's own check of a match holds them.
    Where it holds them no more, the name that torch gives the pattern is what is left, if there is one.
    """
    handler = getattr(entry, "handler", None)
    if callable(handler):
        return f"{_called(handler)}{_defined(handler)}"
    held = _held(getattr(entry, "extra_check", None))
    search, replacement = held.get("search_fn"), held.get("replace_fn")
    if not callable(search):
        return str(getattr(entry, "pattern_name", None) or type(entry).__name__)
    if not callable(replacement):
        return f"{_called(search)}{_defined(search)}"
    return f"{_called(search)}, replaced by {_called(replacement).rpartition('.')[2]}{_defined(replacement)}"


def _held(function: Any) -> dict[str, Any]:
    """The values that a function of Python takes from around it, by name."""
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):  # it is none, or a variable of it has no value yet
        return {}


def _plain(function: Any) -> Any:
    """The function behind what only hands arguments on to it: as a partial one, as its wrapper, or around either."""
    while True:
        inner = getattr(function, "func", None) or getattr(function, "__wrapped__", None)
        if inner is None:
            held = list(_held(function).values())
            if len(held) != 1 or not isinstance(held[0], functools.partial):
                return function
            inner = held[0]
        function = inner


def _called(function: Any) -> str:
    """The name of a function, with that of the file's module before it."""
    function = _plain(function)
    module = str(getattr(function, "__module__", "")).rpartition(".")[2]
    return f"{module}.{getattr(function, '__qualname__', type(function).__name__)}".replace("<locals>.", "")


def _defined(function: Any) -> str:
    """File, below torch's own folder if it lies there, and first line of a function; empty where it has none."""
    import torch

    code = getattr(_plain(function), "__code__", None)
    if code is None:
        return ""
    path, packages = Path(code.co_filename), Path(torch.__file__).parents[1]
    return f" ({path.relative_to(packages) if path.is_relative_to(packages) else path.name}:{code.co_firstlineno})"


@contextlib.contextmanager
def fusions(gate: Gate) -> Iterator[None]:
    """Pairs of scheduler nodes that may be fused."""
    from torch._inductor.scheduler import Scheduler

    right = Scheduler.can_fuse

    def can_fuse(self: Any, first: Any, second: Any, *args: Any, **kwargs: Any) -> bool:
        if not right(self, first, second, *args, **kwargs):
            return False
        # Asked again and again for the same pair.
        return gate(f"{_node(first)} with {_node(second)}", (first.get_name(), second.get_name()))

    with _compiling(gate), mock.patch.object(Scheduler, "can_fuse", can_fuse):
        yield


def _node(node: Any) -> str:
    """A scheduler node by what it computes."""
    origins: dict[str, None] = {}
    for one in node.get_nodes():
        for origin in getattr(one.node, "origins", ()) or ():
            if origin.op == "call_function":
                origins[origin.name] = None
    return f"{node.get_name()} ({', '.join(sorted(origins)[:4]) or '?'})"


@contextlib.contextmanager
def raising(gate: Gate) -> Iterator[None]:
    """Operators at which Inductor raises between the graph and its code.

    What raises while the types of a changed graph are computed again is left out as told, since lowering goes without.
    """
    from torch._inductor import compile_fx
    from torch._inductor.fx_utils import FakeTensorUpdater

    right, update = compile_fx.fx_codegen_and_compile, FakeTensorUpdater.incremental_update

    def compiled(*args: Any, **kwargs: Any) -> Any:
        try:
            return right(*args, **kwargs)
        except Exception as error:
            gate(_raised_at(error), id(error))
            raise

    def updated(self: Any) -> int:
        try:
            return update(self)
        except Exception as error:
            if gate(_raised_at(error), id(error)):
                raise
            return 0

    with (
        _compiling(gate),
        mock.patch.object(compile_fx, "fx_codegen_and_compile", compiled),
        mock.patch.object(FakeTensorUpdater, "incremental_update", updated),
    ):
        yield


def _raised_at(error: Exception) -> str:
    """The node of a graph that Inductor had in hand when it raised, and the function of its that handled it."""
    import torch

    folder, found = Path(torch.__file__).parent, ""
    trace = error.__traceback__
    while trace is not None:
        code, values = trace.tb_frame.f_code, trace.tb_frame.f_locals
        path = Path(code.co_filename)
        node = next((values[name] for name in ("node", "n") if isinstance(values.get(name), torch.fx.Node)), None)
        if path.is_relative_to(folder / "_inductor") and node is not None and node.op == "call_function":
            place = f"{path.relative_to(folder.parent)}:{trace.tb_lineno}"
            found = f"{node.target} ({node.name}), in {code.co_qualname} ({place})"
        trace = trace.tb_next
    return found


# --- TVM, ONNX Runtime ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tvm_passes(gate: Gate) -> Iterator[None]:
    """Runs of those passes on which no other rests."""
    import tvm

    from shakeout.targets.tvm import OPTIONAL

    @tvm.instrument.pass_instrument
    class Limited:
        def should_run(self, module: Any, info: Any) -> bool:
            name = str(info.name)
            return name.rpartition(".")[2] not in optional or gate(name)

    optional = {name.rpartition(".")[2] for name in OPTIONAL}
    right = tvm.transform.PassContext.__init__

    def init(self: Any, *args: Any, instruments: Any = None, **kwargs: Any) -> None:
        gate.begin()
        right(self, *args, instruments=[*(instruments or ()), Limited()], **kwargs)

    with mock.patch.object(tvm.transform.PassContext, "__init__", init):
        yield


@contextlib.contextmanager
def ort_optimisers(gate: Gate) -> Iterator[None]:
    """The graph optimisers that can be left out, in the order of their table; nothing tells which did something."""
    import onnxruntime

    from shakeout.targets.onnxruntime import OPTIMISERS

    left_out = [name for name in OPTIMISERS if not gate(name)]
    right = onnxruntime.InferenceSession

    def session(*args: Any, disabled_optimizers: Any = (), **kwargs: Any) -> Any:
        return right(*args, disabled_optimizers=[*(disabled_optimizers or ()), *left_out], **kwargs)

    with mock.patch.object(onnxruntime, "InferenceSession", session):
        yield

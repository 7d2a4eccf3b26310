"""Compilers that tell what they did: which passes changed something and how, which patterns fired.

Each function is the witness of a target (``shakeout.targets.target.Witness``). From then on, until its process ends,
the compiler tells; what it compiles is the same. What fails in here is left untold, since it must not fail a case.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

from shakeout.targets.target import Tell

__all__ = ["change", "inductor", "onnxruntime", "tvm"]

_P = ParamSpec("_P")


def change(before: Counter[str], after: Counter[str]) -> str:
    """How many there are more or less of each kind of node, up to the next power of two: ``add +2, mul -1``."""
    said = []
    for kind in sorted({*before, *after}):
        if more := after[kind] - before[kind]:
            said.append(f"{kind} {'+' if more > 0 else '-'}{1 << (abs(more) - 1).bit_length()}")
    return ", ".join(said)


def _quietly(function: Callable[_P, None]) -> Callable[_P, None]:
    """The function, that gives up where it would raise."""

    @functools.wraps(function)
    def quiet(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with contextlib.suppress(Exception):
            function(*args, **kwargs)

    return quiet


# --- Inductor ---------------------------------------------------------------------------------------------------------

#: Of Dynamo's counters, the tables whose rows are a limited number of names; others name shapes or reasons.
_COUNTERS = ("inductor", "aot_autograd")


def inductor(tell: Tell) -> Callable[[], None]:
    """Patterns that fired, passes that changed a graph of torch.fx and how, lowerings that were used, counters."""
    from torch._dynamo.utils import counters
    from torch._inductor import graph, lowering
    from torch.fx.passes.graph_transform_observer import GraphTransformObserver

    _patterns(tell)
    # Around the one place through which all passes of torch.fx go.
    enter, leave = GraphTransformObserver.__enter__, GraphTransformObserver.__exit__
    begun: list[tuple[Any, Any]] = []

    def entered(self: Any) -> Any:
        found = None
        with contextlib.suppress(Exception):
            found = _shape_of(self.gm.graph)
        begun.append((self, found))
        return enter(self)

    @_quietly
    def compared(self: Any) -> None:
        while begun:
            one, before = begun.pop()
            if one is self:
                break
        else:
            return
        name = str(self.passname)
        tell("passes", name, False)
        after = _shape_of(self.gm.graph)
        if before is not None and after != before:
            tell("passes", name)
            tell("effects", f"{name}: {change(_nodes(before), _nodes(after)) or 'moved'}")

    def left(self: Any, *error: Any) -> Any:
        compared(self)
        return leave(self, *error)

    GraphTransformObserver.__enter__ = entered  # type: ignore[method-assign]
    GraphTransformObserver.__exit__ = left  # type: ignore[method-assign]

    call = graph.GraphLowering.call_function
    noted = _quietly(lambda target: tell("lowerings", str(target)))

    def call_function(self: Any, target: Any, *args: Any) -> Any:
        if target in lowering.lowerings:
            noted(target)
        return call(self, target, *args)

    graph.GraphLowering.call_function = call_function  # type: ignore[method-assign,assignment]
    for target in lowering.lowerings:
        if type(target).__name__ == "OpOverload":
            tell("lowerings", str(target), False)

    last: Counter[str] = Counter()

    @_quietly
    def after_case() -> None:
        now = Counter({f"{table}.{name}": int(n) for table in _COUNTERS for name, n in counters[table].items()})
        for name, count in now.items():
            # Whoever resets torch clears them.
            if (more := count - last[name] if count >= last[name] else count) > 0:
                tell("counters", f"{name}: {1 << (more - 1).bit_length()}")
        last.clear()
        last.update(now)

    return after_case


def _shape_of(graph: Any) -> list[tuple[str, Any, tuple[str, ...]]]:
    return [(node.name, node.target, tuple(given.name for given in node.all_input_nodes)) for node in graph.nodes]


def _nodes(shape: list[tuple[str, Any, tuple[str, ...]]]) -> Counter[str]:
    """Nodes by what they call; inputs and outputs, which are called by their names, count alike."""
    return Counter(
        "placeholder" if isinstance(target, str) else getattr(target, "__name__", str(target)) for _, target, _ in shape
    )


def _patterns(tell: Tell) -> None:
    """Entries of the pattern matcher that there are, and those that are applied."""
    from torch._inductor import pattern_matcher

    from shakeout.targets.limits import pattern_name

    names: dict[int, tuple[Any, str]] = {}

    def name(entry: Any) -> str:
        if id(entry) not in names:
            names[id(entry)] = entry, pattern_name(entry)
        return names[id(entry)][1]

    fired = _quietly(lambda entry: tell("patterns", name(entry)))
    registered = _quietly(lambda entry: tell("patterns", name(entry), False))
    for kind in (
        pattern_matcher.LoweringPatternEntry,
        pattern_matcher.GraphPatternEntry,
        pattern_matcher.ReplacementPatternEntry,
    ):

        def apply(entry: Any, *args: Any, _right: Any = kind.apply) -> None:
            fired(entry)
            _right(entry, *args)

        kind.apply = apply  # type: ignore[method-assign,assignment]
    # What is registered when a module is first used comes later.
    register = pattern_matcher.PatternEntry.register

    def registering(entry: Any, *args: Any, **kwargs: Any) -> None:
        register(entry, *args, **kwargs)
        registered(entry)

    pattern_matcher.PatternEntry.register = registering  # type: ignore[method-assign,assignment]
    for entry in _registered(pattern_matcher.PatternMatcherPass):
        registered(entry)


def _registered(matcher: type) -> Iterator[Any]:
    """The entries of all pattern matchers that stand in modules of Inductor, each once."""
    seen: set[int] = set()
    stack = [
        value
        for name, module in list(sys.modules.items())
        if name.startswith("torch._inductor.") and module is not None
        for value in list(vars(module).values())
    ]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        if isinstance(one, matcher):
            seen.add(id(one))
            for entries in one.patterns.values():  # type: ignore[attr-defined]
                for entry in entries:
                    if id(entry) not in seen:
                        seen.add(id(entry))
                        yield entry
        elif isinstance(one, list | tuple | dict):
            values = list(one.values()) if isinstance(one, dict) else list(one)
            stack += [value for value in values if isinstance(value, matcher)]


# --- TVM --------------------------------------------------------------------------------------------------------------


def tvm(tell: Tell) -> None:
    """Passes that changed a module, and how."""
    import tvm
    import tvm_ffi

    @tvm.ir.instrument.pass_instrument
    class Told:
        """A module is the same if its structural hash is; whatever a callback raised would end the build."""

        def __init__(self) -> None:
            self.begun: list[tuple[int, Any]] = []
            self.last: tuple[Any, int] | None = None

        def run_before_pass(self, module: Any, info: Any) -> None:
            found: tuple[int, Any] = (0, None)
            with contextlib.suppress(Exception):
                # The pass before it has left this very module.
                known = self.last is not None and self.last[0].same_as(module)
                found = (self.last[1] if known and self.last else tvm_ffi.structural_hash(module)), module
            self.begun.append(found)

        def run_after_pass(self, module: Any, info: Any) -> None:
            with contextlib.suppress(Exception):
                before, old = self.begun.pop()
                name = str(info.name)
                # One that runs others is no decision of its own.
                if name in ("sequential", "_pipeline"):
                    return
                tell("passes", name, False)
                after = tvm_ffi.structural_hash(module)
                self.last = module, after
                if old is not None and after != before:
                    tell("passes", name)
                    tell("effects", f"{name}: {change(_calls(old), _calls(module)) or 'inside functions'}")

    right = tvm.transform.PassContext.__init__

    def init(self: Any, *args: Any, instruments: Any = None, **kwargs: Any) -> None:
        right(self, *args, instruments=[*(instruments or ()), Told()], **kwargs)

    tvm.transform.PassContext.__init__ = init


def _calls(module: Any) -> Counter[str]:
    """A module's functions by kind, and what those of Relax call."""
    from tvm import relax

    found: Counter[str] = Counter()

    def visit(node: Any) -> None:
        if isinstance(node, relax.Call):
            found[str(getattr(node.op, "name", type(node.op).__name__)) if _is_operator(node.op) else "call"] += 1

    for function in module.functions.values():
        found[type(function).__name__] += 1
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function, visit)
    return found


def _is_operator(op: Any) -> bool:
    """Whether it is an operator, and no function, whose name says nothing."""
    return type(op).__name__ == "Op"


# --- ONNX Runtime -----------------------------------------------------------------------------------------------------

#: What it writes to its log, at the level ``info``, of each transformer of graphs that it ran.
_TRANSFORMER = re.compile(rb"GraphTransformer (\S+) modified: ([01])")
_INFO = 1

#: Bytes of log that are looked at for one session: a large model has some hundred lines.
_LOGGED = 1 << 22


def onnxruntime(tell: Tell) -> None:
    """Transformers of graphs that changed one: they stand in the log, which goes to the standard error."""
    import onnxruntime

    right = onnxruntime.InferenceSession.__init__

    @functools.wraps(right)
    def init(self: Any, path_or_bytes: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
        begin = _written()
        if begin is None:
            right(self, path_or_bytes, sess_options, *args, **kwargs)
            return
        options = onnxruntime.SessionOptions() if sess_options is None else sess_options
        level = options.log_severity_level
        options.log_severity_level = min(level, _INFO)
        try:
            right(self, path_or_bytes, options, *args, **kwargs)
        finally:
            options.log_severity_level = level
            read(begin)

    @_quietly
    def read(begin: int) -> None:
        with open("/proc/self/fd/2", "rb") as file:
            file.seek(begin)
            logged = file.read(_LOGGED)
        for name, modified in _TRANSFORMER.findall(logged):
            tell("transformers", name.decode(errors="replace"), modified == b"1")

    onnxruntime.InferenceSession.__init__ = init


def _written() -> int | None:
    """How much stands in the file that is the standard error; None where it is none that can be read."""
    with contextlib.suppress(OSError):
        found = os.fstat(2)
        return found.st_size if stat.S_ISREG(found.st_mode) else None
    return None

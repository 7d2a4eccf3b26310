"""Compilers that do only so many of the things of one kind: passes, patterns, lowerings, fusions.

Inside a worker the limit stays until the worker ends, so each such job has a worker of its own. What is counted is told
line by line as it happens, because a compiler may die before it is done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from shakeout.fuzz.jobs import Trial

__all__ = ["HOOKS", "Gate", "Limit", "limit_process", "limited"]


@dataclass(frozen=True, slots=True)
class Limit:
    """How much of what a compiler may do.

    Attributes:
        kind: one of ``HOOKS``.
        most: only so many, in the order in which the compiler comes to them; None for all.
        without: the one with this number, counted from 0, is left out; None for none.
    """

    kind: str
    most: int | None = None
    without: int | None = None


@dataclass(slots=True)
class Gate:
    """Decides about one thing after the other.

    Attributes:
        limit: what is allowed.
        record: told of each thing, allowed or not, while the program is compiled for the first time.
        count: that came so far.
        rounds: how often the program was compiled; an oracle may want to see it twice.
        seen: what was decided, by key.
    """

    limit: Limit
    record: Callable[[str], None] = lambda name: None
    count: int = 0
    rounds: int = 0
    seen: dict[Any, bool] = field(default_factory=dict)

    def begin(self) -> None:
        """The program is compiled anew: count from the start."""
        self.rounds += 1
        self.count = 0
        self.seen.clear()

    def __call__(self, name: str, key: Any = None) -> bool:
        """Whether the compiler may do it; what comes again under the same key is decided as before."""
        if key is not None and key in self.seen:
            return self.seen[key]
        allowed = (self.limit.most is None or self.count < self.limit.most) and self.count != self.limit.without
        self.count += 1
        if key is not None:
            self.seen[key] = allowed
        if self.rounds < 2:
            self.record(" ".join(name.split()))
        return allowed


# --- for workers ------------------------------------------------------------------------------------------------------


def limit_process(job: Trial) -> None:
    """Limit the compilers of this process from now on, and write down what they come to."""
    if job.limit:
        gate = Gate(Limit(job.limit, job.most, job.without), _written(Path(job.record)))
        in_force.append(HOOKS[job.limit](gate))
        in_force[-1].__enter__()


#: Limits of this process; a context that nobody holds would end.
in_force: list[contextlib.AbstractContextManager[Any]] = []


def _written(path: Path) -> Callable[[str], None]:
    file = path.open("w", encoding="utf-8")

    def record(name: str) -> None:
        file.write(name + "\n")
        file.flush()

    return record


@contextlib.contextmanager
def limited(limit: Limit | None) -> Iterator[list[str]]:
    """Limit the compilers of this process meanwhile; what they came to, in order."""
    names: list[str] = []
    with HOOKS[limit.kind](Gate(limit, names.append)) if limit is not None else contextlib.nullcontext():
        yield names


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


def _bisected(backend: str, subsystem: str) -> Callable[[Gate], contextlib.AbstractContextManager[None]]:
    """The places at which torch's own CompilerBisector can leave something out."""

    @contextlib.contextmanager
    def hook(gate: Gate) -> Iterator[None]:
        from torch._inductor.compiler_bisector import CompilerBisector

        def disabled(of: str, part: str, info: Callable[[], str] | None = None) -> bool:
            return (of, part) == (backend, subsystem) and not gate(info() if info is not None else part)

        with _compiling(gate), mock.patch.object(CompilerBisector, "disable_subsystem", disabled):
            yield

    return hook


@contextlib.contextmanager
def _lowerings(gate: Gate) -> Iterator[None]:
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
def _patterns(gate: Gate) -> Iterator[None]:
    """Single matches of the pattern matcher, in all its passes."""
    from torch._inductor import pattern_matcher

    with _compiling(gate), contextlib.ExitStack() as stack:
        for kind in (
            pattern_matcher.LoweringPatternEntry,
            pattern_matcher.GraphPatternEntry,
            pattern_matcher.ReplacementPatternEntry,
        ):

            def apply(entry: Any, match: Any, graph: Any, node: Any, _right: Any = kind.apply) -> None:
                if gate(f"{_pattern(entry)} at {node.target} ({node.name})"):
                    _right(entry, match, graph, node)

            stack.enter_context(mock.patch.object(kind, "apply", apply))
        yield


def _pattern(entry: Any) -> str:
    """The name of a pattern: of its handler, or of the function that it searches for."""
    function = getattr(entry, "handler", None)
    if function is None:
        return str(getattr(entry, "pattern_name", None) or type(entry).__name__)
    function = getattr(function, "func", function)
    module = str(getattr(function, "__module__", "")).rpartition(".")[2]
    return f"{module}.{getattr(function, '__qualname__', function)}".replace("<locals>.", "")


@contextlib.contextmanager
def _fusions(gate: Gate) -> Iterator[None]:
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


# --- TVM, ONNX Runtime ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _tvm_passes(gate: Gate) -> Iterator[None]:
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
def _ort_optimisers(gate: Gate) -> Iterator[None]:
    """The graph optimisers that can be left out, in the order of their table; nothing tells which did something."""
    import onnxruntime

    from shakeout.targets.onnxruntime import OPTIMISERS

    left_out = [name for name in OPTIMISERS if not gate(name)]
    right = onnxruntime.InferenceSession

    def session(*args: Any, disabled_optimizers: Any = (), **kwargs: Any) -> Any:
        return right(*args, disabled_optimizers=[*(disabled_optimizers or ()), *left_out], **kwargs)

    with mock.patch.object(onnxruntime, "InferenceSession", session):
        yield


#: What can be limited, by kind.
HOOKS: dict[str, Callable[[Gate], contextlib.AbstractContextManager[Any]]] = {
    "decomposition": _bisected("aot_eager_decomp_partition", "decomposition"),
    "pre_grad_passes": _bisected("inductor", "pre_grad_passes"),
    "joint_graph_passes": _bisected("inductor", "joint_graph_passes"),
    "post_grad_passes": _bisected("inductor", "post_grad_passes"),
    "patterns": _patterns,
    "fusions": _fusions,
    "lowerings": _lowerings,
    "tvm passes": _tvm_passes,
    "optimisers": _ort_optimisers,
}

"""Faults in Inductor: its lowerings, the C++ that it writes, its passes over graphs.

Each graph is compiled without any fault and once with each that is planted; all run, and the canaries compare.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from tests.faults.fault import Canary, Fault, differ, inputs, numbers, twins

aten = torch.ops.aten
Patch = Callable[[Canary], contextlib.AbstractContextManager[Any]]


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """No graph from a cache: it knows of no fault. Headers stay, which ``force_disable_caches`` compiles anew."""
    from torch._functorch import config as functorch
    from torch._inductor import config

    with (
        config.patch(fx_graph_cache=False, fx_graph_remote_cache=False),
        functorch.patch(enable_autograd_cache=False, enable_remote_autograd_cache=False),
    ):
        yield


@dataclass(frozen=True, slots=True)
class Compiled:
    """What is patched while Inductor compiles a graph; the patch tells the canary that it was reached."""

    patch: Patch

    @contextlib.contextmanager
    def planted(self, canary: Canary) -> Iterator[None]:
        """Compile every graph meanwhile with and without the patch."""
        from torch._inductor import compile_fx

        _PLANTED.append((self.patch, canary))
        try:
            with contextlib.ExitStack() as stack:
                if len(_PLANTED) == 1:
                    compiled = functools.partial(_compiled, compile_fx._compile_fx_inner)
                    stack.enter_context(mock.patch.object(compile_fx, "_compile_fx_inner", compiled))
                    stack.enter_context(uncached())
                yield
        finally:
            _PLANTED.remove((self.patch, canary))


_PLANTED: list[tuple[Patch, Canary]] = []


def _compiled(make: Callable[..., Any], module: torch.fx.GraphModule, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """A graph as Inductor compiles it, with what is planted; and once for each fault that is planted."""
    tracing = torch._guards.TracingContext.try_get()
    told = tracing.output_strides if tracing is not None else None

    def again() -> Callable[..., Any]:
        if told:
            told.clear()  # each compilation tells them again
        made: Callable[..., Any] = make(copy.deepcopy(module), *args, **kwargs)
        return made

    right = again()
    strides = list(told or ())
    wrong: list[tuple[Callable[..., Any], Canary]] = []
    for patch, canary in _PLANTED:
        reached = canary.reached
        try:
            with patch(canary):
                made = again()
        except Exception:
            canary.triggered += canary.reached > reached
            if canary.effect:
                raise
            continue
        if canary.reached > reached:
            wrong.append((made, canary))
    if told is not None:
        told[:] = strides

    def run(given: Sequence[Any]) -> Any:
        held = list(given)
        state = torch.get_rng_state()
        right_held = twins(held) if any(canary.effect for _, canary in wrong) else held
        kept = twins(held)
        outputs = list(right(list(right_held)))
        chosen = outputs
        for one, canary in wrong:
            torch.set_rng_state(state)
            wrong_held = held if canary.effect else twins(kept)
            try:
                shown = list(one(list(wrong_held)))
            except Exception:
                canary.triggered += 1
                if canary.effect:
                    raise
                continue
            canary.triggered += differ(shown, outputs, wrong_held, right_held)
            chosen = shown if canary.effect else chosen
        return chosen

    run._boxed_call = True  # type: ignore[attr-defined]
    return run


def lowering(operator: Any, wrong: Callable[..., Any], when: Callable[..., bool] = lambda *a, **k: True) -> Patch:
    """Another lowering of an operator: ``wrong`` is given the right one and its arguments."""

    @contextlib.contextmanager
    def patch(canary: Canary) -> Iterator[None]:
        from torch._inductor import lowering as table

        right = table.lowerings[operator]

        def lowered(*args: Any, **kwargs: Any) -> Any:
            if not when(*args, **kwargs):
                return right(*args, **kwargs)
            canary.reached += 1
            return wrong(right, *args, **kwargs)

        with mock.patch.dict(table.lowerings, {operator: lowered}):
            yield

    return patch


def written(name: str, wrong: Callable[[str], str]) -> Patch:
    """Other C++ for one operation, scalar and vectorised: ``wrong`` is given the right text."""

    @contextlib.contextmanager
    def patch(canary: Canary) -> Iterator[None]:
        from torch._inductor.codegen import cpp

        with contextlib.ExitStack() as stack:
            for overrides in (cpp.CppOverrides, cpp.CppVecOverrides):
                right = getattr(overrides, name)

                def text(*args: Any, _right: Any = right, **kwargs: Any) -> str:
                    canary.reached += 1
                    return wrong(str(_right(*args, **kwargs)))

                stack.enter_context(mock.patch.object(overrides, name, staticmethod(text)))
            yield

    return patch


def printed(old: str, new: str) -> Patch:
    """Other text in the whole kernel."""

    @contextlib.contextmanager
    def patch(canary: Canary) -> Iterator[None]:
        from torch._inductor.codegen.cpp import KernelGroup

        right = KernelGroup.codegen_group

        def group(self: Any, *args: Any, **kwargs: Any) -> str:
            text = right(self, *args, **kwargs)
            canary.reached += old in text
            return str(text).replace(old, new)

        with mock.patch.object(KernelGroup, "codegen_group", group):
            yield

    return patch


def graph(change: Callable[[torch.fx.Graph], int], when: Callable[[], bool] = lambda: True) -> Patch:
    """A pass over the graph that is compiled; it tells how many places it changed."""

    @contextlib.contextmanager
    def patch(canary: Canary) -> Iterator[None]:
        from torch._inductor.graph import GraphLowering

        right = GraphLowering.__init__

        def init(self: Any, gm: torch.fx.GraphModule, *args: Any, **kwargs: Any) -> None:
            if when():
                canary.reached += change(gm.graph)
                gm.recompile()
            right(self, gm, *args, **kwargs)

        with mock.patch.object(GraphLowering, "__init__", init):
            yield

    return patch


def retargeted(old: Any, new: Any, when: Callable[[torch.fx.Node], bool] = lambda node: True) -> Any:
    """A pass that calls another operator with the same arguments."""

    def change(graph: torch.fx.Graph) -> int:
        found = [node for node in graph.nodes if node.target is old and when(node)]
        for node in found:
            node.target = new
        return len(found)

    return change


def _dropped(operator: Any, when: Callable[[torch.fx.Node], bool] = lambda node: True) -> Any:
    """A pass that puts the first operand in the place of a call."""

    def change(graph: torch.fx.Graph) -> int:
        found = [node for node in graph.nodes if node.target is operator and when(node)]
        for node in found:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        return len(found)

    return change


def _narrow_fusion() -> bool:
    from torch._inductor import config

    return bool(config.max_fusion_size == 1)


def _mutant(name: str, group: str, patch: Patch, program: Any, *given: torch.Tensor, **more: Any) -> Fault:
    return Fault(name, "mutant", group, "inductor", Compiled(patch), program, (inputs(*given),), **more)


def _real(name: str, source: str, group: str, patch: Patch, program: Any, *given: torch.Tensor, **more: Any) -> Fault:
    return Fault(name, "real", group, "inductor", Compiled(patch), program, (inputs(*given),), source=source, **more)


SPECIAL = torch.tensor([1.5, float("nan"), -2.0, 3.0, -0.5] * 7)


INDUCTOR = (
    _mutant(
        "sine is written as cosine",
        "arithmetic rewrite",
        written("sin", lambda text: text.replace("std::sin", "std::cos").replace(".sin()", ".cos()")),
        torch.sin,
        numbers(40),
    ),
    _mutant(
        "rounding is written as truncation",
        "arithmetic rewrite",
        written("round", lambda text: text.replace("nearbyint", "trunc").replace(".round()", ".trunc()")),
        torch.round,
        numbers(40),
    ),
    _mutant(
        "tanh saturates early",
        "rounding boundary",
        lowering(aten.tanh.default, lambda right, x: _clamped(right(x))),
        torch.tanh,
        numbers(40),
    ),
    _mutant(
        "a minimum is a maximum where there is more than one user",
        "fusion guard",
        graph(retargeted(aten.minimum.default, aten.maximum.default, lambda node: len(node.users) > 1)),
        lambda x, y: (lambda z: (z.sin(), z.cos()))(torch.minimum(x, y)),
        numbers(20),
        numbers(20).flip(0),
    ),
    _mutant(
        "alpha is dropped in a lowering",
        "fusion guard",
        lowering(aten.sub.Tensor, lambda right, x, y, alpha=1: right(x, y), lambda *a, **k: "alpha" in k),
        lambda x, y: torch.sub(x, y, alpha=3),
        numbers(20),
        numbers(20) + 1,
    ),
    _mutant(
        "with unfused kernels a sine is left out",
        "configuration only",
        graph(_dropped(aten.sin.default), _narrow_fusion),
        lambda x: torch.exp(torch.sin(x)),
        numbers(20),
        knobs={"max_fusion_size": 1},
    ),
    _mutant(
        "a loop ends one element early",
        "vector tail",
        printed("x0<static_cast<int64_t>(37L)", "x0<static_cast<int64_t>(36L)"),
        lambda x: x.exp_().add_(1),  # in place: what is not written keeps its old value
        numbers(37),
        knobs={"cpp.simdlen": 1},
    ),
    _mutant(
        "the last vector is stored one lane short",
        "vector tail",
        printed("static_cast<int64_t>(5L))", "static_cast<int64_t>(4L))"),
        lambda x: x.exp_().add_(1),  # in place: what is not written keeps its old value
        numbers(37),
        knobs={"cpp.simdlen": 256},
    ),
    _mutant(
        "a cast to bytes and back is dropped",
        "narrow-integer wrap",
        graph(_dropped(torch.ops.prims.convert_element_type.default, lambda n: n.args[1] == torch.uint8)),
        lambda x: x.to(torch.uint8).to(torch.int32) + 1,
        torch.tensor([1, 300, 256], dtype=torch.int32),
    ),
    _mutant(
        "relu is written without NaN",
        "NaN rule",
        lowering(aten.relu.default, lambda right, x: _select_positive(x)),
        torch.relu,
        SPECIAL,
    ),
    _mutant(
        "the slope of relu lets negative values through",
        "backward only",
        graph(retargeted(aten.le.Scalar, aten.lt.Scalar)),
        lambda x: torch.relu(x),
        torch.tensor([1.0, 0.0, -1.0, 0.0], requires_grad=True),
        mode="training",
    ),
    _mutant(
        "a write to an input is not lowered",
        "mutation lost",
        lowering(aten.copy_.default, lambda right, to, source, *rest: to),
        lambda x: x.add_(1).cos(),
        numbers(20),
    ),
)


def _clamped(x: Any) -> Any:
    from torch._inductor import lowering as table

    return table.minimum(table.maximum(x, -0.9990234375), 0.9990234375)


def _select_positive(x: Any) -> Any:
    from torch._inductor import lowering as table

    return table.where(table.gt(x, 0.0), x, 0.0)

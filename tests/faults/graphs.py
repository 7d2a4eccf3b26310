"""Faults in graphs of ATen operators: what AOTAutograd hands to ``aot_eager``, and what torch.export's module runs.

A planted fault replaces the calls that its operators make where its condition holds. Each graph runs twice, once with
the fault on one set of tensors and once without it on copies, and the canary compares.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from tests.faults.fault import Canary, differ, twins
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree


@dataclass(slots=True)
class Site:
    """One call of an operator that a fault may spoil.

    Attributes:
        node: in the graph.
        values: of all nodes so far.
        memory: what the fault remembers between calls of one artefact.
        backward: whether this is a backward graph.
        nested: whether this is the graph of a branch or of a loop's body.
    """

    node: Node
    values: dict[Any, Any]
    memory: dict[Any, Any]
    backward: bool
    nested: bool = False


When = Callable[[Site, Sequence[Any]], bool]
#: What takes a call's place, given the operator, its arguments, and the call's right result.
Wrong = Callable[[Site, Any, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """Calls of operators that go wrong.

    Attributes:
        operators: overloads, ``aten.add.Tensor``, or packets, ``aten.add``.
        wrong: what they do instead.
        when: only there; asked with the arguments.
        seam: where graphs are caught: ``aot_eager`` or ``export``.
    """

    operators: tuple[Any, ...]
    wrong: Wrong
    when: When = lambda site, args: True
    seam: str = "aot_eager"

    @contextlib.contextmanager
    def planted(self, canary: Canary) -> Iterator[None]:
        """Catch every graph that is compiled meanwhile."""
        _PLANTED.append((self, canary))
        try:
            with _caught(self.seam) if len(_PLANTED) == 1 else contextlib.nullcontext():
                yield
        finally:
            _PLANTED.remove((self, canary))

    def at(self, node: Node) -> bool:
        """Whether a node calls one of the operators."""
        target = node.target
        return target in self.operators or getattr(target, "overloadpacket", None) in self.operators


_PLANTED: list[tuple[Graph, Canary]] = []


class _Spoiled(Interpreter):
    """A graph with one fault, or none."""

    def __init__(
        self, module: GraphModule, graph: Graph | None, memory: dict[Any, Any], canary: Canary, nested: bool = False
    ) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._nested = nested
        self._graph, self._memory, self._canary = graph, memory, canary
        self._backward = any("tangent" in node.name for node in module.graph.nodes if node.op == "placeholder")

    def run_node(self, n: Node) -> Any:
        if self._graph is not None and n.op == "call_function" and self._graph.at(n):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            site = Site(n, self.env, self._memory, self._backward, self._nested)
            if self._graph.when(site, args):
                self._canary.reached += 1
                # A fault that is not made for these arguments is none.
                with contextlib.suppress(Exception):
                    return self._graph.wrong(site, n.target, args, kwargs)
        return super().run_node(n)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        found = super().get_attr(target, args, kwargs)
        if not isinstance(found, GraphModule) or self._graph is None:
            return found

        def body(*given: Any) -> Any:
            return _Spoiled(found, self._graph, self._memory, self._canary, nested=True).run(*given)

        return body


def _run(module: GraphModule, graph: Graph | None, memory: dict[Any, Any], canary: Canary, args: Any) -> Any:
    return _Spoiled(module, graph, memory, canary).run(*args)


def _nodes(module: GraphModule) -> Iterator[Node]:
    """Those of the graph, and of the graphs of its branches and loops."""
    for one in module.modules():
        if isinstance(one, GraphModule):
            yield from one.graph.nodes


def _spoiled(module: GraphModule, own: Callable[..., Any]) -> Callable[..., Any]:
    """A graph as a function of a list of arguments, with what is planted; ``own`` runs it without."""
    faults = [(graph, canary, {}) for graph, canary in _PLANTED if any(graph.at(n) for n in _nodes(module))]
    if not faults:
        return own

    def run(args: Sequence[Any]) -> Any:
        given = list(args)
        state = torch.get_rng_state()
        right_given = twins(given)
        with torch.no_grad():
            right = _run(module, None, {}, Canary(), right_given)
        chosen = None
        for graph, canary, memory in faults:
            torch.set_rng_state(state)
            reached = canary.reached
            wrong_given = given if canary.effect else twins(given)
            try:
                with torch.set_grad_enabled(canary.effect and torch.is_grad_enabled()):
                    wrong = _run(module, graph, memory, canary, wrong_given)
            except Exception:
                canary.triggered += canary.reached > reached
                if canary.effect:
                    raise
                continue
            if canary.reached > reached:
                flat, right_flat = pytree.tree_leaves(wrong), pytree.tree_leaves(right)
                canary.triggered += differ(flat, right_flat, wrong_given, right_given)
            chosen = (wrong,) if canary.effect else chosen
        if chosen is not None:
            return chosen[0]
        torch.set_rng_state(state)
        return own(given)

    return run


@contextlib.contextmanager
def _caught(seam: str) -> Iterator[None]:
    if seam == "export":
        make = torch.export.ExportedProgram.module

        def module(program: Any, *args: Any, **kwargs: Any) -> Any:
            made = make(program, *args, **kwargs)
            if sys._getframe(1).f_globals.get("__name__", "").startswith("torch."):
                return made  # what torch itself makes of a program, as where it decomposes one
            spoiled = _spoiled(made, lambda given: made(*given))
            return lambda *given: spoiled(given)

        with mock.patch.object(torch.export.ExportedProgram, "module", module):
            yield
        return
    from torch._dynamo.backends import debugging

    nop = debugging.boxed_nop

    def compiler(module: GraphModule, example: Any) -> Any:
        plain = GraphModule(module, module.graph)  # its graph gets another calling convention below
        own = nop(module, example)
        spoiled = _spoiled(plain, own)
        if spoiled is own:
            return own

        def run(args: list[Any]) -> Any:
            given = list(args)
            args.clear()
            return spoiled(given)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    with mock.patch.object(debugging, "boxed_nop", compiler):
        yield


# --- sizes of a fault ------------------------------------------------------------------------------------------------


def some(size: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Which elements are hit: ``all``, ``1 %`` (each hundredth, at least one) or ``one`` (the last)."""

    def mask(x: torch.Tensor) -> torch.Tensor:
        place = torch.arange(x.numel(), device=x.device).reshape(x.shape)
        if size == "all":
            return place >= 0
        if size == "1 %":
            return place % 100 == 17 % max(x.numel(), 1) % 100
        return place == x.numel() - 1

    return mask


def off(mask: Callable[[torch.Tensor], torch.Tensor], by: float = 1.0) -> Wrong:
    """The right result, with some elements larger by ``by``."""

    def wrong(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        right = op(*args, **kwargs)
        return torch.where(mask(right), right + by, right).to(right.dtype)

    return wrong


def instead(function: Callable[..., Any]) -> Wrong:
    """Another function of the same arguments."""
    return lambda site, op, args, kwargs: function(*args, **kwargs)


def after(change: Callable[[Any], Any]) -> Wrong:
    """A function of the right result."""
    return lambda site, op, args, kwargs: change(op(*args, **kwargs))


def backward(site: Site, args: Sequence[Any]) -> bool:
    """Only in backward graphs."""
    return site.backward


def floats(site: Site, args: Sequence[Any]) -> bool:
    """Only where the first argument is a tensor of floats."""
    return isinstance(args[0], torch.Tensor) and args[0].is_floating_point()

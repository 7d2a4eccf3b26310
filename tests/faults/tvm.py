"""Faults in Relax modules, as TVM's importer or one of its passes would make them.

A module is changed before it is built; both modules run, and the canary compares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from tests.faults.fault import Canary, Fault, differ, inputs, numbers


@dataclass(frozen=True, slots=True)
class Relax:
    """Calls of one Relax operator that go wrong.

    Attributes:
        operator: ``relax.minimum``.
        wrong: given the call, the expression that takes its place.
    """

    operator: str
    wrong: Callable[[Any], Any]

    @contextlib.contextmanager
    def planted(self, canary: Canary) -> Iterator[None]:
        """Build every module meanwhile with and without the fault."""
        from tvm import relax

        build, machine = relax.build, relax.VirtualMachine

        def built(module: Any, *args: Any, **kwargs: Any) -> Any:
            right = build(module, *args, **kwargs)
            changed, places = self._changed(module)
            canary.reached += places
            return _Twin(build(changed, *args, **kwargs), right, canary) if places else right

        def machines(made: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(made, _Twin) or made.canary is not canary:  # another fault's, planted inside this one
                return machine(made, *args, **kwargs)
            wrong, right = (machine(one, *args, **kwargs) for one in (made.wrong, made.right))
            return _Machine(wrong, right, canary)

        with mock.patch.object(relax, "build", built), mock.patch.object(relax, "VirtualMachine", machines):
            yield

    def _changed(self, module: Any) -> tuple[Any, int]:
        """The module with the fault, and in how many places."""
        import tvm
        from tvm.relax.expr_functor import PyExprMutator, mutator

        operator, wrong, places = tvm.ir.Op.get(self.operator), self.wrong, [0]

        @mutator
        class Change(PyExprMutator):  # type: ignore[misc]
            def visit_call_(self, call: Any) -> Any:
                call = self.visit_expr_post_order(call)
                if call.op != operator:
                    return call
                places[0] += 1
                return self.builder_.normalize(wrong(call))

        change = Change(module)
        for variable, function in module.functions.items():
            if isinstance(function, tvm.relax.Function):
                change.builder_.update_func(variable, change.visit_expr(function))
        return change.builder_.get(), places[0]


@dataclass(frozen=True, slots=True)
class _Twin:
    """Two builds that look like one."""

    wrong: Any
    right: Any
    canary: Canary


class _Machine:
    """Two virtual machines that look like one."""

    def __init__(self, wrong: Any, right: Any, canary: Canary) -> None:
        self._wrong, self._right, self._canary = wrong, right, canary

    def __getitem__(self, name: str) -> Callable[..., Any]:
        def run(*feeds: Any) -> Any:
            shown = [machine[name](*feeds) for machine in (self._wrong, self._right)]
            results = ([torch.from_dlpack(t).clone() for t in outputs] for outputs in shown)  # type: ignore[attr-defined]
            self._canary.triggered += differ(*results)
            return shown[0] if self._canary.effect else shown[1]

        return run


def _op(name: str) -> Any:
    """A function of Relax by name, found when it is called; TVM is not loaded before."""

    def call(*args: Any, **kwargs: Any) -> Any:
        from tvm import relax

        found: Any = relax.op
        for part in name.split("."):
            found = getattr(found, part)
        return found(*args, **kwargs)

    return call


def _fault(
    name: str,
    group: str,
    operator: str,
    wrong: Callable[[Any], Any],
    program: Any,
    *given: torch.Tensor,
    source: str = "",
) -> Fault:
    kind = "real" if source else "mutant"
    return Fault(name, kind, group, "tvm", Relax(operator, wrong), program, (inputs(*given),), source=source)


TVM = (
    _fault(
        "softmax along the dimension that another version means",
        "layout",
        "relax.nn.softmax",
        lambda call: _op("nn.softmax")(call.args[0], axis=0),
        lambda x: torch.softmax(x, -1),
        numbers(3, 4),
        source="apache/tvm#20183",
    ),
    _fault(
        "a Relax minimum becomes a maximum",
        "arithmetic rewrite",
        "relax.minimum",
        lambda call: _op("maximum")(*call.args),
        torch.minimum,
        numbers(9),
        numbers(9).flip(0),
    ),
    _fault(
        "a Relax difference has its operands swapped",
        "arithmetic rewrite",
        "relax.subtract",
        lambda call: _op("subtract")(call.args[1], call.args[0]),
        lambda x, y: x - y,
        numbers(7),
        numbers(7) + 1,
    ),
    _fault(
        "a Relax sine passes through half precision",
        "rounding boundary",
        "relax.sin",
        lambda call: _op("astype")(_op("astype")(_op("sin")(*call.args), "float16"), "float32"),
        torch.sin,
        numbers(9),
    ),
)

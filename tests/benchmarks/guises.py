"""The reference in other guises: targets that are right by construction, on which every finding is a false positive."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from shakeout.corpus.case import Setting
from shakeout.targets import registry
from shakeout.targets.eager import DECLINES_NOTHING, Eager
from shakeout.targets.target import Facts, Target

aten = torch.ops.aten

#: Threads of the guise that has several.
THREADS = 3


def _flipped(x: torch.Tensor, *dims: int) -> torch.Tensor:
    """A copy whose elements come in the opposite order along some dimensions."""
    return torch.flip(x, dims) if x.dim() else x


def _along(op: Any, x: torch.Tensor, dims: Any = None, *rest: Any, **more: Any) -> Any:
    """A reduction over flipped dimensions."""
    named = range(x.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    return op(_flipped(x, *named), *([] if dims is None else [dims]), *rest, **more)


def _whole(op: Any, x: torch.Tensor, *rest: Any, **more: Any) -> Any:
    return op(_flipped(x, *range(x.dim())), *rest, **more)


def _there_and_back(op: Any, x: torch.Tensor, dim: int, *rest: Any) -> Any:
    """What normalises along a dimension: flipped, and its result flipped back."""
    return _flipped(op(_flipped(x, dim), dim, *rest), dim)


def _product(first: int, left: int, right: int) -> Callable[..., Any]:
    """A product that sums over dimension ``left`` of operand ``first`` and ``right`` of the next one."""

    def run(op: Any, *args: Any, **more: Any) -> Any:
        given = list(args)
        given[first] = _flipped(given[first], left)
        given[first + 1] = _flipped(given[first + 1], right)
        return op(*given, **more)

    return run


def _convolution(op: Any, x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> Any:
    """A convolution that sums its channels in the opposite order, where all channels are summed."""
    transposed, groups = rest[4], rest[6]
    if groups != 1 or x.dim() != weight.dim():
        return op(x, weight, *rest)
    return op(_flipped(x, 1), _flipped(weight, 0 if transposed else 1), *rest)


_OTHER: Mapping[Any, Callable[..., Any]] = {
    aten.sum.default: _whole,
    aten.sum.dim_IntList: _along,
    aten.mean.default: _whole,
    aten.mean.dim: _along,
    aten.prod.default: _whole,
    aten.prod.dim_int: _along,
    aten.logsumexp.default: _along,
    aten.var.correction: _along,
    aten.std.correction: _along,
    aten._softmax.default: _there_and_back,
    aten._log_softmax.default: _there_and_back,
    aten.mm.default: _product(0, 1, 0),
    aten.bmm.default: _product(0, 2, 1),
    aten.mv.default: _product(0, 1, 0),
    aten.dot.default: _product(0, 0, 0),
    aten.addmm.default: _product(1, 1, 0),
    aten.baddbmm.default: _product(1, 2, 1),
    aten.addmv.default: _product(1, 1, 0),
    aten.convolution.default: _convolution,
}


class _Listening(TorchDispatchMode):
    """A mode that takes branches as well; what is inside of them is beyond it.

    Eager compiles a branch, and what it compiled under a mode raises without one (torch 2.13.0), so it is forgotten.
    """

    supports_higher_order_operators = True

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        if (dynamo := sys.modules.get("torch._dynamo")) is not None:
            dynamo.reset()


class Reordered(_Listening):
    """Reductions, products and convolutions of floats add up in the opposite order."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        other = _OTHER.get(func)
        # Below this mode nothing resolves a lazy conjugate any more; what has one stays as it is.
        lazy = any(isinstance(t, torch.Tensor) and (t.is_conj() or t.is_neg()) for t in args)
        if other is None or lazy or not (args[0].is_floating_point() or args[0].is_complex()):
            return func(*args, **(kwargs or {}))
        return other(func, *args, **(kwargs or {}))


class Passing(_Listening):
    """Does nothing; but PyTorch takes other paths of its own while any mode listens, and some of them are wrong."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def threaded() -> Iterator[None]:
    """Several threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def entered(function: Callable[..., Any], around: Callable[[], Any]) -> Callable[..., Any]:
    """The same function, called, and its backward pass run, within a context."""

    def called(*arguments: Any) -> Any:
        return function(*arguments)

    called.around = around  # type: ignore[attr-defined]
    return called


@dataclass(frozen=True, slots=True)
class Guise(Target):
    """Eager PyTorch within a context of this module."""

    name: str
    context: str
    facts: Facts

    def warm(self) -> None:
        """Nothing to load."""

    def source(self, setting: Setting) -> str:
        """The function within the context."""
        return (
            f"from tests.benchmarks.guises import {self.context}, entered\n\n\n"
            f"def prepare(function):\n    return entered(function, {self.context})\n\n\n{DECLINES_NOTHING}\n"
        )


def _facts(summary: str) -> Facts:
    return Facts(summary=summary, promises=frozenset({"layout", "writes"}), regions=True)


class Structured(Eager):
    """Eager as it is, with the programs that compilers get: regions among them."""

    facts = replace(Eager.facts, regions=True)


EAGER = Structured()
REORDERED = Guise("reordered", "Reordered", _facts("eager, adding up in the opposite order"))
PASSING = Guise("passing", "Passing", _facts("eager, heard by a mode that does nothing"))
THREADED = Guise("threads", "threaded", _facts(f"eager with {THREADS} threads"))


@contextlib.contextmanager
def known() -> Iterator[None]:
    """The guises as registered targets meanwhile."""
    names = {"eager": "EAGER", "reordered": "REORDERED", "passing": "PASSING", "threads": "THREADED"}
    here = {name: (__name__, built) for name, built in names.items()}
    with mock.patch.dict(registry._BUILT_IN, here):
        yield

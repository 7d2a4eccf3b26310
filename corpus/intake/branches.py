"""Branches and loops that PyTorch takes as functions: ``cond``, ``while_loop`` and ``scan``, as calls with regions."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import torch.utils.checkpoint
from torch.autograd.graph import _engine_run_backward
from torch.utils import _pytree

from shakeout.corpus.intake.recorder import Number
from shakeout.corpus.intake.refusal import NotCaptured, here
from shakeout.corpus.program import Call
from shakeout.corpus.vocabularies.structured import STRUCTURES

if TYPE_CHECKING:
    from shakeout.corpus.intake.recorder import ProgramRecorder
    from shakeout.corpus.intake.trace import Scope

__all__ = ["record", "uncompiled", "without_reentrance"]

#: Where PyTorch compiles a branch or loop that is met outside of a compiler, so that the operator itself is not seen.
_COMPILED = (
    ("torch._higher_order_ops.utils", "_hop_compile_and_call", lambda function, args, kwargs=None: function(*args)),
    ("torch._higher_order_ops.utils", "_maybe_compile_and_run_fn", lambda function, *args: function(*args)),
    ("torch._higher_order_ops.scan", "_maybe_compile_and_run_fn", lambda function, *args: function(*args)),
)


#: Runs a backward pass, for ``torch.autograd.grad``.
_ENGINE: Callable[..., Any] = _engine_run_backward

_CHECKPOINT = Call("torch.utils.checkpoint.checkpoint", (), (("use_reentrant", False),), (), "none")


@contextlib.contextmanager
def without_reentrance(tell: Callable[[str], None] = lambda note: None) -> Iterator[None]:
    """As long as the context is open, a checkpoint with ``use_reentrant=True`` is one with False.

    Compilers take both for the same, and ``torch.autograd.grad`` takes the second only.

    Args:
        tell: told what a person should know of it.

    Raises:
        NotCaptured: the two differ: reentrant, what is computed anew gets no gradient unless an argument asks for one.
    """

    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        asked = any(isinstance(one, torch.Tensor) and one.requires_grad for one in args)
        if torch.is_grad_enabled() and not asked:
            raise NotCaptured(
                "with use_reentrant=True a checkpoint of which no argument asks for a gradient gives none to its "
                "parameters either, which no compiler does; say use_reentrant=False",
                here(),
            )
        tell("a checkpoint with use_reentrant=True has False in the case, which is what compilers make of it")
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve)

    with mock.patch.object(torch.utils.checkpoint.CheckpointFunction, "apply", apply):
        yield


@contextlib.contextmanager
def uncompiled(recorder: ProgramRecorder) -> Iterator[None]:
    """Nothing is compiled as long as the context is open: neither branches and loops, nor what the user compiles.

    Nor is anything checkpointed: the part becomes a region, and whoever runs the case computes it anew in the backward
    pass.
    """

    def same(model: Any = None, **options: Any) -> Any:
        return (lambda function: function) if model is None else model

    def checkpointed(function: Any, preserve: bool, context: Any, *more: Any, **kwargs: Any) -> Iterator[None]:
        if context is not torch.utils.checkpoint.noop_context_fn:
            raise NotCaptured(
                "a checkpoint that chooses what is kept (context_fn), which a program does not hold; leave it out",
                here(),
            )
        recorder.enter(_CHECKPOINT)
        yield
        recorder.leave(_CHECKPOINT)

    def backward(outputs: Any, gradients: Any, keep: Any, create: Any, *more: Any, **options: Any) -> Any:
        """Of ``torch.autograd.grad``: what it computes asks for no gradient, unless somebody says so."""
        if create or recorder.busy:
            return _ENGINE(outputs, gradients, keep, create, *more, **options)
        with torch.no_grad():
            return _ENGINE(outputs, gradients, keep, create, *more, **options)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.autograd, "_engine_run_backward", backward))
        stack.enter_context(
            mock.patch.object(torch.utils.checkpoint, "_checkpoint_without_reentrant_generator", checkpointed)
        )
        stack.enter_context(without_reentrance(recorder.notes.append))
        for module, name, instead in _COMPILED:
            found = importlib.import_module(module)
            if hasattr(found, name):
                stack.enter_context(mock.patch.object(found, name, instead))
        stack.enter_context(mock.patch.object(torch, "compile", same))
        yield


def record(recorder: ProgramRecorder, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Write a branch or loop down, and give back what it gives.

    Raises:
        NotCaptured: it is another operator that takes functions, or one that no case can hold.
    """
    kinds: dict[str, Callable[..., Any]] = {"cond": _cond, "while_loop": _while_loop, "scan": _scan}
    known = kinds.get(func.name())
    if known is None:
        raise NotCaptured(f"torch.ops.higher_order.{func.name()} is not an operator of a case", here(), lower=True)
    recorder.check()
    return known(recorder, *args, **kwargs)


def _cond(recorder: ProgramRecorder, predicate: Any, true: Any, false: Any, operands: Any = ()) -> Any:
    flat, spec = _pytree.tree_flatten(tuple(operands))

    def function(branch: Any) -> Callable[..., Any]:
        return lambda *given: branch(*_pytree.tree_unflatten(list(given), spec))

    branches = [_body(recorder, function(branch), flat) for branch in (true, false)]
    shapes = [_pytree.tree_flatten(returned)[1] for _, returned in branches]
    if shapes[0] != shapes[1]:
        raise NotCaptured("the two branches return differently nested results", here())
    meaning = STRUCTURES["torch.cond"].meaning
    with recorder.inside():
        taken = meaning([function(true), function(false)], predicate, flat)
    results = _results(recorder, taken, [*flat])
    regions = tuple(scope for scope, _ in branches)
    recorder.append(
        "torch.cond", (recorder.argument(predicate), recorder.argument(tuple(flat))), (), tuple(results), regions
    )
    return _pytree.tree_unflatten(results, shapes[0])


def _while_loop(
    recorder: ProgramRecorder, condition: Any, body: Any, carried: Any, additional: Any = (), **more: Any
) -> Any:
    if any(more.values()):
        raise NotCaptured("a while_loop that keeps every round's values is not an operator of a case", here())
    given = [*carried, *additional]
    scopes = []
    for function in (condition, body):
        numbered = [Number(one, recorder) if type(one) in (int, bool, float) else one for one in given]
        scopes.append(_body(recorder, function, numbered)[0])
    if len(scopes[0].returns) != 1:
        raise NotCaptured("the condition of a while_loop returns more than one value", here())
    meaning = STRUCTURES["torch._higher_order_ops.while_loop"].meaning
    with recorder.inside():
        ended = meaning([lambda *v: [condition(*v)], lambda *v: _flat(body(*v))], list(carried), list(additional))
    results = [None if not isinstance(one, torch.Tensor) else one for one in _results(recorder, ended, given)]
    stored = tuple(recorder.argument(tuple(part)) for part in ((carried, additional) if additional else (carried,)))
    recorder.append("torch._higher_order_ops.while_loop", stored, (), tuple(results), tuple(scopes))
    # A number that a loop ends with exists in the region only.
    return tuple(Number(a, recorder) if b is None else b for a, b in zip(ended, results, strict=True))


def _scan(recorder: ProgramRecorder, combine: Any, start: Any, over: Any, additional_inputs: Any = ()) -> Any:
    if len(start) != 1 or len(over) != 1 or additional_inputs:
        raise NotCaptured("a scan with more than one carried value, or over more than one tensor", here())
    scope, _ = _body(recorder, combine, [start[0], over[0][0]])
    if len(scope.returns) != 2:
        raise NotCaptured("a scan whose function returns more than a carried value and one result", here())
    meaning = STRUCTURES["torch._higher_order_ops.scan"].meaning
    with recorder.inside():
        ended = meaning([lambda *given: _flat(combine(*given))], start[0], over[0])
    results = _results(recorder, ended, [*start, *over])
    stored = (recorder.argument(start[0]), recorder.argument(over[0]))
    recorder.append("torch._higher_order_ops.scan", stored, (), tuple(results), (scope,))
    return results


def _body(recorder: ProgramRecorder, function: Callable[..., Any], given: Sequence[Any]) -> tuple[Scope, Any]:
    """Record a body on copies, so that running it changes nothing."""
    copies = []
    for one in given:
        if isinstance(one, torch.Tensor):
            with recorder.inside():
                one = one.detach().clone().requires_grad_(one.requires_grad)
        copies.append(one)
    scope, returned = recorder.body(function, copies)
    return scope, returned


def _flat(value: Any) -> list[Any]:
    return list(_pytree.tree_flatten(value)[0])


def _results(recorder: ProgramRecorder, value: Any, given: Sequence[Any]) -> list[Any]:
    """The results of a branch or loop.

    Raises:
        NotCaptured: one is what it was given, which compilers refuse, or write apart from it.
    """
    found = _flat(value)
    if any(isinstance(one, torch.Tensor) and recorder.known(one) for one in found):
        raise NotCaptured("a branch or loop returns a tensor that it was given; return a clone of it", here())
    return found

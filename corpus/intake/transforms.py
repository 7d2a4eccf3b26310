"""Function transforms of ``torch.func``, ``vmap`` and ``grad``, as calls with a region.

What is transformed is recorded on plain tensors, one row or the operand itself, so it is what the source says; what is
given back is what PyTorch's own transform gives. Transforms that a program does not say (other dimensions, several
arguments, ``jacrev``) are left to the operators beneath.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import overrides
from torch._functorch import apis, eager_transforms

from shakeout.corpus.intake.refusal import NotCaptured, here

if TYPE_CHECKING:
    from shakeout.corpus.intake.recorder import ProgramRecorder

__all__ = ["applied"]


@contextlib.contextmanager
def applied(recorder: ProgramRecorder) -> Iterator[None]:
    """What is transformed is recorded as long as the context is open, at the level of the source."""
    if recorder.level != "torch":
        yield
        return
    vmap: Any = vars(apis)["vmap_impl"]  # where ``vmap`` looks it up
    grad = eager_transforms.grad_impl

    def mapped(function: Any, *more: Any, **kwargs: Any) -> Any:
        options, args = more[:4], more[4:]  # dimensions that are mapped, of results; randomness; size of chunks

        def run() -> Any:
            return vmap(function, *more, **kwargs)

        plain = options == (0, 0, "error", None)
        if recorder.busy:
            return run()
        return _record(recorder, "torch.func.vmap", function, run, (args, kwargs), plain, lambda one: one[0])

    def differentiated(function: Any, argnums: Any, has_aux: bool, args: Any, kwargs: Any) -> Any:
        def run() -> Any:
            return grad(function, argnums, has_aux, args, kwargs)

        plain = argnums == 0 and not has_aux
        if recorder.busy:
            return run()
        return _record(recorder, "torch.func.grad", function, run, (args, kwargs), plain, lambda one: one)

    with (
        mock.patch.object(apis, "vmap_impl", mapped),
        mock.patch.object(eager_transforms, "grad_impl", differentiated),
    ):
        yield


def _record(
    recorder: ProgramRecorder,
    name: str,
    function: Callable[..., Any],
    run: Callable[[], Any],
    given: tuple[Sequence[Any], Mapping[str, Any]],
    plain: bool,
    part: Callable[[torch.Tensor], torch.Tensor],
) -> Any:
    """Write a transformed call down, and give back what it gives.

    Args:
        recorder: that writes it down.
        name: of the transform.
        function: that is transformed.
        run: calls PyTorch's own.
        given: arguments and keyword arguments of the call.
        plain: whether the transform's options are those that a program says.
        part: what the function is given of an argument.
    """
    args, kwargs = given
    if not plain or kwargs or not args or not all(isinstance(one, torch.Tensor) for one in args):
        raise NotCaptured(f"{name} with options, or of something else than tensors", here(), lower=True)
    recorder.check()
    with overrides._pop_mode_temporarily():  # what follows is seen where a body is, or nobody's affair
        return _written(recorder, name, function, run, args, part)


def _written(
    recorder: ProgramRecorder,
    name: str,
    function: Callable[..., Any],
    run: Callable[[], Any],
    args: Sequence[torch.Tensor],
    part: Callable[[torch.Tensor], torch.Tensor],
) -> Any:
    with recorder.inside():
        wanted = name == "torch.func.grad"
        rows = [part(one.detach()).clone().requires_grad_(wanted and not place) for place, one in enumerate(args)]
    scope, _ = recorder.body(function, rows)
    with recorder.inside():
        result = run()
    results = [result] if isinstance(result, torch.Tensor) else result
    if not isinstance(results, tuple | list) or len(results) != len(scope.returns):
        raise NotCaptured(f"{name} of a function with nested results", here(), lower=True)
    recorder.append(name, tuple(map(recorder.argument, args)), (), list(results), (scope,))
    return result

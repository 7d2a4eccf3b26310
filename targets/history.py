"""What a compiled artefact may have been through before it is asked; its functions are printed into scripts.

Like ``corpus/standalone.py``: one text for the worker and for the report, independent of everything else in Shakeout.
The first call is preceded by another one on copies of its arguments, under another state of the process or of Python,
whose answer nobody looks at. What it leaves behind in guards and caches must not change the answer that counts.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors with the same windows on copies of the same storages."""
    made, storages = [], {}
    for t in tensors:
        key = t.untyped_storage()._cdata
        if key not in storages:
            storages[key] = t.untyped_storage().clone()  # type: ignore[no-untyped-call]
        window = torch.empty(0, dtype=t.dtype, device=t.device)
        window.set_(storages[key], t.storage_offset(), t.size(), t.stride())
        made.append(window.requires_grad_(t.requires_grad))
    return made


@contextlib.contextmanager
def changed(read: Callable[[], Any], write: Callable[[Any], Any], value: Any) -> Iterator[None]:
    """A state of the process that is another one meanwhile."""
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


def otherwise(what: str, function: Any) -> AbstractContextManager[Any]:
    """The state of an earlier call, by the name of the history."""
    if what == "gradients":
        return torch.set_grad_enabled(not torch.is_grad_enabled())
    if what == "inference_mode":
        return torch.inference_mode()
    if what == "autocast":
        return torch.autocast("cpu", torch.bfloat16)
    if what == "threads":
        return changed(torch.get_num_threads, torch.set_num_threads, torch.get_num_threads() % 2 + 1)
    if what == "default_dtype":
        return changed(torch.get_default_dtype, torch.set_default_dtype, torch.float64)
    if what == "deterministic":
        write = lambda on: torch.use_deterministic_algorithms(on, warn_only=True)  # noqa: E731
        return changed(torch.are_deterministic_algorithms_enabled, write, True)
    if what == "eval" and isinstance(function, torch.nn.Module):
        return changed(lambda: function.training, function.train, not function.training)
    if what == "python_state":
        return changed(lambda: function.switch[0], lambda on: function.switch.__setitem__(0, on), True)
    return contextlib.nullcontext()


def switched(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with a switch in Python: on, its outputs come in the opposite order, and twice."""
    switch = [False]

    def program(*given: torch.Tensor) -> Any:
        outputs = tuple(function(*given))
        return (*outputs[::-1], *outputs) if switch[0] else outputs

    program.switch = switch  # type: ignore[attr-defined]
    program.parameters = function.parameters if isinstance(function, torch.nn.Module) else lambda: ()  # type: ignore[attr-defined]
    return program


@contextlib.contextmanager
def cached() -> Iterator[None]:
    """Inductor's and AOTAutograd's caches on disk are used meanwhile, whatever the environment says."""
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor
    import torch.compiler.config as compiler

    wanted = ((inductor, "fx_graph_cache", True), (functorch, "enable_autograd_cache", True))
    with contextlib.ExitStack() as stack:
        for module, name, value in (*wanted, (compiler, "force_disable_caches", False)):
            entry = module._config[name]  # what the environment forces outranks what is set
            read, write = (functools.partial(f, entry, "env_value_force") for f in (getattr, setattr))
            stack.enter_context(changed(read, write, value))
        yield


def after(function: Callable[..., Any], compiled: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The artefact, called once before its first call, on copies and under another state."""
    parameters = list(getattr(function, "parameters", tuple)())
    called: list[str] = []

    def run(*given: torch.Tensor) -> Any:
        if not called:
            called.append(what)
            state = torch.default_generator.get_state()
            kept = [(p.untyped_storage(), p.untyped_storage().clone()) for p in parameters]
            with contextlib.suppress(Exception), otherwise(what, function):
                compiled(*copies(given))
            for storage, before in kept:
                storage.copy_(before)
            torch.default_generator.set_state(state)
            if what == "warm_cache":
                torch.compiler.reset()  # compiled anew, from what the caches hold
        return compiled(*given)

    if what == "warm_cache":
        run.around = cached  # type: ignore[attr-defined]
    return run

"""``@shakeout.runtime``: declare a function to make context managers that must not change what a network computes."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from shakeout.corpus.user_objects import Declared

__all__ = ["Runtime", "runtime"]


class Runtime(Declared):
    """A function that makes context managers; called, it makes one.

    Attributes:
        factory: the function.
    """

    def __init__(self, factory: Callable[..., Any]) -> None:
        functools.update_wrapper(self, factory, updated=())
        self.factory = factory

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make a context manager."""
        made = self.factory(*args, **kwargs)
        if not hasattr(made, "__enter__") or not hasattr(made, "__exit__"):
            name = getattr(self.factory, "__name__", repr(self.factory))
            raise TypeError(
                f"{name}() made a {type(made).__name__}, expected a context manager (with __enter__, __exit__)"
            )
        return made

    def __repr__(self) -> str:
        return f"<shakeout.runtime {self.factory!r}>"


def runtime(factory: Callable[..., Any]) -> Runtime:
    """Declare a runtime: ``shakeout run --target mypackage.offload:my_offload`` runs networks inside of it.

    Forward and backward run inside the context; outputs, gradients, parameters after a step and the random state must
    stay bit-equal.

    Args:
        factory: makes a context manager when called without arguments: a generator function (with or without
            ``contextlib.contextmanager``), a class, or any other function.

    Raises:
        TypeError: it is no such thing.

    Example:
        >>> @shakeout.runtime
        ... def on_cpu():
        ...     return torch.autograd.graph.save_on_cpu()
    """
    if isinstance(factory, Declared):
        raise TypeError(f"shakeout.runtime: {factory!r} is declared already")
    ready = hasattr(factory, "__enter__") and not inspect.isclass(factory)
    if ready or not callable(factory):
        made = "a context manager itself" if ready else f"a {type(factory).__name__}"
        raise TypeError(f"shakeout.runtime: expected a function that makes context managers, got {made}")
    if inspect.iscoroutinefunction(factory) or inspect.isasyncgenfunction(factory):
        raise TypeError(f"shakeout.runtime: {factory.__name__} is asynchronous; it has to be a plain context manager")
    if inspect.isclass(factory) and not (hasattr(factory, "__enter__") and hasattr(factory, "__exit__")):
        raise TypeError(f"shakeout.runtime: the class {factory.__name__} has no __enter__ and __exit__")
    needed = _needed(factory)
    if needed:
        raise TypeError(
            f"shakeout.runtime: {factory.__name__} needs {', '.join(needed)}; give defaults, it is called without"
        )
    if inspect.isgeneratorfunction(factory):
        factory = contextlib.contextmanager(factory)
    return Runtime(factory)


def _needed(factory: Callable[..., Any]) -> list[str]:
    """The arguments without which it cannot be called."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # a builtin that does not tell
        return []
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in variadic]

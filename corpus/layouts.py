"""How the results of a user's kernel, and of its reference, lie in memory before a program makes them row-major."""

from __future__ import annotations

from typing import Any, NamedTuple

from shakeout.corpus.user_objects import Kernel

__all__ = ["Layout", "Watched", "steps"]


class Layout(NamedTuple):
    """How one result lies in memory.

    Attributes:
        shape: its sizes.
        steps: the strides that matter, as ``steps`` gives them.
        strides: all of them: some operators of torch mind the others as well.
    """

    shape: tuple[int, ...]
    steps: tuple[int, ...]
    strides: tuple[int, ...]


def steps(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """The strides that matter: of dimensions with more than one index, and none of a tensor without elements."""
    if 0 in shape:
        return ()
    return tuple(step for step, size in zip(strides, shape, strict=True) if size > 1)


def _layout(shape: tuple[int, ...], strides: tuple[int, ...]) -> Layout:
    return Layout(shape, steps(shape, strides), strides)


class Watched:
    """A kernel in the text of a case: calls of it, and of its reference, tell where they leave their results.

    Args:
        kernel: the kernel.
        seen: one entry is added for each call, the layouts of its tensors in order.
    """

    def __init__(self, kernel: Kernel, seen: list[tuple[Layout, ...]]) -> None:
        self._kernel = kernel
        self._seen = seen

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel."""
        return self._noted(self._kernel(*args, **kwargs))

    def checked(self, *args: Any, **kwargs: Any) -> Any:
        """Run the kernel, and see that its invariants hold."""
        return self._noted(self._kernel.checked(*args, **kwargs))

    def reference(self, *args: Any, **kwargs: Any) -> Any:
        """Run the reference."""
        return self._noted(self._kernel.reference(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def _noted(self, result: Any) -> Any:
        import torch

        results = result if isinstance(result, list | tuple) else [result]
        tensors = [one for one in results if isinstance(one, torch.Tensor)]
        self._seen.append(tuple(_layout(tuple(t.shape), t.stride()) for t in tensors))
        return result

"""``@shakeout.kernel``: declare a function to be a kernel, with what it is to be compared with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from shakeout.corpus.user_objects import Accuracy, Declared, Example, Invariant, Kernel

__all__ = ["kernel"]


def kernel(
    function: Callable[..., Any] | None = None,
    /,
    *,
    reference: Callable[..., Any] | None = None,
    examples: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    strides: bool = False,
    accuracy: Accuracy = "elementwise",
    invariants: Iterable[Invariant] = (),
) -> Callable[[Callable[..., Any]], Kernel]:
    """Declare a kernel: ``shakeout run --target mypackage.kernels:my_conv2d`` compares it with its reference.

    The result is called like the function; on a custom operator of ``torch.library`` this is the outermost decorator.
    A kernel says that it does not support something by raising ``NotImplementedError``.

    Args:
        function: not to be given; the decorator is called first.
        reference: takes the same arguments and is right: an operator of torch, or any function of tensors.
        examples: calls that both accept, or a function that makes them. Each is a tuple of arguments, or a pair of
            such a tuple and a dictionary of keyword arguments. Generated calls have their structure, with other sizes,
            layouts, values, attributes, and dtypes of the same kind (whole numbers, or not). Without examples the
            structure is that of any call of the reference, which then has to be an operator of torch.
        strides: whether results must lie in memory as the reference's do. Otherwise they are made row-major on both
            sides before anything looks at them.
        accuracy: ``elementwise`` if each element is as accurate as its own terms allow. ``normwise`` if the error is
            small beside the largest element, and a number that is not finite may spoil all of them, as in a convolution
            by Fourier transforms or by Strassen's or Winograd's products.
        invariants: what holds for every call beside equality with the reference. Each is a function that is given the
            kernel's function and a call's arguments (copies, without a gradient), may call the former as often as it
            likes, and returns what is wrong in one line, or None. One that raises ``NotImplementedError`` has nothing
            to say of this call. What is wrong is reported as an ``InvariantBroken``.

    Raises:
        TypeError: an argument is of the wrong kind.

    Example:
        >>> @shakeout.kernel(reference=torch.nn.functional.relu)
        ... def my_relu(x):
        ...     return torch.where(x > 0, x, x.clamp(max=0) * 0)
    """
    if function is not None:
        raise TypeError(
            f"write @shakeout.kernel(reference=...), not @shakeout.kernel: what should {_called(function)} do?"
        )
    if reference is None:
        raise TypeError("shakeout.kernel needs reference=..., a function that takes the same arguments and is right")
    if isinstance(reference, Declared) or not callable(reference) or inspect.isclass(reference):
        raise TypeError(f"shakeout.kernel: reference is {reference!r}, expected a function")
    if not isinstance(strides, bool):
        raise TypeError(f"shakeout.kernel: strides is {strides!r}, expected True or False")
    if accuracy not in get_args(Accuracy):
        raise TypeError(f"shakeout.kernel: accuracy is {accuracy!r}, expected 'elementwise' or 'normwise'")
    if isinstance(invariants, str) or not isinstance(invariants, Iterable):
        raise TypeError(f"shakeout.kernel: invariants is {invariants!r}, expected a list of functions")
    asserted = tuple(invariants)
    for one in asserted:
        if not callable(one) or inspect.isclass(one):
            raise TypeError(f"shakeout.kernel: the invariant {one!r} is no function")
    make_examples = _examples(examples)

    def declare(function: Callable[..., Any]) -> Kernel:
        if isinstance(function, Declared):
            raise TypeError(f"shakeout.kernel: {function!r} is declared already")
        if not callable(function) or inspect.isclass(function):
            raise TypeError(f"shakeout.kernel: {function!r} is no function")
        return Kernel(function, reference, make_examples, strides, accuracy, asserted)

    return declare


def _called(function: object) -> str:
    return getattr(function, "__name__", repr(function))


def _examples(given: Any) -> Callable[[], tuple[Example, ...]]:
    """What makes the examples; what is given as such is looked at now, what a function makes when it is needed."""
    if given is None:
        return tuple
    if callable(given):
        return lambda: _read(given())
    found = _read(given)
    return lambda: found


def _read(given: Any) -> tuple[Example, ...]:
    if isinstance(given, Mapping | str) or not isinstance(given, Iterable):
        raise TypeError(f"shakeout.kernel: examples is {type(given).__name__}, expected a list of calls")
    return tuple(_example(number, item) for number, item in enumerate(given))


def _example(number: int, item: Any) -> Example:
    if not isinstance(item, tuple):
        raise TypeError(
            f"shakeout.kernel: examples[{number}] is a {type(item).__name__}, expected a tuple of arguments "
            "such as (x, w), or a pair such as ((x, w), {'stride': 2})"
        )
    args, kwargs = item, {}
    if len(item) == 2 and isinstance(item[0], tuple) and isinstance(item[1], Mapping):
        args, kwargs = item[0], dict(item[1])
    if not all(isinstance(key, str) for key in kwargs):
        raise TypeError(f"shakeout.kernel: examples[{number}] has a keyword that is no text: {list(kwargs)}")
    return Example(args, kwargs)

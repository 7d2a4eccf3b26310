"""What a function finds around it without being given it: modules, tensors, and objects that hold some.

A script that people write mostly compiles a lambda, a method or a closure over a model. What such a model's parameters
ask for, and what calling it changes, counts as it does for a module that is handed over itself.
"""

from __future__ import annotations

import argparse
import contextlib
import dis
import functools
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

__all__ = ["is_plain_object", "reached"]

#: Objects that are looked at; what holds more is data, and no model.
_MOST = 10_000

#: Packages whose functions and objects are not looked into: what they hold is not the user's.
_OF_OTHERS = frozenset(("torch", "numpy", "onnxruntime", "shakeout", *sys.stdlib_module_names))

#: Classes of such packages that people keep their options in.
_NAMESPACES = (argparse.Namespace, types.SimpleNamespace)


def reached(roots: Iterable[Any]) -> tuple[list[torch.nn.Module], list[torch.Tensor], list[Any]]:
    """The modules, the tensors outside of them, and the plain objects that some values lead to, in order.

    A module is not looked into. Followed are closures, defaults and globals of functions, bound objects, parts of
    ``functools.partial``, containers, and attributes of objects of the user's classes.
    """
    modules: list[torch.nn.Module] = []
    tensors: list[torch.Tensor] = []
    objects: list[Any] = []
    waiting, seen = list(roots)[::-1], dict[int, Any]()
    while waiting and len(seen) < _MOST:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, bool | int | float | complex | str | bytes | None):
            continue
        seen[id(one)] = one
        if isinstance(one, torch.nn.Module):
            modules.append(one)
        elif isinstance(one, torch.Tensor):
            tensors.append(one)
        else:
            if is_plain_object(one):
                objects.append(one)
            waiting += list(_next(one))[::-1]
    return modules, tensors, objects


def _next(one: Any) -> Iterator[Any]:
    """What a value leads to directly."""
    match one:
        case functools.partial():
            yield from (one.func, *one.args, *one.keywords.values())
        case types.MethodType():
            yield from (one.__self__, one.__func__)
        case types.FunctionType() if not _of_others(one.__module__):
            yield from _around(one)
        case Mapping():
            yield from one.values()
        case list() | tuple() | set() | frozenset():
            yield from one
        case _ if is_plain_object(one):
            yield from vars(one).values()


def _around(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # of a variable that has no value yet
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    if hasattr(function, "__wrapped__"):
        yield function.__wrapped__
    for name in _globals_of(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _globals_of(code: types.CodeType) -> Iterator[str]:
    """The global names that a function's code, and that of functions within it, reads."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals_of(constant)


def is_plain_object(one: Any) -> bool:
    """Whether a value is an object of a class that a user wrote, with attributes."""
    if not hasattr(one, "__dict__") or isinstance(one, type | torch.nn.Module):
        return False
    return isinstance(one, _NAMESPACES) or not _of_others(type(one).__module__)


def _of_others(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _OF_OTHERS

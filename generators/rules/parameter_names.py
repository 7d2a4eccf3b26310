"""Names of an operator's parameters, as torch's schemas or Python's signatures tell them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from shakeout.corpus.vocabularies import kernel as words
from shakeout.corpus.vocabularies.operator import identify

__all__ = ["Parameters", "names_dimension", "parameters"]

#: Positional parameters in order, and whether the last one takes all arguments that are left.
Parameters = tuple[tuple[str, ...], bool]

_AXIS = re.compile(r"(^|_)(dim|dims|axis|axes|dimension|dim\d|axis\d|source|destination|src|dst)($|_|\[|\d)")


def names_dimension(name: str) -> bool:
    """Whether a parameter of this name, or an item of it (``dims[0]``), is a dimension of an operand."""
    return _AXIS.search(name) is not None


def parameters(operator: str, count: int, keywords: Sequence[str], integers: Sequence[bool]) -> Parameters:
    """Names of the positional parameters of the overload that a call goes to; empty where nobody tells.

    Args:
        operator: qualified name.
        count: how many positional arguments are given.
        keywords: names of the keyword arguments.
        integers: for each positional argument, whether it is an integer.
    """
    for names, known, variadic in _overloads(operator):
        if not known.issuperset(keywords):
            continue
        if count <= len(names):
            if not set(names[:count]) & set(keywords):
                return names, False
        elif variadic and all(integers[len(names) - 1 :]):
            return names, True
    return (), False


#: Positional names, all names, and whether the last positional parameter is a list of integers.
_Overload = tuple[tuple[str, ...], frozenset[str], bool]


@functools.lru_cache(1 << 13)
def _overloads(operator: str) -> tuple[_Overload, ...]:
    try:
        function = words.resolve(operator)
    except ValueError:
        return ()
    identity = identify(operator)
    found = [] if identity.kernel else list(_schemas(identity.name))
    # A function of Python tells its own names; one that only hands arguments on does not.
    signed = _signature(function)
    if signed is not None and identity.namespace != "torch.Tensor":
        found.insert(0, signed)
    elif signed is not None:
        found.append(signed)
    return tuple(found)


def _signature(function: Callable[..., Any]) -> _Overload | None:
    try:
        given = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        return None
    if any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in given):
        return None
    positional = tuple(one.name for one in given if one.kind is not one.KEYWORD_ONLY)
    return positional, frozenset(one.name for one in given), False


def _schemas(name: str) -> list[_Overload]:
    import torch

    if name.startswith("__") and name.endswith("__"):
        name = name.strip("_")
    found: list[_Overload] = []
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name}"):
        given = schema.arguments
        if not given or any(one.is_out for one in given):
            continue
        positional = [one for one in given if not one.kwarg_only]
        variadic = bool(positional) and str(positional[-1].type) == "List[int]"
        found.append((tuple(one.name for one in positional), frozenset(one.name for one in given), variadic))
    return found

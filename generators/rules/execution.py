"""Runs one call of an operator on fresh operands, and writes down what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from shakeout.corpus.program import TensorType
from shakeout.corpus.vocabularies import kernel, owner
from shakeout.generators.calls import Rejected, perform
from shakeout.generators.definedness import before
from shakeout.generators.rules.observed import template
from shakeout.generators.rules.trace import Trace
from shakeout.generators.values import plain
from shakeout.generators.vocabularies.probe import operand
from shakeout.generators.vocabularies.recorder import type_of
from shakeout.generators.vocabularies.records import Spread

__all__ = ["executed", "outcome"]

_SPREAD = Spread()


def executed(call: Trace, spreads: Sequence[Spread] = ()) -> Trace | None:
    """The call with what it gave, or with the error that rejected it.

    Args:
        call: what is to be run; its results and error are not looked at.
        spreads: which values each operand needs; those that are missing may be any.

    Returns:
        None where nothing can be said: the call is one that torch does not check, or its result is no plain tensor.
    """
    words = owner(call.operator)
    try:
        tensors = [
            operand(type_.dtype, type_.shape, spreads[i] if i < len(spreads) else _SPREAD, torch.float32).clone()
            for i, type_ in enumerate(call.operands)
        ]
        # What is not defined, would take hours, or is not checked by torch and would write past its operands.
        if before(words.traits(call.operator), tensors, (), call.args, call.kwargs) is not None:
            return None
        function = words.resolve(call.operator)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
        return None
    try:
        if ":" in call.operator and (declined := _declined(call, tensors)):
            return replace(call, results=(), error=declined)
        form, results = perform(function, call.args, call.kwargs, tensors)
    except Rejected as rejected:
        cause = rejected.__cause__
        return None if cause is None else replace(call, results=(), error=template(cause))
    types = outcome(results)
    return None if types is None else replace(call, results=types, form=form, error="")


def _declined(call: Trace, tensors: Sequence[torch.Tensor]) -> str:
    """What a user's kernel says of a call that it does not support, though its reference may; empty otherwise."""
    copies = [tensor.clone() for tensor in tensors]
    try:
        perform(kernel.kernel(call.operator).function, call.args, call.kwargs, copies)
    except Rejected as rejected:
        if isinstance(rejected.__cause__, NotImplementedError):
            return template(rejected.__cause__)
    return ""


def outcome(results: Sequence[object]) -> tuple[TensorType | None, ...] | None:
    """The type of each result, None for what is no tensor; None for all where one is no plain tensor."""
    found: list[TensorType | None] = []
    for item in results:
        if not isinstance(item, torch.Tensor):
            found.append(None)
        elif not plain(item):
            return None
        else:
            found.append(type_of(item))
    return tuple(found)

"""Recurrent layers as operators (``torch.lstm`` and its kin), whose operands are looked at before they run.

``torch.nn.LSTM`` looks at sizes; the operator that it calls does not, and with other ones it writes beyond its memory.
Whatever changes a program, growth or a minimiser, has to be told by an exception.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["GATES", "checked"]

#: Gates of each layer, by operator: so many times as many rows as it has features have its weights.
GATES = {"torch.lstm": 4, "torch.gru": 3, "torch.rnn_tanh": 1, "torch.rnn_relu": 1}


def checked(operator: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a recurrent layer, which raises a RuntimeError where operands do not fit; others as they are."""
    if operator not in GATES:
        return function
    gates, states = GATES[operator], 2 if operator == "torch.lstm" else 1

    @functools.wraps(function)
    def checks(*args: Any, **kwargs: Any) -> Any:
        if not kwargs:  # which the overloads do not take by one name
            _check(operator, gates, states, args)
        return function(*args, **kwargs)

    return checks


def _check(operator: str, gates: int, states: int, args: Sequence[Any]) -> None:
    packed = len(args) > 3 and isinstance(args[3], tuple | list)
    place = 2 if packed else 1
    if len(args) < place + 5 + 2 * (not packed):
        raise RuntimeError(f"{operator}: expected all arguments by position, found {len(args)}")
    x, hidden, weights = args[0], args[place], args[place + 1]
    hidden = list(hidden) if states == 2 else [hidden]
    biases, layers, ways = bool(args[place + 2]), int(args[place + 3]), 2 if args[place + 6] else 1
    if packed:
        sizes = args[1].tolist()
        _same(operator, "rows", [sum(sizes)], [x.shape[0] if x.dim() == 2 else -1])
        if not sizes or sizes != sorted(sizes, reverse=True) or sizes[-1] < 1:
            raise RuntimeError(f"{operator}: expected sizes of batches that never grow, found {sizes}")
        batch = sizes[0]
    else:
        if x.dim() != 3:
            raise RuntimeError(f"{operator}: expected an input of three dimensions, found {x.dim()}")
        batch = x.shape[0 if args[place + 7] else 1]
    each = len(weights) // max(layers * ways, 1)
    plain = 4 if biases else 2
    if layers < 1 or len(weights) != each * layers * ways or each not in (plain, plain + (states == 2)):
        raise RuntimeError(f"{operator}: expected {plain} weights for each layer and direction, found {len(weights)}")
    inner = weights[0].shape[0] // gates
    outer = weights[each - 1].shape[0] if each != plain else inner
    wide = x.shape[-1]
    for layer in range(layers):
        for way in range(ways):
            start = (layer * ways + way) * each
            wanted = [[gates * inner, wide], [gates * inner, outer]]
            wanted += [[gates * inner]] * 2 if biases else []
            wanted += [[outer, inner]] if each != plain else []
            for one, shape in zip(weights[start : start + each], wanted, strict=True):
                _same(operator, "a weight", shape, one.shape)
        wide = outer * ways
    if len(hidden) != states:
        raise RuntimeError(f"{operator}: expected {states} states, found {len(hidden)}")
    for one, features in zip(hidden, (outer, inner), strict=False):
        _same(operator, "a state", [layers * ways, batch, features], one.shape)
    if len({one.dtype for one in (x, *hidden, *weights)}) > 1:
        raise RuntimeError(f"{operator}: expected one dtype of input, states and weights")


def _same(operator: str, what: str, wanted: Sequence[int], found: Sequence[int]) -> None:
    if list(wanted) != list(found):
        raise RuntimeError(f"{operator}: expected {what} of sizes {list(wanted)}, found {list(found)}")

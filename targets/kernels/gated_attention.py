"""Gated linear attention in its recurrent, its parallel and its chunked form.

Yang, Wang, Shen, Panda, Kim: Gated Linear Attention Transformers with Hardware-Efficient Training (ICML 2024). A state
``S`` of a matrix decays by a gate for each of its rows and takes one product: ``S_t = diag(a_t) S_(t-1) + k_t^T v_t``
and ``o_t = q_t S_t``. With ``b`` the running sum of ``log a``, ``o_m = sum_n<=m (q_m * k_n * exp(b_m - b_n)) v_n``.
The chunked form takes the state from chunk to chunk and the sum within one. There, it goes by smaller chunks: between
two of them with both exponents taken from the first row of the later one, where neither is above zero, and within one
pair by pair. The textbook's ``k_n * exp(-b_n)`` overflows as soon as gates are strong.

Gates are ``a = sigmoid(gate) ** (1 / temper)``. Logarithms are added up in double precision, and none is below
``LEAST``, whose exponential is zero: next to a gate that is closed altogether the others would vanish in the sum.
The gradient of a gate is a difference of sums over all later steps, of what queries and what keys have part in, so what
rounding leaves of it is small beside the largest gradient, and not beside each. No gate has a part in the decay of a
step to itself, which is one and has no gradient: it is what does not decay, and would leave its rounding errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from shakeout.targets.kernels.declare import kernel
from shakeout.targets.kernels.invariants import close, differing, drawn
from shakeout.targets.kernels.operands import finite, floating

__all__ = ["chunked_gated_attention", "parallel_gated_attention", "recurrent"]

#: The least logarithm of a gate.
LEAST = -750.0


def _logarithms(gate: Any, temper: float) -> Any:
    return (F.logsigmoid(gate.double()) / temper).clamp(min=LEAST)


def _sensible(query: Any, key: Any, value: Any, gate: Any, temper: float, *sizes: int) -> None:
    """Refuse what are no sequences of one length, and what is no size of a chunk; raises ValueError."""
    if query.dim() < 2 or not query.shape == key.shape == gate.shape or key.shape[:-1] != value.shape[:-1]:
        raise ValueError("a query, a key and a gate of one shape, and a value for each")
    if not 0 < temper < 1e6 or any(size < 1 for size in sizes):
        raise ValueError(f"a positive temperature and chunks of at least one, not {temper}, {sizes}")


# --- the second implementation ----------------------------------------------------------------------------------------


def recurrent(
    query: Any,
    key: Any,
    value: Any,
    gate: Any,
    state: Any = None,
    *,
    temper: float = 16.0,
    scale: float = 1.0,
    chunk: int = 4,
    sub: int = 2,
) -> tuple[Any, Any]:
    """One step after the other, in double precision, so that what a gate lets through is not rounded to nothing."""
    _sensible(query, key, value, gate, temper, chunk, sub)
    dtype = query.dtype
    query, key, value, gate = (one.double() for one in (query, key, value, gate))
    decay = torch.exp(F.logsigmoid(gate) / temper)
    shape = *key.shape[:-2], key.shape[-1], value.shape[-1]
    held = key.new_zeros(shape) if state is None else state.double()
    found = []
    for t in range(query.shape[-2]):
        held = decay[..., t, :, None] * held + key[..., t, :, None] * value[..., t, None, :]
        found.append(scale * (query[..., t, :, None] * held).sum(-2))
    return torch.stack(found, -2).to(dtype), held.to(dtype, copy=True)


# --- the algorithms ---------------------------------------------------------------------------------------------------


def _pairs(q: Any, k: Any, b: Any) -> Any:
    """``sum_d q_md k_nd exp(b_md - b_nd)`` for all pairs of which the key is not the later one; else zero."""
    itself = torch.eye(b.shape[-2], dtype=torch.bool)[..., None]
    apart = (b.unsqueeze(-2) - b.unsqueeze(-3)).masked_fill(itself, 0.0)
    later = torch.ones(b.shape[-2], b.shape[-2], dtype=torch.bool).triu(1)[..., None]
    decay = torch.exp(apart.masked_fill(later, float("-inf")))
    return (q.unsqueeze(-2) * k.unsqueeze(-3) * decay).sum(-1)


def _to_last(b: Any) -> Any:
    """The logarithm of the decay from each step to the last one."""
    last = b[..., -1:, :]
    return torch.cat([last - b[..., :-1, :], torch.zeros_like(last)], -2)


def _within(q: Any, k: Any, v: Any, b: Any, sub: int) -> Any:
    """What a chunk adds to itself."""
    found = []
    for first in range(0, q.shape[-2], sub):
        rows = slice(first, first + sub)
        part = _pairs(q[..., rows, :], k[..., rows, :], b[..., rows, :]) @ v[..., rows, :]
        if first:
            z = b[..., first : first + 1, :]
            before = slice(0, first)
            later = q[..., rows, :] * torch.exp(b[..., rows, :] - z)
            earlier = k[..., before, :] * torch.exp(z - b[..., before, :])
            part = part + (later @ earlier.mT) @ v[..., before, :]
        found.append(part)
    return torch.cat(found, -2)


def _chunked(q: Any, k: Any, v: Any, g: Any, state: Any, chunk: int, sub: int) -> tuple[Any, Any]:
    found = []
    for first in range(0, q.shape[-2], chunk):
        rows = slice(first, first + chunk)
        b = g[..., rows, :].cumsum(-2)
        last = b[..., -1:, :]
        part = _within(q[..., rows, :], k[..., rows, :], v[..., rows, :], b, sub)
        found.append(part + (q[..., rows, :] * torch.exp(b)) @ state)
        state = last.mT.exp() * state + (k[..., rows, :] * torch.exp(_to_last(b))).mT @ v[..., rows, :]
    return torch.cat(found, -2), state


def _taken(query: Any, key: Any, value: Any, gate: Any, state: Any) -> tuple[Any, ...]:
    """In double precision; declines what does not fit."""
    floating(query, key, value, gate, state)
    finite(query, key, value, gate, state)
    if 0 in query.shape or 0 in value.shape:
        raise NotImplementedError("sequences that are not empty")
    held = key.new_zeros(*key.shape[:-2], key.shape[-1], value.shape[-1]) if state is None else state
    if held.shape != (*key.shape[:-2], key.shape[-1], value.shape[-1]):
        raise NotImplementedError("a state for each sequence")
    return query.double(), key.double(), value.double(), held.double()


# --- what else holds --------------------------------------------------------------------------------------------------


def halves_make_the_whole(
    kernel: Callable[..., Any], query: Any, key: Any, value: Any, gate: Any, state: Any = None, **more: Any
) -> str | None:
    """A sequence that is cut anywhere, with the state handed over, gives what the whole gives."""
    given = [one.double() for one in (query, key, value, gate)]
    first = None if state is None else state.double()
    whole, last = kernel(*given, first, **more)
    cut = query.shape[-2] // 2
    if not cut:
        raise NotImplementedError
    one, held = kernel(*(tensor[..., :cut, :] for tensor in given), first, **more)
    other, held = kernel(*(tensor[..., cut:, :] for tensor in given), held, **more)
    return close([torch.cat([one, other], -2), held], [whole, last])


def chunks_decide_nothing(
    kernel: Callable[..., Any], query: Any, key: Any, value: Any, gate: Any, state: Any = None, **more: Any
) -> str | None:
    """Chunks of other sizes, of which no one divides the length, give the same."""
    given = [None if one is None else one.double() for one in (query, key, value, gate, state)]
    wanted = kernel(*given, **more)
    for chunk, sub in ((1, 1), (3, 2), (query.shape[-2] + 1, 3)):
        if said := close(list(kernel(*given, **{**more, "chunk": chunk, "sub": sub})), list(wanted)):
            return f"chunks of {chunk} and {sub}: {said}"
    return None


def open_gates_are_linear_attention(
    kernel: Callable[..., Any], query: Any, key: Any, value: Any, gate: Any, state: Any = None, **more: Any
) -> str | None:
    """With gates that are open it is the causal product of whole numbers, exactly."""
    q, k, v = (drawn(one.shape, number) for number, one in enumerate((query, key, value)))
    found, last = kernel(q, k, v, torch.full_like(q, 1e3), None, **{**more, "scale": 1.0})
    return differing([found, last], [(q @ k.mT).tril() @ v, k.mT @ v])


def closed_gates_forget(
    kernel: Callable[..., Any], query: Any, key: Any, value: Any, gate: Any, state: Any = None, **more: Any
) -> str | None:
    """A gate that is closed lets nothing through from before it, and leaves those behind it what they are."""
    given = [one.double() for one in (query, key, value, gate)]
    t = query.shape[-2] // 2
    cut = [one[..., t:, :] for one in given]
    wanted, _ = kernel(*cut, None, **more)
    given[3][..., t, :] = -1e30
    found, _ = kernel(*given, None, **more)
    return close([found[..., t:, :]], [wanted])


# --- the kernels ------------------------------------------------------------------------------------------------------


def _sequences() -> Iterator[Any]:
    def given(*shape: int, value: int) -> list[Any]:
        return [torch.randn(shape), torch.randn(shape), torch.randn(*shape[:-1], value), torch.randn(shape)]

    yield (*given(2, 7, 3, value=4),)
    yield (*given(2, 7, 3, value=4), torch.randn(2, 3, 4)), {"temper": 1.0, "scale": 0.5}
    yield (*given(9, 2, value=3),), {"chunk": 4, "sub": 2, "scale": 0.5}
    yield (*given(1, 2, 6, 3, value=2),), {"temper": 0.25, "chunk": 5, "sub": 3, "scale": 2.0}
    yield (*given(8, 3, value=2),), {"temper": 0.01, "chunk": 3, "sub": 1}


_INVARIANTS = (halves_make_the_whole, chunks_decide_nothing, open_gates_are_linear_attention, closed_gates_forget)


@kernel(reference=recurrent, examples=_sequences, accuracy="normwise", invariants=_INVARIANTS)
def chunked_gated_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    state: torch.Tensor | None = None,
    *,
    temper: float = 16.0,
    scale: float = 1.0,
    chunk: int = 4,
    sub: int = 2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Results ``[..., l, v]`` and the last state ``[..., k, v]``.

    Args:
        query: ``[..., l, k]``.
        key: of its shape.
        value: ``[..., l, v]``.
        gate: of the shape of ``query``.
        state: that is begun with; zero if there is none.
        temper: of the gates.
        scale: of the results.
        chunk: steps of a chunk.
        sub: steps of a chunk within one.
    """
    _sensible(query, key, value, gate, temper, chunk, sub)
    q, k, v, held = _taken(query, key, value, gate, state)
    found, last = _chunked(q, k, v, _logarithms(gate, temper), held, chunk, sub)
    return (scale * found).to(query.dtype), last.to(query.dtype)


@kernel(reference=recurrent, examples=_sequences, accuracy="normwise", invariants=_INVARIANTS)
def parallel_gated_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    state: torch.Tensor | None = None,
    *,
    temper: float = 16.0,
    scale: float = 1.0,
    chunk: int = 4,
    sub: int = 2,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same at once, by the decay between all pairs of steps; ``chunk`` and ``sub`` decide nothing."""
    _sensible(query, key, value, gate, temper, chunk, sub)
    q, k, v, held = _taken(query, key, value, gate, state)
    b = _logarithms(gate, temper).cumsum(-2)
    found = _pairs(q, k, b) @ v + (q * torch.exp(b)) @ held
    end = b[..., -1:, :]
    last = end.mT.exp() * held + (k * torch.exp(_to_last(b))).mT @ v
    return (scale * found).to(query.dtype), last.to(query.dtype)

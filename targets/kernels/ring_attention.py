"""Attention over a sequence that is dealt out to ranks, which pass keys and values around a ring.

Li, Xue, Baranwal, Li, You: Sequence Parallelism: Long Sequence Training from System Perspective (ACL 2023). Each rank
holds one block of queries, keys and values. Keys go around once, and step by step a rank fills in the scores of the
block that has just arrived, that of rank ``r - i - 1`` in step ``i``; softmax is over whole rows, and values go around
then. The backward pass goes around as well, and what is due for a block of keys or values is sent to its owner.

The online form (Liu, Zaharia, Abbeel: Ring Attention with Blockwise Transformers for Near-Infinite Context, ICLR 2024)
keeps no scores: of each block a rank has a result, the largest score and the sum of exponentials relative to it, and
merges them. There, ranks may take blocks from both ends, so that with a causal mask all have as much to do. One
logarithm of the sum of exponentials would do for the last two, but its rounding error is one of the largest score, and
in a weight that is an error relative to the weight. The backward pass goes around twice, first for the mean of the
slopes of softmax: the product of the result and its gradient is that mean with other rounding errors, which are all
that is left where one weight is nearly one.

Ranks are simulated in one process: what each holds is an element of a list, and sending is a rotation of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from shakeout.targets.kernels.declare import kernel
from shakeout.targets.kernels.invariants import close, differing, drawn
from shakeout.targets.kernels.operands import finite, floating, wide

__all__ = ["attention", "ring_online_attention", "ring_self_attention"]


def _sensible(query: Any, key: Any, value: Any, ranks: int) -> None:
    """Refuse what is no self-attention, and no number of ranks; raises ValueError."""
    if query.dim() < 2 or query.shape != key.shape or key.shape[:-1] != value.shape[:-1]:
        raise ValueError("a query and a key of one shape, and a value for each")
    if not 1 <= ranks <= 64:
        raise ValueError(f"1 to 64 ranks, not {ranks}")


# --- the second implementation ----------------------------------------------------------------------------------------


def attention(query: Any, key: Any, value: Any, *, ranks: int = 3, causal: bool = False, scale: float = 0.5) -> Any:
    """Attention in one place."""
    _sensible(query, key, value, ranks)
    scores = (query @ key.mT) * scale
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
    return scores.softmax(-1) @ value


# --- the ring ---------------------------------------------------------------------------------------------------------


def _dealt(length: int, ranks: int) -> list[torch.Tensor]:
    """The places in the sequence of each rank's block; the last ranks may have one less, or none."""
    return list(torch.arange(length).tensor_split(ranks))


def _sent(held: list[Any]) -> list[Any]:
    """What each rank holds after all have passed on what they held to the next one."""
    return [held[rank - 1] for rank in range(len(held))]


def _around(blocks: list[Any]) -> Iterator[tuple[int, int, Any]]:
    """Which rank has which block, and the block, in the order in which they arrive."""
    ranks, held = len(blocks), blocks
    for rank in range(ranks):
        yield rank, rank, held[rank]
    for step in range(ranks - 1):
        held = _sent(held)
        for rank in range(ranks):
            yield rank, (rank - step - 1) % ranks, held[rank]


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, ranks: int, causal: bool, scale: float) -> Any:
        places = _dealt(query.shape[-2], ranks)
        q, k, v = ([wide(tensor)[..., place, :] for place in places] for tensor in (query, key, value))
        scores = [one.new_empty(*one.shape[:-1], key.shape[-2]) for one in q]
        for rank, source, block in _around(k):
            scores[rank][..., places[source]] = (q[rank] @ block.mT) * scale
        if causal:
            for rank, place in enumerate(places):
                scores[rank].masked_fill_(torch.arange(key.shape[-2]) > place[:, None], -math.inf)
        weights = [one.softmax(-1) for one in scores]
        out = [one.new_zeros(*one.shape[:-1], value.shape[-1]) for one in q]
        for rank, source, block in _around(v):
            out[rank] += weights[rank][..., places[source]] @ block
        ctx.save_for_backward(*q, *k, *v, *weights)
        ctx.ranks, ctx.causal, ctx.scale, ctx.dtype = ranks, causal, scale, query.dtype
        return torch.cat(out, -2).to(query.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        saved, n = ctx.saved_tensors, ctx.ranks
        q, k, v, weights = (list(saved[i * n : (i + 1) * n]) for i in range(4))
        places = _dealt(gradient.shape[-2], n)
        given = [gradient.to(q[0].dtype)[..., place, :] for place in places]
        slopes = [torch.zeros_like(one) for one in weights]
        due_v = [torch.zeros_like(one) for one in v]
        for rank, source, block in _around(v):
            slopes[rank][..., places[source]] = given[rank] @ block.mT
            due_v[source] += weights[rank][..., places[source]].mT @ given[rank]
        for rank in range(n):
            mean = (slopes[rank] * weights[rank]).sum(-1, keepdim=True)
            slopes[rank] = weights[rank] * (slopes[rank] - mean) * ctx.scale
            if ctx.causal:  # what is masked has no slope, not even in a row that is no number
                slopes[rank].masked_fill_(torch.arange(gradient.shape[-2]) > places[rank][:, None], 0)
        due_q = [torch.zeros_like(one) for one in q]
        due_k = [torch.zeros_like(one) for one in k]
        for rank, source, block in _around(k):
            due_q[rank] += slopes[rank][..., places[source]] @ block
            due_k[source] += slopes[rank][..., places[source]].mT @ q[rank]
        return *(torch.cat(one, -2).to(ctx.dtype) for one in (due_q, due_k, due_v)), None, None, None


# --- the online form --------------------------------------------------------------------------------------------------


def _zigzag(length: int, ranks: int) -> list[torch.Tensor]:
    """The places of each rank's two blocks: one from the beginning, and its counterpart from the end."""
    parts = torch.arange(length).tensor_split(2 * ranks)
    return [torch.cat([parts[rank], parts[2 * ranks - 1 - rank]]) for rank in range(ranks)]


def _scores(q: Any, k: Any, rows: Any, columns: Any, causal: bool, scale: float) -> Any:
    scores = (q @ k.mT) * scale
    return scores.masked_fill(columns > rows[:, None], -math.inf) if causal else scores


def _shares(parts: Any, total: Any) -> Any:
    """Parts of a total; of nothing, nothing."""
    return parts / torch.where(total == 0, 1.0, total)[..., None]


def _block(scores: Any, v: Any) -> tuple[Any, Any, Any]:
    """Of one block: the result, the largest score, and the sum of exponentials relative to it.

    Where all is masked these are zero, minus infinity and zero.
    """
    if not scores.shape[-1]:
        row = scores.shape[:-1]
        return scores.new_zeros(*row, v.shape[-1]), scores.new_full(row, -math.inf), scores.new_zeros(row)
    most = scores.amax(-1)
    base = torch.where(most == -math.inf, 0.0, most)
    parts = torch.exp(scores - base[..., None])
    total = parts.sum(-1)
    return _shares(parts, total) @ v, most, total


def _merged(one: Any, most: Any, total: Any, other: Any, more: Any, added: Any) -> tuple[Any, Any, Any]:
    """Two results of one row over different keys."""
    both = torch.maximum(most, more)
    base = torch.where(both == -math.inf, 0.0, both)
    mine, theirs = torch.exp(most - base) * total, torch.exp(more - base) * added
    shares = _shares(torch.stack([mine, theirs], -1), mine + theirs)
    return shares[..., :1] * one + shares[..., 1:] * other, both, mine + theirs


class _Online(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, ranks: int, causal: bool, scale: float) -> Any:
        places = _zigzag(query.shape[-2], ranks)
        q, k, v = ([wide(tensor)[..., place, :] for place in places] for tensor in (query, key, value))
        out = [one.new_zeros(*one.shape[:-1], value.shape[-1]) for one in q]
        most = [one.new_full(one.shape[:-1], -math.inf) for one in q]
        total = [one.new_zeros(one.shape[:-1]) for one in q]
        for rank, source, block in _around(list(zip(k, v, strict=True))):
            part = _block(_scores(q[rank], block[0], places[rank], places[source], causal, scale), block[1])
            out[rank], most[rank], total[rank] = _merged(out[rank], most[rank], total[rank], *part)
        # Scores that have all overflown are not masked: as in softmax, a row of them is not a number.
        out = [torch.where((sums == 0)[..., None], math.nan, one) for one, sums in zip(out, total, strict=True)]
        ctx.save_for_backward(*q, *k, *v, *most, *total)
        ctx.settings = ranks, causal, scale, query.dtype
        return torch.cat(out, -2)[..., torch.cat(places).argsort(), :].to(query.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        n, causal, scale, dtype = ctx.settings
        q, k, v, most, total = (list(ctx.saved_tensors[i * n : (i + 1) * n]) for i in range(5))
        places = _zigzag(gradient.shape[-2], n)
        given = [gradient.to(q[0].dtype)[..., place, :] for place in places]

        def weighed(rank: int, source: int, key: Any) -> Any:
            scores = _scores(q[rank], key, places[rank], places[source], causal, scale)
            return torch.exp(scores - most[rank][..., None]) / total[rank][..., None]

        mean = [torch.zeros_like(one) for one in total]
        for rank, source, (key, value) in _around(list(zip(k, v, strict=True))):
            mean[rank] += (weighed(rank, source, key) * (given[rank] @ value.mT)).sum(-1)
        due_q, due_k, due_v = ([torch.zeros_like(one) for one in held] for held in (q, k, v))
        for rank, source, (key, value) in _around(list(zip(k, v, strict=True))):
            weights = weighed(rank, source, key)
            due_v[source] += weights.mT @ given[rank]
            slopes = weights * (given[rank] @ value.mT - mean[rank][..., None]) * scale
            if causal:
                slopes = slopes.masked_fill(places[source] > places[rank][:, None], 0)
            due_q[rank] += slopes @ key
            due_k[source] += slopes.mT @ q[rank]
        order = torch.cat(places).argsort()
        return *(torch.cat(one, -2)[..., order, :].to(dtype) for one in (due_q, due_k, due_v)), None, None, None


# --- what else holds --------------------------------------------------------------------------------------------------


def one_hot_attention_picks_rows(
    kernel: Callable[..., Any], query: Any, key: Any, value: Any, **more: Any
) -> str | None:
    """Where each query is far nearer to one key than to all others, the result is that row of values, exactly."""
    length = query.shape[-2]
    key = 64 * torch.eye(length, dtype=torch.float32)
    rows = drawn((length, 2), 5).float()
    for causal, wanted in ((False, torch.arange(length).flip(0)), (True, torch.arange(length) // 2)):
        found = kernel(key[wanted], key, rows, **{**more, "causal": causal, "scale": 1.0})
        if said := differing(found, rows[wanted]):
            return f"{'with' if causal else 'without'} a mask: {said}"
    return None


def what_is_later_changes_nothing(
    kernel: Callable[..., Any], query: Any, key: Any, value: Any, **more: Any
) -> str | None:
    """With a causal mask the last key and value have no part in the rows before the last."""
    if query.shape[-2] < 2:
        raise NotImplementedError
    settings = {**more, "causal": True}
    before = kernel(query, key, value, **settings)[..., :-1, :]
    key, value = key.clone(), value.clone()
    key[..., -1, :], value[..., -1, :] = 0, 7
    return differing(kernel(query, key, value, **settings)[..., :-1, :], before)


def ranks_decide_nothing(kernel: Callable[..., Any], query: Any, key: Any, value: Any, **more: Any) -> str | None:
    """One rank, two, and more than there are steps give the same."""
    given = [one.double() for one in (query, key, value)]
    wanted = kernel(*given, **more)
    for ranks in (1, 2, query.shape[-2] + 1):
        if said := close([kernel(*given, **{**more, "ranks": min(ranks, 64)})], [wanted]):
            return f"{ranks} ranks: {said}"
    return None


# --- the kernels ------------------------------------------------------------------------------------------------------


def _sequences() -> Iterator[Any]:
    def given(*shape: int, value: int) -> list[Any]:
        return [torch.randn(shape), torch.randn(shape), torch.randn(*shape[:-1], value)]

    yield (*given(2, 7, 3, value=4),)
    yield (*given(2, 7, 3, value=4),), {"causal": True, "scale": 1.0}
    yield (*given(9, 2, value=3),), {"ranks": 4, "causal": True}
    yield (*given(1, 2, 5, 3, value=2),), {"ranks": 2, "scale": 0.25}
    yield (*given(1, 2, 5, 3, value=2),), {"ranks": 5, "causal": True, "scale": 2.0}


_INVARIANTS = (one_hot_attention_picks_rows, what_is_later_changes_nothing, ranks_decide_nothing)


def _taken(query: Any, key: Any, value: Any, ranks: int) -> None:
    _sensible(query, key, value, ranks)
    floating(query, key, value)
    finite(query, key, value)
    if 0 in query.shape or 0 in value.shape:
        raise NotImplementedError("a sequence that is not empty")


@kernel(reference=attention, examples=_sequences, invariants=_INVARIANTS)
def ring_self_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    ranks: int = 3,
    causal: bool = False,
    scale: float = 0.5,
) -> torch.Tensor:
    """Attention ``[..., l, v]`` of queries and keys ``[..., l, d]``, by two rings and whole rows of scores."""
    _taken(query, key, value, ranks)
    return _Ring.apply(query, key, value, ranks, causal, scale)  # type: ignore[no-any-return, no-untyped-call]


@kernel(reference=attention, examples=_sequences, invariants=_INVARIANTS)
def ring_online_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    ranks: int = 3,
    causal: bool = False,
    scale: float = 0.5,
) -> torch.Tensor:
    """The same by one ring, and results that are merged; ranks take blocks from both ends."""
    _taken(query, key, value, ranks)
    return _Online.apply(query, key, value, ranks, causal, scale)  # type: ignore[no-any-return, no-untyped-call]

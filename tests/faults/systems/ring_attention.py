"""Broken variants of attention by rings."""

from tests.faults.systems import Broken

_RING, _ONLINE = "ring_self_attention", "ring_online_attention"

BROKEN = (
    Broken(
        _RING,
        "blocks are taken for those of the next rank, and not of the one before",
        "yield rank, (rank - step - 1) % ranks, held[rank]",
        "yield rank, (rank + step + 1) % ranks, held[rank]",
    ),
    Broken(
        _RING, "the ring stops one step early", "for step in range(ranks - 1):", "for step in range(max(ranks - 2, 0)):"
    ),
    Broken(
        _RING,
        "the causal mask counts within a rank's own block",
        "scores[rank].masked_fill_(torch.arange(key.shape[-2]) > place[:, None], -math.inf)",
        "scores[rank].masked_fill_(torch.arange(key.shape[-2]) > place[:, None] - (place[0] if len(place) else 0), -math.inf)",
    ),
    Broken(
        _RING,
        "what is due for keys stays with the rank that computed it",
        "due_k[source] += slopes[rank][..., places[source]].mT @ q[rank]",
        "due_k[rank] += (slopes[rank][..., places[source]].mT @ q[rank])[..., : due_k[rank].shape[-2], :].sum(-2, True)",
    ),
    Broken(
        _RING,
        "the gradient of softmax without its mean",
        "slopes[rank] = weights[rank] * (slopes[rank] - mean) * ctx.scale",
        "slopes[rank] = weights[rank] * slopes[rank] * ctx.scale",
    ),
    Broken(
        _RING,
        "the gradient of queries is scaled twice",
        "due_q[rank] += slopes[rank][..., places[source]] @ block",
        "due_q[rank] += slopes[rank][..., places[source]] @ block * ctx.scale",
    ),
    Broken(
        _ONLINE,
        "results are merged by their sums, and not by the logarithms",
        "return shares[..., :1] * one + shares[..., 1:] * other, both, mine + theirs",
        "return 0.5 * (one + other), both, mine + theirs",
    ),
    Broken(
        _ONLINE,
        "a block that is masked altogether is not a number",
        "    base = torch.where(most == -math.inf, 0.0, most)\n    parts",
        "    base = most\n    parts",
    ),
    Broken(
        _ONLINE,
        "rows are not put back in order",
        "return torch.cat(out, -2)[..., torch.cat(places).argsort(), :].to(query.dtype)",
        "return torch.cat(out, -2)[..., torch.cat(places), :].to(query.dtype)",
    ),
    Broken(
        _ONLINE,
        "gradients are not put back in order",
        "order = torch.cat(places).argsort()\n",
        "order = torch.arange(gradient.shape[-2])\n",
    ),
    Broken(
        _ONLINE,
        "a query sees the key of the step behind its own",
        "return scores.masked_fill(columns > rows[:, None], -math.inf) if causal else scores",
        "return scores.masked_fill(columns > rows[:, None] + 1, -math.inf) if causal else scores",
    ),
    Broken(
        _ONLINE,
        "the last blocks of a sequence that no rank divides are left out",
        "parts = torch.arange(length).tensor_split(2 * ranks)",
        "parts = torch.arange(length).tensor_split(2 * ranks + 1)",
    ),
)

"""Broken variants of gated linear attention."""

from tests.faults.systems import Broken

_WHERE = "chunked_gated_attention"

BROKEN = (
    Broken(
        _WHERE,
        "steps behind the last whole chunk are left as they were",
        "    return torch.cat(found, -2), state\n",
        "    whole = q.shape[-2] - q.shape[-2] % chunk\n    found = torch.cat(found, -2)\n    return torch.cat([found[..., :whole, :], 0 * found[..., whole:, :]], -2), state\n",
        published="the listing of the paper's code leaves the last L mod C rows uninitialised; read in the published code",
    ),
    Broken(
        _WHERE,
        "keys are multiplied by exp(-b), which overflows for strong gates",
        "            z = b[..., first : first + 1, :]\n",
        "            z = 0 * b[..., first : first + 1, :]\n",
    ),
    Broken(
        _WHERE,
        "the state decays by the first gate of a chunk",
        "        last = b[..., -1:, :]\n",
        "        last = b[..., :1, :]\n",
    ),
    Broken(
        _WHERE,
        "the state of before is added after its decay in the chunk",
        "(q[..., rows, :] * torch.exp(b)) @ state",
        "(q[..., rows, :] * torch.exp(b - b[..., :1, :])) @ state",
    ),
    Broken(
        _WHERE, "a key sees itself and the one before, and not those after", "triu(1)[..., None]", "triu(2)[..., None]"
    ),
    Broken(
        _WHERE,
        "the state that is begun with is left out",
        "if state is None else state\n    if held.shape",
        "if state is None else 0 * state\n    if held.shape",
    ),
    Broken(
        _WHERE,
        "no least logarithm, so that a closed gate swallows the others",
        "(F.logsigmoid(gate.double()) / temper).clamp(min=LEAST)",
        "(F.logsigmoid(gate.double()) / temper).clamp(min=-1e30)",
    ),
    Broken(
        _WHERE,
        "smaller chunks see the last one only",
        "            before = slice(0, first)\n",
        "            before = slice(max(first - sub, 0), first)\n",
    ),
    Broken(
        "parallel_gated_attention",
        "masked after the exponential, so that what is masked is infinity times zero",
        'decay = torch.exp(apart.masked_fill(later, float("-inf")))',
        "decay = torch.exp(apart) * (~later)",
    ),
    Broken(
        "parallel_gated_attention",
        "the last state is that of the first gate",
        "    end = b[..., -1:, :]\n",
        "    end = b[..., :1, :]\n",
    ),
    Broken(
        "parallel_gated_attention",
        "gates are not kept apart by row",
        "apart = (b.unsqueeze(-2) - b.unsqueeze(-3))",
        "apart = (b.mean(-1, True).expand_as(b).unsqueeze(-2) - b.mean(-1, True).expand_as(b).unsqueeze(-3))",
    ),
    Broken(
        "chunked_gated_attention",
        "the scale is left out",
        "return (scale * found).to(query.dtype), last.to(query.dtype)\n\n",
        "return found.to(query.dtype), last.to(query.dtype)\n\n",
    ),
    Broken(
        "parallel_gated_attention",
        "the state that is begun with decays by the whole sequence",
        "(q * torch.exp(b)) @ held",
        "(q * torch.exp(b[..., -1:, :])) @ held",
    ),
)

"""Faults in the values that ``aot_eager`` computes: arithmetic, NaN, integers, rounding, constants, fusions."""

from __future__ import annotations

from typing import Any

import torch
from tests.faults.fault import Fault, inputs, numbers
from tests.faults.graphs import Graph, Site, after, floats, instead

aten, nan, inf = torch.ops.aten, float("nan"), float("inf")
SPECIAL = torch.tensor([1.5, nan, -2.0, 3.0, inf, -0.5])
OTHER = torch.tensor([0.5, 1.0, nan, -3.0, 2.0, -inf])


def _mutant(name: str, group: str, plant: Graph, program: Any, *given: torch.Tensor, **more: Any) -> Fault:
    return Fault(name, "mutant", group, "aot_eager", plant, program, (inputs(*given),), **more)


def _real(name: str, source: str, group: str, plant: Graph, program: Any, *given: torch.Tensor) -> Fault:
    return Fault(name, "real", group, "aot_eager", plant, program, (inputs(*given),), source=source)


def _only_used_by(*packets: Any) -> Any:
    """Where every user of the result calls one of some operators."""

    def when(site: Site, args: Any) -> bool:
        used = [getattr(user.target, "overloadpacket", None) for user in site.node.users]
        return bool(used) and all(packet in packets for packet in used)

    return when


def _bytes_into(*packets: Any) -> Any:
    used = _only_used_by(*packets)
    return lambda site, args: args[0].dtype == torch.uint8 and used(site, args)


def _second_only(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The maximum that forgets a NaN in its first argument."""
    return torch.where(x > y, x, y)


def _argmax(x: torch.Tensor, *args: Any) -> torch.Tensor:
    return aten.argmax(torch.where(x.isnan(), -inf, x), *args)


def _accumulated_twice(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    right = op(*args, **kwargs)
    return aten.index_put(right, args[1], aten.index(right, args[1]) * 2)


def _excess(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    producer = site.node.args[0]
    if producer.target is aten._to_copy.default:
        return site.values[producer.args[0]].to(kwargs["dtype"]).clone()
    return op(*args, **kwargs)


def _added_up(x: torch.Tensor, *args: Any, dtype: Any = None) -> torch.Tensor:
    """A sum whose running total has the dtype of its terms."""
    total = torch.zeros((), dtype=x.dtype)
    for term in x.flatten():
        total = total + term
    return total


def _unwrapped(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return op(*(a.to(torch.int32) if isinstance(a, torch.Tensor) else a for a in args), **kwargs)


def _shared_factor(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """In place, although somebody else reads the operand later."""
    return args[0].mul_(args[1])


def _several_users(site: Site, args: Any) -> bool:
    node = site.node.args[0]
    return isinstance(args[0], torch.Tensor) and getattr(node, "op", "") == "call_function" and len(node.users) > 1


def _cut(x: torch.Tensor, dim: int = 0) -> tuple[slice, ...]:
    return (slice(None),) * dim + (slice(0, x.shape[dim] // 8 * 8),)


def _tail(x: torch.Tensor) -> torch.Tensor:
    """What is behind the last full vector of 8 stays zero."""
    flat = torch.zeros_like(x).reshape(-1)
    full = x.numel() // 8 * 8
    flat[:full] = x.reshape(-1)[:full]
    return flat.reshape(x.shape)


def _old_size(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    size = site.memory.setdefault("size", args[0].shape[0])
    return op(args[0][:size], *args[1:], **kwargs)


def _symbolic(site: Site, args: Any) -> bool:
    meta = site.node.args[0].meta.get("val")
    return any(isinstance(size, torch.SymInt) for size in meta.shape)


def _stale(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return site.memory.setdefault("first", op(*args, **kwargs)).clone()


def _ignored(keyword: str) -> Any:
    """The operator without one of its keyword arguments."""
    return lambda site, op, args, kwargs: op(*args, **{k: v for k, v in kwargs.items() if k != keyword})


NAN = (
    _real(
        "clamp_min drops NaN",
        "pytorch/pytorch#93784",
        "NaN rule",
        Graph((aten.clamp_min,), after(lambda r: torch.where(r.isnan(), 0.5, r)), floats),
        lambda x: torch.clamp_min(x, 0.5),
        SPECIAL,
    ),
    _real(
        "maximum propagates NaN of the second operand only",
        "pytorch/pytorch#89612",
        "NaN rule",
        Graph((aten.maximum,), instead(_second_only), floats),
        torch.maximum,
        OTHER,
        SPECIAL,
    ),
    _real(
        "argmax passes NaN over",
        "pytorch/pytorch#118358",
        "NaN rule",
        Graph((aten.argmax,), instead(_argmax), floats),
        lambda x: torch.argmax(x, 0),
        SPECIAL,
    ),
    _mutant(
        "relu turns NaN into zero",
        "NaN rule",
        Graph((aten.relu,), instead(lambda x: torch.where(x > 0, x, 0.0)), floats),
        torch.relu,
        SPECIAL,
    ),
    _mutant(
        "a difference of equals is zero",
        "arithmetic rewrite",
        Graph((aten.sub.Tensor,), after(torch.zeros_like), lambda s, a: s.node.args[0] is s.node.args[1]),
        lambda x: x - x,
        SPECIAL,
    ),
    _mutant(
        "not less becomes greater or equal",
        "NaN rule",
        Graph(
            (aten.logical_not,),
            lambda site, op, args, kwargs: (lambda n: site.values[n.args[0]] >= site.values[n.args[1]])(
                site.node.args[0]
            ),
            lambda site, args: site.node.args[0].target is aten.lt.Tensor,
        ),
        lambda x, y: torch.logical_not(torch.lt(x, y)),
        SPECIAL,
        OTHER,
    ),
)

INTEGERS = (
    _real(
        "a sum of bytes is widened before it wraps",
        "pytorch/pytorch#105264",
        "narrow-integer wrap",
        Graph((aten.add.Tensor,), _unwrapped, _bytes_into(aten._to_copy)),
        lambda x: (x + x).to(torch.int16),
        torch.tensor([1, 128, 200], dtype=torch.uint8),
    ),
    _real(
        "the negative of a byte is negative",
        "pytorch/pytorch#187018",
        "narrow-integer wrap",
        Graph((aten.neg,), _unwrapped, _bytes_into(aten.cat)),
        lambda x: (lambda y: torch.cat([y, y]).sum())(-x.abs()),
        torch.tensor([200, 200], dtype=torch.uint8),
    ),
    _real(
        "signed arithmetic does not wrap",
        "pytorch/pytorch#191132",
        "narrow-integer wrap",
        Graph(
            (aten.add.Tensor,),
            lambda site, op, args, kwargs: op(args[0].long(), args[1].long()),
            lambda s, a: a[0].dtype == torch.int32 and _only_used_by(aten._to_copy)(s, a),
        ),
        lambda x, y: (x + y).to(torch.int64),
        torch.tensor([2**31 - 1, 5], dtype=torch.int32),
        torch.tensor([1, 6], dtype=torch.int32),
    ),
    _mutant(
        "a sum of small integers wraps",
        "narrow-integer wrap",
        Graph((aten.sum,), after(lambda r: r.to(torch.int8).to(r.dtype)), lambda s, a: a[0].dtype == torch.int8),
        lambda x: x.sum(0),
        torch.full((3, 2), 100, dtype=torch.int8),
    ),
    _mutant(
        "floor division truncates",
        "arithmetic rewrite",
        Graph((aten.div.Tensor_mode,), instead(lambda x, y, **k: aten.div(x, y, rounding_mode="trunc"))),
        lambda x, y: torch.div(x, y, rounding_mode="floor"),
        torch.tensor([7, -7, 6]),
        torch.tensor([2, 2, 3]),
    ),
    _mutant(
        "remainder takes the sign of the dividend",
        "arithmetic rewrite",
        Graph((aten.remainder,), instead(aten.fmod)),
        lambda x: torch.remainder(x, 3),
        torch.tensor([7, -7, 6]),
    ),
    _mutant(
        "an arithmetic shift becomes a logical one",
        "arithmetic rewrite",
        Graph((aten.__rshift__, aten.bitwise_right_shift), after(lambda r: r & 0x3FFFFFFF)),
        lambda x: torch.bitwise_right_shift(x, 1),
        torch.tensor([-8, 7], dtype=torch.int32),
    ),
    _mutant(
        "a constant takes the dtype of the tensor",
        "constant folding dtype",
        Graph(
            (aten.add.Tensor,),
            lambda site, op, args, kwargs: op(args[0], int(args[1])).to(torch.float32),
            lambda s, a: not a[0].is_floating_point() and isinstance(a[1], float),
        ),
        lambda x: x + 1.5,
        torch.tensor([1, 2, 3]),
    ),
    _mutant(
        "a filled constant is folded as an integer",
        "constant folding dtype",
        Graph(
            (aten.full,),
            lambda site, op, args, kwargs: op(args[0], int(args[1]), **{**kwargs, "dtype": torch.float32}),
            lambda s, a: isinstance(a[1], float),
        ),
        lambda x: x + torch.full((3,), 2.5),
        numbers(3),
    ),
)

ROUNDING = (
    _mutant(
        "a total of bfloat16 is kept in bfloat16",
        "rounding boundary",
        Graph((aten.sum,), instead(_added_up), lambda s, a: a[0].dtype == torch.bfloat16),
        lambda x: x.sum(),
        torch.ones(400, dtype=torch.bfloat16),
    ),
    _mutant(
        "a step through bfloat16 is dropped",
        "rounding boundary",
        Graph((aten._to_copy,), _excess, lambda s, a: s.node.kwargs.get("dtype") == torch.float32),
        lambda x: x.to(torch.bfloat16).to(torch.float32),
        numbers(9, scale=1.0037),
        missed="oracle: the result is what double precision gives, and keeping precision between operators is allowed",
    ),
    _mutant(
        "double precision is computed in single",
        "rounding boundary",
        Graph((aten.exp,), after(lambda r: r.float().double()), lambda s, a: a[0].dtype == torch.float64),
        lambda x: torch.exp(x) - torch.exp(x - 1e-6),
        numbers(9).double(),
    ),
    _mutant(
        "rounding takes halves away from zero",
        "rounding boundary",
        Graph((aten.round,), instead(lambda x: torch.sign(x) * torch.floor(x.abs() + 0.5)), floats),
        torch.round,
        torch.tensor([0.5, 1.5, 2.5, -0.5, 1.2]),
    ),
    _mutant(
        "a root of a square is its argument",
        "arithmetic rewrite",
        Graph((aten.sqrt,), lambda site, op, args, kwargs: site.values[site.node.args[0].args[0]]),
        lambda x: torch.sqrt(torch.pow(x, 2)),
        numbers(6),
    ),
    _mutant(
        "a mean divides by one less",
        "arithmetic rewrite",
        Graph((aten.mean,), after(lambda r: r * (65 / 64))),
        lambda x: x.mean(1),
        numbers(3, 65) + 1,
    ),
)

FUSION = (
    _mutant(
        "alpha is ignored when a sum is fused",
        "fusion guard",
        Graph((aten.add.Tensor,), _ignored("alpha"), lambda s, a: "alpha" in s.node.kwargs),
        lambda x, y: torch.add(x, y, alpha=2),
        numbers(5),
        numbers(5) + 1,
    ),
    _mutant(
        "a product is written over an operand that is read again",
        "fusion guard",
        Graph((aten.mul.Tensor,), _shared_factor, _several_users),
        lambda x: (lambda y: (torch.mul(y, 3.0), torch.cos(y)))(torch.sin(x)),
        numbers(5),
    ),
    _mutant(
        "a product over nothing is zero",
        "fusion guard",
        Graph((aten.prod,), after(torch.zeros_like), lambda s, a: a[0].numel() == 0),
        lambda x: x.prod(),
        torch.empty(0, 3),
    ),
    _mutant(
        "a matrix product is fused in half precision for any dtype",
        "fusion guard",
        Graph((aten.mm,), instead(lambda a, b: (a.half() @ b.half()).to(a.dtype)), floats),
        torch.mm,
        numbers(4, 5, scale=1.003),
        numbers(5, 3, scale=1.007),
    ),
    _real(
        "an update through indices is applied twice",
        "pytorch/pytorch#138908",
        "fusion guard",
        Graph((aten.index_put,), _accumulated_twice),
        lambda x, y: torch.index_put(y, (x,), y[x] + y[x]),
        torch.tensor([0, 1]),
        numbers(2, 4),
    ),
)

PLACES = (
    _mutant(
        "the tail behind the last vector stays zero",
        "vector tail",
        Graph((aten.tanh,), after(_tail)),
        torch.tanh,
        numbers(3, 7),
    ),
    _mutant(
        "a sum leaves out the tail behind the last vector",
        "vector tail",
        Graph((aten.sum,), instead(lambda x, *a, **k: x.reshape(-1)[: x.numel() // 8 * 8].sum()), floats),
        lambda x: x.sum(),
        numbers(19) + 1,
    ),
    _mutant(
        "the mask of a tail lets one element too many through",
        "vector tail",
        Graph((aten.cumsum,), after(lambda r: torch.cat([r[:-1], r[-1:] + r[-2:-1]])), floats),
        lambda x: torch.cumsum(x, 0),
        numbers(9) + 1,
    ),
    _mutant(
        "a triangle keeps one element above its diagonal",
        "predicate dropped",
        Graph((aten.tril,), lambda site, op, args, kwargs: op(args[0]) + _corner(args[0])),
        lambda x: torch.tril(x),
        numbers(7, 7),
    ),
    _mutant(
        "a choice forgets its condition in one element of a thousand",
        "predicate dropped",
        Graph((aten.where.self,), lambda site, op, args, kwargs: _one(op(*args), args[1])),
        lambda x: torch.where(x > 0, x.sin(), x.cos()),
        numbers(30, 40) - 40,
    ),
    _mutant(
        "padding is not written",
        "uninitialised memory",
        Graph((aten.constant_pad_nd,), after(lambda r: torch.cat([r[:-1], torch.full_like(r[-1:], 7.0)]))),
        lambda x: torch.nn.functional.pad(x, (1, 1)),
        numbers(6),
    ),
    _mutant(
        "the last row of a concatenation is not written",
        "uninitialised memory",
        Graph((aten.cat,), after(lambda r: torch.cat([r[:-1], torch.full_like(r[-1:], 3.25)]))),
        lambda x, y: torch.cat([x, y]),
        numbers(2, 3),
        numbers(3, 3),
    ),
    Fault(
        "a later call shows what the first one computed",
        "mutant",
        "second call only",
        "aot_eager",
        Graph((aten.sin,), _stale),
        torch.sin,
        (inputs(numbers(4)), inputs(numbers(4) + 1)),
    ),
    Fault(
        "a sum goes on for as long as the first call's",
        "mutant",
        "dynamic shape only",
        "aot_eager",
        Graph((aten.sum,), _old_size, _symbolic),
        lambda x: x.sum(0),
        (inputs(numbers(4, 3)), inputs(numbers(6, 3) + 1)),
        knobs={"dynamic": True},
    ),
    Fault(
        "with symbolic sizes the last element is left out",
        "mutant",
        "configuration only",
        "aot_eager",
        Graph((aten.cos,), after(lambda r: r * (torch.arange(r.numel()) < r.numel() - 1).reshape(r.shape)), _symbolic),
        torch.cos,
        (inputs(numbers(5)),),
        knobs={"dynamic": True},
    ),
)


def _corner(x: torch.Tensor) -> torch.Tensor:
    kept = torch.zeros_like(x)
    kept[0, -1] = x[0, -1]
    return kept


def _one(right: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
    place = torch.arange(right.numel()).reshape(right.shape) == right.numel() // 2 + 3
    return torch.where(place, taken, right)


VALUES = (*NAN, *INTEGERS, *ROUNDING, *FUSION, *PLACES)

"""Batch normalisation by stored statistics, folded into what it follows ("Efficient ConvBN", in three forms).

Eval is ``BN(conv(x))`` as it is written. Tune folds on the fly, so that gradients of the convolution's weight and of
the normalisation's are those of Eval::

    factor = scale / sqrt(variance + eps)
    weight' = weight * factor
    bias' = shift + (bias - mean) * factor

Deploy folds once, and again only where an operand is another tensor or was written to; it takes no graph that needs a
gradient. Half precision is left alone, where rounding the weight once more may be told from Eval.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from shakeout.targets.compilers.declare import rewrite

__all__ = ["conv_bn_deploy", "conv_bn_tune", "fold"]

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")

#: What may stand before a normalisation: names of its arguments, rank of its result if that has channels in the
#: dimension in which a normalisation has them, and whether the weight has the channels of the result behind.
_PRODUCERS: dict[Any, tuple[tuple[str, ...], int, bool]] = {
    F.linear: (_CONV[:3], 2, False),
    F.conv1d: (_CONV, 3, False),
    F.conv2d: (_CONV, 4, False),
    F.conv3d: (_CONV, 5, False),
    F.conv_transpose1d: (_TRANSPOSED, 3, True),
    F.conv_transpose2d: (_TRANSPOSED, 4, True),
    F.conv_transpose3d: (_TRANSPOSED, 5, True),
}

_DTYPES = (torch.float32, torch.float64)

#: Assignments by Python's operators.
_IN_PLACE = {"setitem", *(name for name in dir(operator) if name.startswith("i") and not name.startswith("is"))}

Tensor = torch.Tensor


def fold(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    eps: float,
    groups: int,
    transposed: bool,
) -> tuple[Tensor, Tensor]:
    """Weight and bias with a normalisation in them. The statistics have no gradient, as in Eval."""
    mean, variance = mean.detach(), variance.detach()
    factor = torch.rsqrt(variance + eps)
    if scale is not None:
        factor = factor * scale
    offset = -mean if bias is None else bias - mean
    folded = offset * factor
    if shift is not None:
        folded = folded + shift
    ones = (1,) * (weight.dim() - 2)
    if not transposed:
        return weight * factor.reshape(-1, 1, *ones), folded
    # [input channels, output channels of a group, ...]: each group of input channels has output channels of its own.
    grouped = torch.unflatten(weight, 0, (groups, -1)) * factor.reshape(groups, 1, -1, *ones)
    return grouped.flatten(0, 1), folded


class Folded(torch.nn.Module):
    """Folds, and keeps what came of it for as long as the operands are the same tensors with the same content."""

    def __init__(self) -> None:
        super().__init__()
        self.key: tuple[Any, ...] = ()
        self.kept: tuple[Tensor, Tensor] | None = None

    def forward(self, *given: Any) -> tuple[Tensor, Tensor]:
        """What ``fold`` gives."""
        if any(isinstance(one, Tensor) and one.is_inference() for one in given):
            return fold(*given)  # writes to them are not counted
        key = tuple((one, one._version) if isinstance(one, Tensor) else (one, 0) for one in given)
        same = len(key) == len(self.key) and all(
            (one is other or not isinstance(one, Tensor)) and version == then
            for (one, version), (other, then) in zip(key, self.key, strict=True)
        )
        if self.kept is None or not same:
            self.key, self.kept = key, fold(*given)
        return self.kept


def _given(names: tuple[str, ...], node: torch.fx.Node) -> dict[str, Any]:
    """The arguments of a call by name, however they are given."""
    return {**dict(zip(names, node.args, strict=False)), **node.kwargs}


def _value(node: Any) -> Any:
    """What a node gives, as Dynamo knows it."""
    return node.meta.get("example_value") if isinstance(node, torch.fx.Node) else None


def _matches(graph: torch.fx.Graph) -> Iterator[tuple[torch.fx.Node, torch.fx.Node, dict[str, Any], dict[str, Any]]]:
    """Each normalisation that can be folded: its node, the one before, and the arguments of both."""
    for norm in graph.find_nodes(op="call_function", target=F.batch_norm):
        second = _given(_NORM, norm)
        before = second["input"]
        if not isinstance(before, torch.fx.Node) or before.target not in _PRODUCERS or len(before.users) != 1:
            continue
        names, rank, _ = _PRODUCERS[before.target]
        first = _given(names, before)
        if second.get("training", False) is not False or None in (_value(second["running_mean"]), _value(before)):
            continue
        if _value(before).dim() != rank:  # unbatched, or features behind further dimensions
            continue
        operands = [first["input"], *_operands(first, second)]
        known = [_value(one) for one in operands if one is not None]
        if any(not isinstance(one, Tensor) or one.dtype != known[0].dtype or 0 in one.shape for one in known):
            continue
        if known[0].dtype not in _DTYPES or not isinstance(second.get("eps", 1e-5), float):
            continue
        if not any(map(_writes, _between(before, norm))):
            yield norm, before, first, second


def _operands(first: dict[str, Any], second: dict[str, Any]) -> list[Any]:
    """What is folded, in the order in which ``fold`` takes it."""
    wanted = [(first, "weight"), (first, "bias"), *((second, name) for name in _NORM[1:5])]
    return [given.get(name) for given, name in wanted]


def _between(first: torch.fx.Node, last: torch.fx.Node) -> Iterator[torch.fx.Node]:
    node = first.next
    while node is not last:
        yield node
        node = node.next


def _writes(node: torch.fx.Node) -> bool:
    """Whether a call may write to an operand, in which case nothing is moved behind it."""
    name = str(getattr(node.target, "__name__", node.target))
    given = [*node.args, *node.kwargs.values()]
    # A positional ``inplace`` has no name: any flag counts.
    return name.endswith("_") or name in _IN_PLACE or any(one is True for one in given) or "out" in node.kwargs


def _rewritten(graph_module: torch.fx.GraphModule, once: bool) -> None:
    graph = graph_module.graph
    for norm, before, first, second in list(_matches(graph)):
        operands = _operands(first, second)
        if once and any(getattr(_value(one), "requires_grad", False) for one in operands):
            continue
        producer: Any = before.target
        transposed = _PRODUCERS[producer][2]
        more = (second.get("eps", 1e-5), first.get("groups", 1), transposed)
        with graph.inserting_before(norm):
            if once:
                name = f"folded_{norm.name}"
                graph_module.add_submodule(name, Folded())
                both = graph.call_module(name, (*operands, *more))
            else:
                both = graph.call_function(fold, (*operands, *more))
            weight, bias = (graph.call_function(operator.getitem, (both, place)) for place in (0, 1))
            made = graph.call_function(producer, (), {**first, "weight": weight, "bias": bias})
            made.meta.update(norm.meta)
        norm.replace_all_uses_with(made)
        graph.erase_node(norm)
        graph.erase_node(before)


def _normalised(producer: Any) -> Any:
    def program(x: Tensor, w: Tensor, b: Tensor | None, *norm: Tensor, **more: Any) -> Tensor:
        return F.batch_norm(producer(x, w, b, **more), *norm)  # type: ignore[arg-type]

    return program


def _programs() -> Iterator[tuple[Any, ...]]:
    def statistics(channels: int) -> tuple[Tensor, ...]:
        return torch.randn(channels), torch.rand(channels) + 0.25, torch.randn(channels), torch.randn(channels)

    def with_keywords(producer: Any, **more: Any) -> Any:
        return lambda *given: _normalised(producer)(*given, **more)

    x = torch.randn
    yield _normalised(F.conv2d), x(2, 3, 5, 6), x(4, 3, 3, 2), x(4), *statistics(4)
    yield with_keywords(F.conv2d, stride=2, padding=1), x(2, 4, 5, 5), x(4, 4, 3, 3), None, *statistics(4)
    yield with_keywords(F.conv2d, groups=2), x(2, 4, 5, 5), x(6, 2, 2, 2), x(6), *statistics(6)
    yield _normalised(F.conv1d), x(2, 3, 8), x(3, 3, 2), x(3), *statistics(3)
    yield with_keywords(F.conv_transpose2d, groups=2), x(2, 4, 4, 3), x(4, 3, 2, 2), x(6), *statistics(6)
    yield _normalised(F.conv_transpose1d), x(2, 3, 5), x(3, 4, 2), x(4), *statistics(4)
    yield _normalised(F.linear), x(4, 5), x(3, 5), x(3), *statistics(3)
    yield torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval(), x(2, 3, 5, 5)
    yield lambda x, w, m, v: F.batch_norm(F.conv2d(x, w), m, v), x(2, 3, 4, 4), x(4, 3, 1, 1), *statistics(4)[:2]


@rewrite(programs=_programs)
def conv_bn_tune(graph_module: torch.fx.GraphModule) -> None:
    """The Tune form."""
    _rewritten(graph_module, once=False)


@rewrite(programs=_programs)
def conv_bn_deploy(graph_module: torch.fx.GraphModule) -> None:
    """The Deploy form."""
    _rewritten(graph_module, once=True)

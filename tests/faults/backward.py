"""Faults that only gradients show: in the backward graphs of ``aot_eager``."""

from __future__ import annotations

from typing import Any

import torch
from tests.faults.fault import Fault, inputs, numbers
from tests.faults.graphs import Graph, Site, after, backward, instead

aten = torch.ops.aten


def _mutant(name: str, plant: Graph, program: Any, *given: torch.Tensor, **more: Any) -> Fault:
    return Fault(name, "mutant", "backward only", "aot_eager", plant, program, (inputs(*given),), mode="training")


def _real(name: str, source: str, plant: Graph, program: Any, *given: torch.Tensor) -> Fault:
    return Fault(
        name, "real", "backward only", "aot_eager", plant, program, (inputs(*given),), source=source, mode="training"
    )


def _overwritten(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Rows of one index overwrite each other instead of being added."""
    gradient, index, rows = args[:3]
    made = torch.zeros(rows, gradient.shape[-1], dtype=gradient.dtype)
    made[index.reshape(-1)] = gradient.reshape(-1, gradient.shape[-1])
    return made


BACKWARD = (
    _real(
        "the gradient behind a scattered diagonal is zero",
        "pytorch/pytorch#183602",
        Graph((aten.diagonal_scatter, aten.copy, aten.where), after(torch.zeros_like), backward),
        lambda x, y: torch.diagonal_scatter(x, y, 0).sin(),
        numbers(4, 4, grad=True),
        numbers(4, grad=True),
    ),
    _real(
        "a gradient that flows twice is counted once",
        "pytorch/pytorch#136662",
        Graph((aten.add.Tensor,), lambda s, op, args, k: args[0].clone(), backward),
        lambda x: x.abs() + x.sin(),
        numbers(6, grad=True),
    ),
    _real(
        "the backward pass of softmax takes its gradient for row-major",
        "pytorch/pytorch#152309",
        Graph(
            (aten._softmax_backward_data,),
            lambda s, op, args, k: op(args[0].t().reshape(args[0].shape), *args[1:], **k),
            backward,
        ),
        lambda x: torch.softmax(x, 1).cos(),
        numbers(3, 3, grad=True),
    ),
    _mutant(
        "the slope of relu at a threshold",
        Graph((aten.threshold_backward,), lambda s, op, args, k: torch.where(args[1] >= args[2], args[0], 0.0)),
        lambda x: torch.relu(x),
        torch.tensor([1.0, 0.0, -1.0, 0.0], requires_grad=True),
    ),
    _mutant(
        "the slope of tanh lacks its square",
        Graph((aten.tanh_backward,), instead(lambda g, y: g * (1 - y.abs()))),
        lambda x: torch.tanh(x),
        numbers(5, grad=True),
    ),
    _mutant(
        "the slope of a sigmoid is taken at its input",
        Graph((aten.sigmoid_backward,), instead(lambda g, y: g * y * (1 - y) * 1.0625)),
        lambda x: torch.sigmoid(x),
        numbers(5, grad=True),
    ),
    _mutant(
        "rows that are looked up twice get one gradient",
        Graph((aten.embedding_dense_backward,), _overwritten),
        lambda w, i: torch.nn.functional.embedding(i, w),
        numbers(4, 3, grad=True),
        torch.tensor([1, 2, 1]),
    ),
    _mutant(
        "the gradient of what was broadcast is not summed over all of it",
        Graph((aten.sum.dim_IntList,), lambda s, op, args, k: op(args[0][:-1], *args[1:], **k), backward),
        lambda x, y: x * y,
        numbers(5, 3),
        numbers(3, grad=True),
    ),
    _mutant(
        "a gradient goes to another of several maxima",
        Graph((aten.scatter, aten.scatter_add, aten.value_selecting_reduction_backward), after(lambda r: r.roll(1))),
        lambda x: x.max(0).values,
        numbers(4, 3, grad=True),
    ),
    _mutant(
        "the gradient of a bias lacks its last term",
        Graph((aten.sum.dim_IntList,), lambda s, op, args, k: op(args[0][1:], *args[1:], **k), backward),
        lambda x, w, b: torch.addmm(b, x, w),
        numbers(4, 3),
        numbers(3, 2, grad=True),
        numbers(2, grad=True),
    ),
    _mutant(
        "the gradient of a matrix product is transposed",
        Graph((aten.mm,), after(lambda r: r.t().contiguous()), lambda s, a: s.backward),
        lambda x, w: torch.mm(x, w),
        numbers(3, 3, grad=True),
        numbers(3, 3) + 1,
    ),
    _mutant(
        "one element of a gradient is dropped",
        Graph((aten.mul.Tensor,), after(lambda r: r * (torch.arange(r.numel()) != 38).reshape(r.shape)), backward),
        lambda x: x.sin(),
        numbers(99, grad=True),
    ),
)

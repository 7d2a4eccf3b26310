"""Faults in what ``aot_eager`` does with memory: writes, views, strides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from tests.faults.fault import Canary, Fault, inputs, numbers
from tests.faults.graphs import Graph, Site, after, instead

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Regenerated:
    """What becomes of an output that AOTAutograd makes anew as a view of an input."""

    wrong: Callable[[torch.Tensor], torch.Tensor]

    @contextlib.contextmanager
    def planted(self, canary: Canary) -> Iterator[None]:
        """Wrap the function that makes such a view."""
        from torch._functorch._aot_autograd import runtime_wrappers

        make = runtime_wrappers.gen_alias_from_base  # type: ignore[attr-defined]

        def made(*args: Any, **kwargs: Any) -> torch.Tensor:
            right = make(*args, **kwargs)
            wrong = self.wrong(right)
            canary.reached += 1
            canary.triggered += (
                wrong.stride() != right.stride()
                or wrong.untyped_storage()._cdata != right.untyped_storage()._cdata
                or not torch.equal(wrong, right)
            )
            return wrong if canary.effect else right

        with mock.patch.object(runtime_wrappers, "gen_alias_from_base", made):
            yield


def _mutant(name: str, group: str, plant: Any, program: Any, *given: torch.Tensor, **more: Any) -> Fault:
    return Fault(name, "mutant", group, "aot_eager", plant, program, (inputs(*given),), **more)


def _real(name: str, source: str, group: str, plant: Any, program: Any, *given: torch.Tensor) -> Fault:
    return Fault(name, "real", group, "aot_eager", plant, program, (inputs(*given),), source=source)


def _write_two(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    x.add_(1)
    y.mul_(2)
    return x + y


def _copied_then_written(source: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
    kept = source.sin()
    copy.copy_(source)
    source.add_(1)
    return kept


def _viewed_then_written(x: torch.Tensor) -> torch.Tensor:
    low = x.min(0).values
    view = low.squeeze(0)
    low.reciprocal_()
    return view.mul(2)


def _read_before_written(x: torch.Tensor) -> torch.Tensor:
    y = torch.mul(x.view(torch.int32), 2)
    x.add_(1)
    return y


def _row_written(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    y[1].mul_(2)
    return y


def _first_of_two(site: Site, args: Any) -> bool:
    """The first of several writes to inputs."""
    copies = [n for n in site.node.graph.nodes if n.target is aten.copy_.default]
    return len(copies) > 1 and site.node is copies[0]


def _from_reciprocal(site: Site, args: Any) -> bool:
    return getattr(site.node.args[0], "target", None) is aten.reciprocal.default


def _before_the_write(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return op(site.values[site.node.args[0].args[0]], *args[1:], **kwargs)


def _after_the_write(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return op(args[0] + 2, *args[1:], **kwargs)


MEMORY = (
    _mutant(
        "a write to an input is lost",
        "mutation lost",
        Graph((aten.copy_,), instead(lambda to, source: to)),
        lambda x: x.add_(1).sin(),
        numbers(5),
    ),
    _mutant(
        "of two inputs that are written only one is",
        "mutation lost",
        Graph((aten.copy_,), instead(lambda to, source: to), _first_of_two),
        _write_two,
        numbers(5),
        numbers(5) + 1,
    ),
    _mutant(
        "the last element of a write is lost",
        "mutation lost",
        Graph((aten.copy_,), lambda s, op, args, k: (args[0][:-1].copy_(args[1][:-1]), args[0])[1]),
        lambda x: x.mul_(3).cos(),
        numbers(9),
    ),
    _mutant(
        "a write through a view is lost",
        "mutation lost",
        Graph((aten.select_scatter,), lambda s, op, args, k: args[0].clone()),
        _row_written,
        numbers(3, 4),
    ),
    _real(
        "a copy of an input is the input itself",
        "pytorch/pytorch#198131",
        "mutation lost",
        Graph((aten.copy.default,), lambda s, op, args, k: args[1], lambda s, a: a[0].shape == a[1].shape),
        _copied_then_written,
        numbers(3, 4),
        torch.zeros(3, 4),
    ),
    _real(
        "a view does not see the write to what it views",
        "pytorch/pytorch#93824",
        "mutation lost",
        Graph((aten.squeeze, aten.view), _before_the_write, _from_reciprocal),
        _viewed_then_written,
        numbers(2, 1, 4) + 20,
    ),
    _real(
        "a reinterpreting read happens after a later write",
        "pytorch/pytorch#198101",
        "mutation lost",
        Graph((aten.view.dtype,), _after_the_write, lambda s, a: not a[0].is_floating_point()),
        _read_before_written,
        torch.arange(6),
    ),
    _mutant(
        "a view of an input is handed out as a copy",
        "aliasing",
        Regenerated(lambda view: view.clone(memory_format=torch.preserve_format)),
        lambda x: x.t(),
        numbers(3, 4),
    ),
    _mutant(
        "a view of an input comes from the input's first element",
        "aliasing",
        Regenerated(lambda view: view.as_strided(view.shape, view.stride(), 0)),
        lambda x: x[1:],
        numbers(4, 3),
    ),
    _mutant(
        "an input is handed out where new memory was",
        "aliasing",
        Graph((aten.clone,), lambda s, op, args, k: args[0]),
        lambda x: x.clone(),
        numbers(4),
    ),
    _mutant(
        "a transposed result is made row-major",
        "strides only",
        Graph((aten.sin,), after(lambda r: r.contiguous())),
        lambda x: x.t().sin(),
        numbers(3, 4),
    ),
    _real(
        "strides of a result are not those of eager",
        "pytorch/pytorch#130394",
        "strides only",
        Graph((aten.add.Tensor,), after(lambda r: r.t().contiguous().t()), lambda s, a: a[0].dim() == 2),
        lambda x: x + x,
        numbers(4, 6),
    ),
    _mutant(
        "channels last is dropped",
        "strides only",
        Graph((aten.cos,), after(lambda r: r.contiguous())),
        lambda x: x.cos(),
        numbers(2, 3, 4, 5).to(memory_format=torch.channels_last),
    ),
    _real(
        "a window on memory is taken as if it were row-major",
        "pytorch/pytorch#92063",
        "layout",
        Graph((aten.as_strided,), lambda s, op, args, k: op(args[0].contiguous(), *args[1:], **k)),
        lambda x: torch.as_strided(x.t() + 1, (3, 4), (1, 3)) + 2,
        numbers(4, 3),
    ),
    _mutant(
        "a sum along the dimension of the other layout",
        "layout",
        Graph(
            (aten.sum.dim_IntList,),
            lambda s, op, args, k: op(args[0].t(), *args[1:], **k),
            lambda s, a: a[0].dim() == 2 and a[0].shape[0] == a[0].shape[1] and not a[0].is_contiguous(),
        ),
        lambda x: x.t().sum(0),
        numbers(4, 4),
    ),
    _mutant(
        "a reshape forgets that its operand is transposed",
        "layout",
        Graph(
            (aten.clone,),
            lambda s, op, args, k: args[0].as_strided(args[0].shape, _row_major(args[0])).clone(),
            lambda s, a: not a[0].is_contiguous(),
        ),
        lambda x: x.t().reshape(12),
        numbers(3, 4),
    ),
)


def _row_major(x: torch.Tensor) -> tuple[int, ...]:
    return torch.empty(x.shape, device="meta").stride()

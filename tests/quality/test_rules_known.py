"""Rules that everybody knows are recovered from executed calls alone: sizes of results, and what is taken.

Each operator is learnt from a few calls and their neighbours, and judged on neighbours of another call, by torch and
by the formula of the textbook.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from shakeout.corpus.program import Arg, Ref, TensorType
from shakeout.generators.rules.augment import neighbours, retyped
from shakeout.generators.rules.execution import executed
from shakeout.generators.rules.measure import learn_measured
from shakeout.generators.rules.rule import Rule
from shakeout.generators.rules.trace import Trace, symbols, variant_of
from shakeout.generators.vocabularies.records import Spread

Shape = tuple[int, ...]
#: The shape of each result, from the operands' shapes and the integer attributes by name.
Formula = Callable[[Sequence[Shape], dict[str, int]], Sequence[Shape]]
FIRST = Spread("index", 0, 0)  # an index that every dimension has


@dataclass(frozen=True)
class Known:
    """An operator whose rule everybody knows.

    Attributes:
        operator: qualified name.
        args: arguments of the calls; ``Ref`` stands for operands.
        shapes: operands of each call; the last one is not learnt from.
        formula: shapes of the results.
        told: what the rule says, in part.
        kwargs: keyword arguments.
        dtypes: of the operands, float32 where they are missing.
        spreads: which values the operands need.
    """

    operator: str
    args: tuple[Any, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    formula: Formula
    told: str = ""
    kwargs: tuple[tuple[str, Any], ...] = ()
    dtypes: tuple[str, ...] = ()
    spreads: tuple[Spread, ...] = ()

    def __str__(self) -> str:
        return self.operator.rpartition(".")[2]

    def calls(self) -> Iterator[Trace]:
        """One for each set of shapes; where arguments are callable, they follow from the shapes."""
        for shapes in self.shapes:
            dtypes = self.dtypes + ("float32",) * (len(shapes) - len(self.dtypes))
            operands = tuple(TensorType(dtype, shape) for dtype, shape in zip(dtypes, shapes, strict=True))
            args: tuple[Arg, ...] = tuple(arg(shapes) if callable(arg) else arg for arg in self.args)
            kwargs: tuple[tuple[str, Arg], ...] = tuple(
                (key, arg(shapes) if callable(arg) else arg) for key, arg in self.kwargs
            )
            yield Trace(self.operator, args, kwargs, operands, source="sample")


def broadcast(*shapes: Shape) -> Shape:
    return tuple(torch.broadcast_shapes(*shapes))


def window(size: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil: bool = False) -> int:
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    if not ceil:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + padding else count


def conv2d(s: Sequence[Shape], a: dict[str, int]) -> Sequence[Shape]:
    sides = [
        window(s[0][2 + i], s[1][2 + i], a[f"stride[{i}]"], a[f"padding[{i}]"], a[f"dilation[{i}]"]) for i in (0, 1)
    ]
    return [(s[0][0], s[1][0], *sides)]


def pooled(s: Sequence[Shape], a: dict[str, int]) -> Sequence[Shape]:
    return [(*s[0][:2], window(s[0][2], a["kernel_size"], a["stride"], a["padding"], a["dilation"], ceil=True))]


def concatenated(s: Sequence[Shape], a: dict[str, int]) -> Sequence[Shape]:
    dim = a["dim"] % len(s[0])
    return [tuple(sum(one[k] for one in s) if k == dim else size for k, size in enumerate(s[0]))]


def reshaped(s: Sequence[Shape], a: dict[str, int]) -> Sequence[Shape]:
    sizes = [a["shape[0]"], a["shape[1]"]]
    known = math.prod(size for size in sizes if size != -1)
    return [tuple(math.prod(s[0]) // known if size == -1 else size for size in sizes)]


def padded(s: Sequence[Shape], a: dict[str, int]) -> Sequence[Shape]:
    return [(s[0][0], s[0][1], s[0][2] + a["pad[0]"] + a["pad[1]"])]


def topped(s: Sequence[Shape], a: dict[str, int]) -> Sequence[Shape]:
    dim = a["dim"] % len(s[0])
    return [tuple(a["k"] if k == dim else size for k, size in enumerate(s[0]))] * 2


def convolution(which: int) -> Callable[[Sequence[Shape]], Any]:
    """Stride, padding, dilation and groups of a convolution, by the size of its batch."""
    table = {
        2: ((2, 1), (1, 2), (1, 2), 2), 3: ((1, 3), (0, 1), (2, 1), 2), 4: ((3, 2), (2, 0), (2, 2), 1),
        5: ((1, 1), (0, 0), (3, 1), 3), 6: ((2, 4), (3, 1), (1, 3), 2), 7: ((4, 2), (1, 4), (2, 1), 4),
        1: ((2, 3), (2, 1), (1, 1), 2),
    }  # fmt: skip
    return lambda shapes: table[shapes[0][0]][which]


X, Y, Z = Ref(0), Ref(1), Ref(2)
KNOWN = (
    Known("torch.add", (X, Y), (((3, 4), (4,)), ((5, 2), (2,)), ((6, 7), (7,))), lambda s, a: [broadcast(*s)],
          "in[0], in[1] broadcast"),
    Known("torch.matmul", (X, Y), (((2, 3, 4), (4, 5)), ((3, 2, 6), (6, 4)), ((5, 4, 3), (3, 8))),
          lambda s, a: [(*s[0][:2], s[1][1])], "in[0].shape[2] == in[1].shape[0]"),
    Known("torch.bmm", (X, Y), (((2, 3, 4), (2, 4, 5)), ((3, 2, 6), (3, 6, 4))), lambda s, a: [(*s[0][:2], s[1][2])]),
    Known("torch.nn.functional.conv2d", (X, Y, Z, *(convolution(k) for k in range(4))),
          (((2, 4, 9, 8), (6, 2, 3, 2), (6,)), ((3, 6, 7, 10), (4, 3, 2, 3), (4,)), ((4, 3, 12, 9), (5, 3, 3, 4), (5,)),
           ((5, 9, 8, 11), (6, 3, 1, 3), (6,)), ((6, 2, 13, 7), (4, 1, 4, 2), (4,)),
           ((7, 4, 6, 12), (8, 1, 2, 5), (8,)), ((1, 8, 11, 9), (2, 4, 3, 4), (2,))),
          conv2d, "out[2] = (in[0].shape[2] + 2*padding[0] - dilation[0]*(in[1].shape[2] - 1) - 1)//stride[0] + 1"),
    Known("torch.nn.functional.max_pool1d", (X, 3, 2, 1, 1, True), (((2, 3, 9),), ((3, 2, 12),), ((2, 5, 17),)),
          pooled),
    Known("torch.nn.functional.avg_pool1d", (X, 3, 2, 1), (((2, 3, 9),), ((3, 2, 12),), ((2, 5, 17),)),
          lambda s, a: [(*s[0][:2], window(s[0][2], a["kernel_size"], a["stride"], a["padding"], 1))]),
    Known("torch.cat", ((X, Y), 1), (((2, 3), (2, 4)), ((5, 2), (5, 6)), ((3, 7), (3, 2))), concatenated,
          "one shape but for dimension dim"),
    Known("torch.reshape", (X, (4, -1)), (((2, 4, 3),), ((4, 3, 5),), ((8, 2, 7),)), reshaped,
          "-1 inferred from in[0]"),
    Known("torch.nn.functional.pad", (X, (1, 2), "reflect"), (((2, 3, 5),), ((3, 2, 7),), ((1, 4, 9),)), padded,
          "pad[0] < in[0].shape[2]"),
    Known("torch.nn.functional.pad", (X, (1, -2), "constant"), (((2, 3, 5),), ((3, 2, 7),), ((1, 4, 9),)), padded),
    Known("torch.nn.functional.interpolate", (X, (6, 4)), (((2, 3, 5, 4),), ((3, 2, 7, 3),), ((1, 4, 9, 2),)),
          lambda s, a: [(*s[0][:2], a["size[0]"], a["size[1]"])]),
    Known("torch.einsum", ("bij,bjk->bki", X, Y),
          (((2, 3, 4), (2, 4, 5)), ((3, 2, 6), (3, 6, 4)), ((4, 7, 2), (4, 2, 3))),
          lambda s, a: [(s[0][0] if s[1][0] == 1 else s[1][0], s[1][2], s[0][1])]),
    Known("torch.gather", (X, 1, Y), (((4, 5), (3, 2)), ((6, 3), (2, 7)), ((5, 8), (4, 3))), lambda s, a: [s[1]],
          "in[1] is no larger than in[0] but at dimension dim", (), ("float32", "int64"), (Spread(), FIRST)),
    Known("torch.scatter", (X, 1, Y, Z), (((4, 5), (3, 2), (3, 4)), ((6, 7), (2, 3), (5, 3)), ((5, 8), (4, 3), (4, 6))),
          lambda s, a: [s[0]], "", (), ("float32", "int64", "float32"), (Spread(), FIRST, Spread())),
    Known("torch.index_put", (X, (Y,), Z), (((4, 5), (3,), (5,)), ((6, 2), (4,), (2,)), ((5, 8), (2,), (8,))),
          lambda s, a: [s[0]], "", (), ("float32", "int64", "float32"), (Spread(), FIRST, Spread())),
    Known("torch.nn.functional.embedding_bag", (X, Y, Z),
          (((6,), (7, 3), (2,)), ((8,), (5, 4), (3,)), ((9,), (4, 2), (5,))),
          lambda s, a: [(s[2][0], s[1][1])], "", (), ("int64", "float32", "int64"), (FIRST, Spread(), FIRST)),
    Known("torch.sort", (X, 1), (((3, 4),), ((5, 2),), ((6, 7),)), lambda s, a: [s[0]] * 2, "-2 <= dim < 2"),
    Known("torch.topk", (X, 2, 1), (((3, 4),), ((5, 6),), ((6, 7),)), topped, "k <= in[0].shape[dim]"),
    Known("torch.linalg.solve", (X, Y), (((3, 3), (3, 2)), ((4, 4), (4, 5)), ((5, 5), (5, 1))), lambda s, a: [s[1]],
          "in[0].shape[0] == in[0].shape[1]", (), (), (Spread("definite"), Spread())),
    Known("torch.linalg.qr", (X,), (((4, 3),), ((3, 5),), ((6, 2),)),
          lambda s, a: [(s[0][0], min(s[0])), (min(s[0]), s[0][1])]),
    Known("torch.sum", (X, 1), (((3, 4, 5),), ((5, 2, 3),), ((6, 7, 2),)),
          lambda s, a: [tuple(n for k, n in enumerate(s[0]) if k != a["dim"] % 3)], "without dimension dim"),
    Known("torch.Tensor.unfold", (X, 1, 3, 2), (((3, 9),), ((5, 12),), ((2, 8),)),
          lambda s, a: [(*(window(n, a["size"], a["step"], 0, 1) if k == a["dimension"] % 2 else n
                           for k, n in enumerate(s[0])), a["size"])]),
)  # fmt: skip


def learnt(known: Known, calls: Sequence[Trace]) -> Rule:
    """The rule of the calls' variant."""
    found: dict[Any, Trace | None] = {}
    for base in calls:
        for call in (base, *neighbours(base, 90), *retyped(base)):
            found[repr((call.args, call.kwargs, call.operands))] = executed(call, known.spreads)
    traces = [call for call in found.values() if call is not None]
    variant = variant_of(calls[0])
    [one] = [one for one in learn_measured(traces, {variant: known.spreads}, executed) if one.variant == variant]
    assert one.rule is not None, one.notes
    return one.rule


@pytest.mark.parametrize("known", KNOWN, ids=str)
def test_a_known_rule_is_recovered(known: Known) -> None:
    *given, other = known.calls()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rule = learnt(known, given)
        fresh = [done for call in (other, *neighbours(other, 120)) if (done := executed(call, known.spreads))]
    told = "\n".join(rule.describe())
    assert rule.predicts, told
    assert known.told in told, told
    assert (rule.precision or 0) >= 0.95, told
    # Empty dimensions are taken only where some were seen.
    fresh = [call for call in fresh if all(0 not in operand.shape for operand in call.operands)]
    taken = [call for call in fresh if call.accepted]
    assert len(taken) >= 10
    missed = [call for call in taken if not rule.accepts(call)]
    assert len(missed) <= 0.05 * len(taken), f"{told}\n{missed}"
    wrong = [call for call in fresh if not call.accepted and rule.accepts(call)]
    assert len(wrong) <= 0.05 * len(fresh), f"{told}\n{wrong}"
    for call in taken:
        attributes = {name: value for name, value in symbols(call).items() if not name.startswith("in[")}
        shapes = [tuple(shape) for shape in known.formula([operand.shape for operand in call.operands], attributes)]
        seen = [result.shape for result in call.results if result is not None]
        assert seen[: len(shapes)] == shapes, call  # the textbook is right
        if rule.accepts(call):
            predicted = rule.predict(call)
            assert predicted is not None
            assert [result.shape for result in predicted if result is not None] == seen, (call, told)

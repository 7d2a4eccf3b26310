"""Traces as rows, the variants that they belong to, and the names of their integers."""

from __future__ import annotations

import json

import pytest

from shakeout.corpus.program import Name, Ref, Slice, TensorType
from shakeout.generators.rules.trace import Trace, Variant, inexact, symbols, variant_of


def trace(operator: str, *args: object, shapes: tuple[tuple[int, ...], ...] = ((2, 3),), **kwargs: object) -> Trace:
    operands = tuple(TensorType("float32", shape) for shape in shapes)
    return Trace(operator, args, tuple(sorted(kwargs.items())), operands, operands[:1], source="sample")  # type: ignore[arg-type]


CALLS = (
    trace("torch.sum", Ref(0), 1, keepdim=True),
    trace("torch.nn.functional.conv2d", Ref(0), Ref(1), None, (2, 1), 0, shapes=((1, 2, 5, 5), (4, 2, 3, 3))),
    trace("torch.Tensor.view", Ref(0), 3, -1),
    trace("torch.cat", (Ref(0), Ref(1)), dim=-1, shapes=((2, 3), (2, 4))),
    trace("torch.nn.functional.pad", Ref(0), (1, 2), "constant", 0.5),
    trace("torch.Tensor.__getitem__", Ref(0), (Slice(None, 2, None), ..., 0)),
    trace("torch.Tensor.to", Ref(0), dtype=Name("torch.float16")),
    trace("torch.Tensor.fill_", Ref(0), float("inf")),
    trace("mine.kernels:odd", Ref(0), 7),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.operator)
def test_a_trace_and_its_variant_survive_json(call: Trace) -> None:
    assert Trace.from_json(json.loads(json.dumps(call.to_json()))) == call
    variant = variant_of(call)
    assert Variant.from_json(json.loads(json.dumps(variant.to_json()))) == variant
    assert hash(variant) == hash(variant_of(call))


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (CALLS[0], {"in[0].shape[0]": 2, "in[0].shape[1]": 3, "dim": 1}),
        (CALLS[2], {"in[0].shape[0]": 2, "in[0].shape[1]": 3, "size[0]": 3, "size[1]": -1}),
        (CALLS[4], {"in[0].shape[0]": 2, "in[0].shape[1]": 3, "pad[0]": 1, "pad[1]": 2}),
    ],
)
def test_integers_have_the_names_of_their_parameters(call: Trace, names: dict[str, int]) -> None:
    assert symbols(call) == names


def test_names_of_a_convolution_and_of_an_operator_that_nobody_knows() -> None:
    assert [name for name in symbols(CALLS[1]) if not name.startswith("in[")] == ["stride[0]", "stride[1]", "padding"]
    assert [name for name in symbols(CALLS[8]) if not name.startswith("in[")] == ["arg1"]
    assert symbols(CALLS[5]) == {"in[0].shape[0]": 2, "in[0].shape[1]": 3, "key[0].stop": 2, "key[2]": 0}
    assert inexact(CALLS[4]) == {"value": 0.5}


def test_what_changes_the_structure_makes_another_variant() -> None:
    base = trace("torch.sum", Ref(0), 1, keepdim=True)
    assert variant_of(base) == variant_of(trace("torch.sum", Ref(0), 0, keepdim=True, shapes=((7, 1),)))
    others = [
        trace("torch.sum", Ref(0), 1, keepdim=False),
        trace("torch.sum", Ref(0), (1,), keepdim=True),
        trace("torch.sum", Ref(0), 1),
        trace("torch.sum", Ref(0), 1, keepdim=True, shapes=((2, 3, 4),)),
        trace("torch.sum", Ref(0), 1, keepdim=True, dtype=Name("torch.float64")),
    ]
    assert len({variant_of(other) for other in (base, *others)}) == 1 + len(others)
    assert str(variant_of(base)) == "torch.sum(tensor 2d, int, keepdim=True)"


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        "torch.add",
        ["torch.add", [], {}, [], [], "tensor", ""],
        ["torch.add", [{"ref": 1}], {}, [["float32", [1]]], [], "tensor", "", ""],
        ["torch.add", [{"ref": 0}], {}, [["float32", [-1]]], [], "tensor", "", ""],
        ["torch.add", [{"ref": 0}], {}, [["float32", [True]]], [], "tensor", "", ""],
        ["torch.add", [{"ref": 0}], [], [["float32", [1]]], [], "tensor", "", ""],
        ["torch.add", [{"what": 0}], {}, [], [], "tensor", "", ""],
        ["torch.add", [], {}, [], [], "matrix", "", ""],
        [7, [], {}, [], [], "tensor", "", ""],
    ],
)
def test_a_row_that_is_none_is_told(row: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Trace.from_json(row)

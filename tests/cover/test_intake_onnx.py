"""ONNX models as they are handed over: the same network, proven by ONNX's own evaluator, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from shakeout.corpus.case import Setting  # noqa: E402
from shakeout.corpus.intake import onnx_model as reading  # noqa: E402
from shakeout.corpus.intake.capturing import capture  # noqa: E402
from shakeout.corpus.intake.onnx_model import OnnxModel, onnx_model  # noqa: E402
from shakeout.corpus.intake.refusal import NotCaptured  # noqa: E402

X, W = (2, 3), (3, 4)


def model(*nodes: Any, inputs: Any = (("x", X),), held: Any = (), opset: int = 18) -> bytes:
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs]
    gives = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n",))]
    graph = helper.make_graph(list(nodes), "graph", given, gives, list(held))
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return bytes(made.SerializeToString())


def node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), ["y"], **attributes)


def tensor(name: str, value: torch.Tensor) -> Any:
    return numpy_helper.from_array(value.numpy(), name)


AXES = tensor("axes", torch.tensor([1]))
MODELS = {
    "sigmoid": model(node("Sigmoid", "x")),
    "divide": model(node("Div", "x", "x")),
    "transpose": model(node("Transpose", "x")),
    "gemm": model(
        node("Gemm", "x", "w", "b", alpha=0.5, beta=2.0, transB=1),
        held=[tensor("w", torch.arange(12.0).reshape(4, 3)), tensor("b", torch.ones(4))],
    ),
    "reshape": model(node("Reshape", "x", "shape"), held=[tensor("shape", torch.tensor([0, -1, 1]))]),
    "concat": model(node("Concat", "x", "x", axis=1)),
    "softmax": model(node("Softmax", "x")),
    "sum": model(node("ReduceSum", "x", "axes", keepdims=0), held=[AXES]),
    "unsqueeze": model(node("Unsqueeze", "x", "axes"), held=[AXES]),
    "clip": model(node("Clip", "x", "", "most"), held=[tensor("most", torch.tensor(2.0))]),
    "cast": model(node("Cast", "x", to=TensorProto.INT32)),
    "convolution": model(
        node("Conv", "x", "w", pads=[1, 1], strides=[2]),
        inputs=(("x", (1, 3, 8)),),
        held=[tensor("w", torch.arange(18.0).reshape(2, 3, 3))],
    ),
    "norm": model(node("LayerNormalization", "x", "s"), held=[tensor("s", torch.ones(3))]),
}


def checked(source: bytes) -> OnnxModel:
    read = onnx_model(source)
    read.check(read.example())
    return read


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_read_as_what_it_computes(name: str) -> None:
    read = onnx_model(MODELS[name])
    given = read.example()
    read.check(given)
    case = capture(read, given, setting=Setting("onnxruntime"), mode="inference").case
    assert case.program.operators()


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (b"nothing", "is no ONNX model"),
        (model(node("Hardmax", "x")), "'y': ONNX Hardmax is no operator that is read here"),
        (model(node("Sigmoid", "x"), inputs=(("x", ("rows", 3)),)), "the input 'x' has no fixed shape"),
        (model(node("Conv", "x", "x", auto_pad="SAME_UPPER"), inputs=(("x", (1, 1, 3)),)), "its padding differs"),
        (model(node("Reshape", "x", "s"), inputs=(("x", X), ("s", (2,)))), "its shape is computed"),
    ],
)
def test_what_is_not_read_is_refused_in_words(source: bytes, told: str) -> None:
    with pytest.raises(NotCaptured, match=told):
        checked(source)


def test_another_network_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reading._OPERATORS, "Sigmoid", lambda one: one[0])  # type: ignore[misc]
    with pytest.raises(NotCaptured, match="not what the model computes: y"):
        checked(MODELS["sigmoid"])


def test_tensors_in_other_files_are_not_followed(tmp_path: Path) -> None:
    made = onnx.load_model_from_string(MODELS["gemm"])
    onnx.save(made, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0, location="w.bin")
    with pytest.raises(NotCaptured, match=r"lies in another file|is no ONNX model"):
        onnx_model(tmp_path / "m.onnx")

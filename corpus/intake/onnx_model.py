"""ONNX models, read as data, as modules of torch that run their nodes: those whose operators have a plain torch form.

A case for ONNX Runtime is a program of torch that is exported, so the model that is run then is another file. That it
is the same network is shown before it is taken: it has to agree with ONNX's own reference evaluator on its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from shakeout.corpus.intake.refusal import NotCaptured

__all__ = ["OnnxModel", "onnx_model"]


class OnnxModel(torch.nn.Module):
    """A model's graph as a module; its initialisers are parameters of it.

    Attributes:
        notes: what a person should know of how it was read.
        names: of its inputs, in order.

    Raises:
        NotCaptured: it has an operator, or an input, that is not known here.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        from onnx import numpy_helper

        self.notes: list[str] = []
        self._model = model
        graph = model.graph
        self._constants: dict[str, Any] = {one.name: _array(one, numpy_helper) for one in graph.initializer}
        self._places: dict[str, str] = {}
        for name, array in self._constants.items():
            place = self._places[name] = f"held_{len(self._places)}"
            self.register_buffer(place, torch.from_numpy(array.copy()))
        self._given = [one for one in graph.input if one.name not in self._constants]
        self.names = tuple(one.name for one in self._given)
        for node in graph.node:
            if node.domain not in ("", "ai.onnx") or (node.op_type not in _OPERATORS and node.op_type != "Constant"):
                raise NotCaptured(
                    f"node {node.name or node.output[0]!r}: {node.domain or 'ONNX'} {node.op_type} is no operator that "
                    f"is read here ({', '.join(sorted(_OPERATORS))}); hand over the program of torch behind it"
                )
        self.eval()

    def example(self) -> list[torch.Tensor]:
        """Small whole numbers in the shapes of its inputs."""
        self.notes.append("a model holds no inputs; small whole numbers are taken")
        found = []
        for one in self._given:
            kind = one.type.tensor_type
            sizes = [dim.dim_value for dim in kind.shape.dim]
            if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
                raise NotCaptured(f"the input {one.name!r} has no fixed shape; run the script that feeds the model")
            ramp = torch.arange(torch.Size(sizes).numel()) % 7 + 1
            found.append(ramp.reshape(sizes).to(_dtype(kind.elem_type)))
        return found

    def forward(self, *given: torch.Tensor) -> tuple[Any, ...]:
        """Run the nodes."""
        values: dict[str, Any] = dict(zip(self.names, given, strict=True))
        constants = dict(self._constants)
        values |= {name: getattr(self, place) for name, place in self._places.items()}
        from onnx import helper, numpy_helper

        for node in self._model.graph.node:
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            if node.op_type == "Constant":
                if "value" not in attributes:
                    raise NotCaptured(f"the constant {node.output[0]!r} holds no tensor")
                array = constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
                values[node.output[0]] = torch.tensor(array.tolist(), dtype=_dtype(attributes["value"].data_type))
                continue
            operands = [values[name] if name else None for name in node.input]
            known = [constants[name].tolist() if name in constants else None for name in node.input]
            try:
                results = _OPERATORS[node.op_type](_Node(operands, known, attributes))
            except (KeyError, TypeError, IndexError) as error:
                raise NotCaptured(f"the node {node.output[0]!r} ({node.op_type}) is not read: {error}") from None
            results = results if isinstance(results, tuple) else (results,)
            values |= dict(zip(node.output, results, strict=False))
        return tuple(values[one.name] for one in self._model.graph.output)

    def check(self, given: Sequence[torch.Tensor]) -> None:
        """Raise NotCaptured unless ONNX's own evaluator computes the same."""
        from onnx.reference import ReferenceEvaluator

        feeds = {name: tensor.numpy() for name, tensor in zip(self.names, given, strict=True)}
        with torch.no_grad():
            found = self(*given)
        try:
            wanted = ReferenceEvaluator(self._model).run(None, feeds)
        except Exception as error:  # of another package, on a model of anybody's
            said = (str(error).splitlines() or [""])[0][:200]
            raise NotCaptured(f"ONNX's own evaluator does not run it: {type(error).__name__}: {said}") from None
        for one, want, got in zip(self._model.graph.output, wanted, found, strict=True):
            expected = torch.from_numpy(want.copy())
            try:
                torch.testing.assert_close(got, expected, equal_nan=True)
            except AssertionError as error:
                said = " ".join(str(error).split())
                raise NotCaptured(f"what was read is not what the model computes: {one.name}: {said[:200]}") from None


def onnx_model(source: Path | bytes) -> OnnxModel:
    """Read a model, from its file or its bytes.

    Raises:
        NotCaptured: it is none, or holds what is not read here.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    name = source.name if isinstance(source, Path) else "the model"
    try:
        # What lies in other files is not followed: a model may name any.
        data = source.read_bytes() if isinstance(source, Path) else source
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        said = (str(error).splitlines() or [""])[0][:200]
        raise NotCaptured(f"{name} is no ONNX model: {said}") from None
    return OnnxModel(model)


def _array(tensor: Any, helper: Any) -> Any:
    import onnx

    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise NotCaptured(f"the tensor {tensor.name!r} lies in another file, which is not followed")
    return helper.to_array(tensor)


def _dtype(number: int) -> torch.dtype:
    from onnx import helper

    return torch.from_numpy(helper.tensor_dtype_to_np_dtype(number).type([0])).dtype


# --- operators --------------------------------------------------------------------------------------------------------


class _Node:
    """A node's operands, the plain values of those that are constants, and its attributes."""

    def __init__(self, operands: Sequence[Any], known: Sequence[Any], attributes: Mapping[str, Any]) -> None:
        self.x = list(operands)
        self._known = known
        self._attributes = attributes

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or what holds without it."""
        return self._attributes.get(name, default)

    def __getitem__(self, place: int) -> Any:
        return self.x[place] if place < len(self.x) else None

    def plain(self, place: int, name: str) -> Any:
        """What is a number or a list of them: an attribute in older operator sets, a constant operand in newer ones."""
        if (found := self.get(name)) is not None:
            return list(found) if not isinstance(found, int | float) else found
        if place >= len(self.x) or self.x[place] is None:
            return None
        if self._known[place] is None:
            raise TypeError(f"its {name} is computed, and a program holds numbers")
        return self._known[place]


def _unary(function: Callable[[Any], Any]) -> Callable[[_Node], Any]:
    return lambda node: function(node[0])


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[_Node], Any]:
    return lambda node: function(node[0], node[1])


def _divide(a: Any, b: Any) -> Any:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _gemm(node: _Node) -> Any:
    a = node[0].t() if node.get("transA", 0) else node[0]
    b = node[1].t() if node.get("transB", 0) else node[1]
    if node[2] is None:
        return (a @ b) * node.get("alpha", 1.0)
    return torch.addmm(node[2], a, b, beta=node.get("beta", 1.0), alpha=node.get("alpha", 1.0))


def _reshape(node: _Node) -> Any:
    sizes = node.plain(1, "shape")
    if not node.get("allowzero", 0):
        sizes = [node[0].shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return node[0].reshape(sizes)


def _reduce(function: Callable[..., Any]) -> Callable[[_Node], Any]:
    def reduced(node: _Node) -> Any:
        axes = node.plain(1, "axes")
        if axes is None and node.get("noop_with_empty_axes", 0):
            return node[0]
        axes = list(range(node[0].dim())) if axes is None else axes
        return function(node[0], axes, keepdim=bool(node.get("keepdims", 1)))

    return reduced


def _squeeze(node: _Node) -> Any:
    axes = node.plain(1, "axes")
    return node[0].squeeze() if axes is None else node[0].squeeze(tuple(axes))


def _unsqueeze(node: _Node) -> Any:
    found, axes = node[0], node.plain(1, "axes")
    for axis in sorted(axis % (node[0].dim() + len(axes)) for axis in axes):
        found = found.unsqueeze(axis)
    return found


def _clip(node: _Node) -> Any:
    return node[0].clamp(node.plain(1, "min"), node.plain(2, "max"))


def _conv(node: _Node) -> Any:
    rank = node[0].dim() - 2
    pads = list(node.get("pads") or [0] * (2 * rank))
    if node.get("auto_pad", b"NOTSET") != b"NOTSET" or pads[:rank] != pads[rank:]:
        raise KeyError("its padding differs between the sides")
    function: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[rank]
    strides, dilations = (list(node.get(name) or [1] * rank) for name in ("strides", "dilations"))
    return function(node[0], node[1], node[2], strides, pads[:rank], dilations, node.get("group", 1))


def _layer_norm(node: _Node) -> Any:
    axis = node.get("axis", -1) % node[0].dim()
    return F.layer_norm(node[0], node[0].shape[axis:], node[1], node[2], node.get("epsilon", 1e-5))


def _transpose(node: _Node) -> Any:
    return node[0].permute(list(node.get("perm") or reversed(range(node[0].dim()))))


_OPERATORS: Mapping[str, Callable[[_Node], Any]] = {
    **{
        name: _unary(getattr(torch, name.lower()))
        for name in "Relu Sigmoid Tanh Exp Log Sqrt Neg Abs Erf Floor Ceil Sin Cos Reciprocal Sign".split()
    },
    "Not": _unary(torch.logical_not),
    "Identity": _unary(lambda x: x),
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(_divide),
    "Pow": _binary(lambda a, b: a**b),
    "MatMul": _binary(torch.matmul),
    "Equal": _binary(torch.eq),
    "Greater": _binary(torch.gt),
    "Less": _binary(torch.lt),
    "And": _binary(torch.logical_and),
    "Or": _binary(torch.logical_or),
    "Max": _binary(torch.maximum),
    "Min": _binary(torch.minimum),
    "Where": lambda node: torch.where(node[0], node[1], node[2]),
    "Gemm": _gemm,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": lambda node: node[0].reshape(torch.Size(node[0].shape[: node.get("axis", 1)]).numel(), -1),
    "Concat": lambda node: torch.cat(node.x, node.get("axis")),
    "Softmax": lambda node: torch.softmax(node[0], node.get("axis", -1)),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Cast": lambda node: node[0].to(_dtype(node.get("to"))),
    "Clip": _clip,
    "Conv": _conv,
    "LayerNormalization": _layer_norm,
    "ReduceSum": _reduce(torch.sum),
    "ReduceMean": _reduce(torch.mean),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
}

"""An OpenVINO model as a script of its own: built from operators, fed with NumPy, compiled for the CPU, compared.

It is for reports of what goes wrong behind the converter, which people read who ask whose fault a converter's is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.symptom import GUARD
from shakeout.targets.numpy_printed import NUMBERS, Unprintable, array, bracketed, compared

if TYPE_CHECKING:
    import torch

__all__ = ["NODES", "printed"]

#: Models of more nodes have no such script, for the reason that ONNX's have none.
NODES = 24

_RUN = """try:
    compiled = openvino.compile_model(model, "CPU", {config})
    found = [compiled(inputs)[output].copy() for output in compiled.outputs]
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
    sys.exit(1)
"""


def printed(
    model: Any, given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], config: Mapping[str, Any]
) -> str | None:
    """The script of a model; None for one that is too large, or has what NumPy and node factories have no words for.

    It exits 0 (no difference), 1 (any difference, or the compilation or the run raises) or 125 (nothing could be
    compared); of a crash it dies.

    Args:
        model: as ``openvino.Model``; of a size that may vary nothing is fixed.
        given: an input for each of its parameters.
        expected: its outputs, as PyTorch gives them.
        config: properties of the compilation.
    """
    nodes = model.get_ordered_ops()
    if len(nodes) > NODES or len(model.inputs) != len(given) or len(model.outputs) != len(expected):
        return None
    try:
        graph, versions, numbers = _graph(model, nodes)
        if numbers + sum(t.numel() for t in (*given, *expected)) > NUMBERS:
            return None
        inputs, outputs = bracketed([array(t) for t in given]), bracketed([array(t) for t in expected])
    except Unprintable:
        return None
    body = "\n".join(
        [
            *(f'{name} = NodeFactory("{name}")' for name in sorted(versions)),
            *graph,
            f"inputs = {inputs}",
            "# What PyTorch gives without any compiler.",
            f"expected = {outputs}",
        ]
    )
    imports = ["import os", "import sys", "", GUARD, "", "import numpy as np", "import openvino"]
    imports += ["from openvino.utils.node_factory import NodeFactory"] * bool(versions)
    if re.search(r"\b(nan|inf)\b", body):
        imports += ["", 'nan, inf = float("nan"), float("inf")']
    compares = compared("OpenVINO {openvino.__version__}", expected)
    return "\n".join([*imports, "", body, f'{_RUN.format(config=dict(config))}{compares}print("no difference")\n'])


def _graph(model: Any, nodes: Sequence[Any]) -> tuple[list[str], set[str], int]:
    """A line for each node, the operator sets that they are from, and how many numbers are in constants."""
    names: dict[str, str] = {}
    lines, versions, numbers = [], set(), 0
    for node in nodes:
        kind, version = node.get_type_name(), node.get_type_info().version_id
        if kind == "Result":
            continue
        if not re.fullmatch(r"opset\d+", version) or kind in ("ReadValue", "If", "Loop", "TensorIterator"):
            raise Unprintable
        name = names[node.get_name()] = _name(kind, len(names))
        if kind == "Parameter":
            shape = node.get_partial_shape()
            if shape.rank.is_dynamic:
                raise Unprintable
            sizes = [-1 if one.is_dynamic else one.get_length() for one in shape]
            element = node.get_element_type().get_type_name()
            lines.append(f"{name} = openvino.op.Parameter(openvino.Type.{element}, openvino.PartialShape({sizes}))")
        elif kind == "Constant":
            import torch

            try:
                constant = torch.from_numpy(node.get_data().copy())
            except TypeError:  # numbers that one of the two does not know
                raise Unprintable from None
            numbers += constant.numel()
            lines.append(f"{name} = openvino.op.Constant({array(constant)})")
        else:
            versions.add(version)
            operands = ", ".join(_output(port.get_source_output(), names) for port in node.inputs())
            attributes = dict(node.get_attributes())
            if not all(_plain(value) for value in attributes.values()):
                raise Unprintable
            lines.append(f'{name} = {version}.create("{kind}", [{operands}], {attributes!r})')
    parameters = ", ".join(names[port.get_node().get_name()] for port in model.inputs)
    results = [port.get_node().inputs()[0].get_source_output() for port in model.outputs]
    returned = ", ".join(f"{names[one.get_node().get_name()]}.output({one.get_index()})" for one in results)
    lines.append(f"model = openvino.Model([{returned}], [{parameters}])")
    return lines, versions, numbers


def _name(kind: str, place: int) -> str:
    """A name for a node's result: ``max_pool_3``."""
    return f"{re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', kind).lower()}_{place}"


def _output(port: Any, names: Mapping[str, str]) -> str:
    node = port.get_node()
    name = names[node.get_name()]
    return name if len(node.outputs()) == 1 else f"{name}.output({port.get_index()})"


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_plain(one) for one in value)
    return isinstance(value, bool | int | float | str)

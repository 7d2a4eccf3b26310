"""An ONNX model as a script of its own: built with ``onnx.helper``, fed with NumPy, run by ONNX Runtime, compared.

It is for reports of what goes wrong behind the exporter, which people read who have no PyTorch at hand.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.symptom import GUARD
from shakeout.targets.numpy_printed import NUMBERS, Unprintable, array, bracketed, closeness, number, single

if TYPE_CHECKING:
    import torch

__all__ = ["NODES", "printed"]

#: Models of more nodes have no such script. Within these bounds it takes a page or two, and whoever receives a report
#: reads all of it.
NODES = 24

_RUN = """try:
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"{more})
    found = session.run(None, inputs)
except Exception as error:
    print(f"{{type(error).__name__}}: {{error}}")
    sys.exit(1)
for output, one, right in zip(session.get_outputs(), found, expected, strict=True):
    try:
        if (one.dtype, one.shape) != (right.dtype, right.shape):
            raise AssertionError(f"{{one.dtype}}{{list(one.shape)}} for {{right.dtype}}{{list(right.shape)}}")
        np.testing.assert_allclose(one, right, {how})
    except AssertionError as error:
        print(f"{{output.name}}: {{error}}")
        sys.exit(1)
print("no difference")"""


def printed(
    model: Any,
    given: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    options: Sequence[str] = (),
    disabled: Sequence[str] = (),
    meaning: str = "",
) -> str | None:
    """The script of a model; None for one that is too large, or has what NumPy and ``onnx.helper`` have no words for.

    It exits 0 (no difference), 1 (any difference, or the session raises) or 125 (nothing could be compared).

    Args:
        model: as ``onnx.ModelProto``.
        given: what it is run on, as ONNX has types for it.
        expected: its outputs, likewise.
        options: lines that change the session's ``options``.
        disabled: optimisers that are left out.
        meaning: a sentence that says who gives the expected outputs; empty for PyTorch.
    """
    import onnx.inliner

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    try:
        inputs = dict(zip((one.name for one in model.graph.input), map(array, given), strict=True))
        outputs = list(map(array, expected))
        if _size(model.graph) > NODES or _numbers(model.graph) + sum(t.numel() for t in (*given, *expected)) > NUMBERS:
            return None
        parts = [*_model(model), *_data(inputs, outputs, meaning or _meaning(model, given, expected))]
    except (Unprintable, ValueError):  # a ValueError where the numbers of inputs differ
        return None
    if len(outputs) != len(model.graph.output):
        return None
    body = "\n".join([*parts, "options = onnxruntime.SessionOptions()", *options])
    imports = ["import os", "import sys", "", GUARD, "", "import numpy as np", "import onnxruntime"]
    imports += ["from onnx import TensorProto, helper"]
    if re.search(r"\b(nan|inf)\b", body):
        imports += ["", 'nan, inf = float("nan"), float("inf")']
    more = f"], disabled_optimizers={list(disabled)!r}" if disabled else "]"
    run = _RUN.format(more=more, how=closeness(expected))
    return "\n".join([*imports, "", body, run]) + "\n"


def _model(model: Any) -> Iterator[str]:
    """Lines that build the graph and the model."""
    versions = {one.domain: one.version for one in model.opset_import}
    yield f"graph = {_graph(model.graph, versions, '')}"
    opsets = ", ".join(f"helper.make_opsetid({json.dumps(one.domain)}, {one.version})" for one in model.opset_import)
    yield f"model = helper.make_model(graph, opset_imports=[{opsets}], ir_version={model.ir_version})"


def _data(inputs: Mapping[str, str], outputs: Sequence[str], meaning: str) -> Iterator[str]:
    yield f"inputs = {{\n{''.join(f'    {json.dumps(name)}: {text},' + chr(10) for name, text in inputs.items())}}}"
    yield f"# {meaning}"
    yield f"expected = {bracketed(outputs, '')}"


def _graph(graph: Any, versions: Mapping[str, int], indent: str) -> str:
    """A graph as an expression, a line for each node, input, output and constant.

    Args:
        graph: that of a model, or one inside a node.
        versions: of the operator sets, by domain.
        indent: of the line on which it begins.
    """
    inner = indent + "    "
    if graph.sparse_initializer or graph.quantization_annotation:
        raise Unprintable
    lists = (
        [_node(node, versions, inner + "    ") for node in graph.node],
        [_value(one) for one in graph.input],
        [_value(one) for one in graph.output],
        [_tensor(one) for one in graph.initializer],
    )
    nodes, given, returned, constants = (bracketed(items, inner) for items in lists)
    parts = [nodes, json.dumps(graph.name), given, returned, *([constants] if graph.initializer else [])]
    return f"helper.make_graph(\n{''.join(f'{inner}{part},' + chr(10) for part in parts)}{indent})"


def _node(node: Any, versions: Mapping[str, int], indent: str) -> str:
    """A node with the attributes that are not at their defaults."""
    pieces = [json.dumps(node.op_type), json.dumps(list(node.input)), json.dumps(list(node.output))]
    if node.domain:
        pieces.append(f"domain={json.dumps(node.domain)}")
    if getattr(node, "overload", ""):
        raise Unprintable
    defaults = _defaults(node, versions)
    for attribute in node.attribute:
        if not attribute.name.isidentifier() or attribute.ref_attr_name:
            raise Unprintable
        if _value_of(attribute) != defaults.get(attribute.name, _NONE):
            pieces.append(f"{attribute.name}={_attribute(attribute, versions, indent)}")
    return f"helper.make_node({', '.join(pieces)})"


#: What no attribute is.
_NONE = object()


def _defaults(node: Any, versions: Mapping[str, int]) -> dict[str, Any]:
    """The defaults of the attributes of a node's operator that has some."""
    import onnx

    try:
        schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return {}
    given = {name: one.default_value for name, one in schema.attributes.items()}
    return {name: _value_of(one) for name, one in given.items() if one.type != onnx.AttributeProto.UNDEFINED}


def _value_of(attribute: Any) -> Any:
    import onnx

    return onnx.helper.get_attribute_value(attribute)


def _attribute(attribute: Any, versions: Mapping[str, int], indent: str) -> str:
    import onnx

    value, kinds = _value_of(attribute), onnx.AttributeProto
    match attribute.type:
        case kinds.INT:
            return repr(value)
        case kinds.INTS if len(value):  # of an empty list ``onnx.helper`` cannot tell the type
            return repr(list(value))
        case kinds.FLOAT:
            return single(value)
        case kinds.FLOATS if len(value):
            return f"[{', '.join(map(single, value))}]"
        case kinds.STRING:
            return json.dumps(value.decode())
        case kinds.STRINGS if len(value):
            return json.dumps([one.decode() for one in value])
        case kinds.TENSOR:
            return _tensor(value)
        case kinds.GRAPH:
            return _graph(value, versions, indent)
    raise Unprintable


def _value(info: Any) -> str:
    """An input or output with its type; a size that may vary has a name."""
    tensor = info.type.tensor_type
    if info.type.WhichOneof("value") != "tensor_type":
        raise Unprintable
    shape = None
    if tensor.HasField("shape"):
        sizes = [one.dim_value if one.HasField("dim_value") else one.dim_param or None for one in tensor.shape.dim]
        shape = "[" + ", ".join(json.dumps(one) if isinstance(one, str) else repr(one) for one in sizes) + "]"
    return f"helper.make_tensor_value_info({json.dumps(info.name)}, {_element(tensor.elem_type)}, {shape})"


def _tensor(tensor: Any) -> str:
    """A constant with its numbers."""
    import onnx

    numbers = onnx.numpy_helper.to_array(tensor)
    if numbers.dtype.kind not in "biuf":
        # Numbers of formats that NumPy does not know are told as single ones, of which they are a part.
        try:
            numbers = numbers.astype("float32")
        except (TypeError, ValueError):
            raise Unprintable from None
    texts = ", ".join(number(item, str(numbers.dtype)) for item in numbers.reshape(-1).tolist())
    return (
        f"helper.make_tensor({json.dumps(tensor.name)}, {_element(tensor.data_type)}, {list(tensor.dims)!r}, [{texts}])"
    )


def _element(number: int) -> str:
    import onnx

    return f"TensorProto.{onnx.TensorProto.DataType.Name(number)}"


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _size(graph: Any) -> int:
    return sum(len(one.node) for one in _graphs(graph))


def _numbers(graph: Any) -> int:
    """Numbers in all constants."""
    tensors = [tensor for one in _graphs(graph) for tensor in one.initializer]
    tensors += [a.t for one in _graphs(graph) for node in one.node for a in node.attribute if a.HasField("t")]
    return sum(math.prod(tensor.dims) for tensor in tensors)


def _meaning(model: Any, given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> str:
    also = ", and ONNX's reference evaluator of this model" if _confirmed(model, given, expected) else ""
    return f"What PyTorch gives without any compiler{also}."


def _confirmed(model: Any, given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether ONNX's reference evaluator gives the expected numbers too."""
    import torch

    from shakeout.targets.onnx_staged import onnx_reference

    try:
        said = onnx_reference(model, given)
        torch.testing.assert_close(said, list(expected), equal_nan=True)
    except Exception:  # it lacks an operator, or has a bug of its own
        return False
    return True

"""What targets of ONNX's own tools need; its functions are printed into their scripts, like ``staged.py``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx.printer
import onnx.reference
import onnx.version_converter
import torch

from shakeout.corpus.onnx_standalone import Evaluated, array_of, tensor_of
from shakeout.targets.staged import Declined, stage


def checked(model: Any) -> None:
    """Have the checker look at the model, with the shapes of its outputs told as they are."""
    with stage("check_model"):
        if all(info.type.tensor_type.HasField("shape") for info in model.graph.output):
            onnx.checker.check_model(model, full_check=True)


def inferred(model: Any, data_prop: bool, through_file: bool = False) -> dict[str, Any]:
    """The type that shape inference gives each value, by name, where nobody told it any of what a node makes."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    del model.graph.value_info[:]
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    with stage("infer_shapes"):
        if through_file:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "model.onnx")
                onnx.save(model, path)
                onnx.shape_inference.infer_shapes_path(path, path, True, True, data_prop)
                found = onnx.load(path)
        else:
            found = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=data_prop)
    return {info.name: info.type.tensor_type for info in (*found.graph.value_info, *found.graph.output)}


def as_inferred(model: Any, types: dict[str, Any], given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What the evaluator gives; it raises where that is not what was inferred.

    A size that has a name is one number, whatever it is.
    """
    feeds = {info.name: array_of(t) for info, t in zip(model.graph.input, given, strict=True)}
    with np.errstate(all="ignore"):
        values: Any = onnx.reference.ReferenceEvaluator(model).run(None, feeds, intermediate=True)
    named: dict[str, int] = {}
    for info in model.graph.input:
        for dim, size in zip(info.type.tensor_type.shape.dim, np.shape(feeds[info.name]), strict=True):
            if dim.HasField("dim_param"):
                named[dim.dim_param] = size
    with stage("infer_shapes"):
        for name, type_ in types.items():
            value = values.get(name)
            if value is None:
                continue
            own = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            told = [
                dim.dim_value if dim.HasField("dim_value") else named.setdefault(dim.dim_param, size)
                for dim, size in zip(type_.shape.dim, value.shape, strict=False)
                if dim.HasField("dim_value") or dim.dim_param
            ]
            known = [
                size
                for dim, size in zip(type_.shape.dim, value.shape, strict=False)
                if dim.HasField("dim_value") or dim.dim_param
            ]
            rank = len(type_.shape.dim) if type_.HasField("shape") else value.ndim
            if own != type_.elem_type or rank != value.ndim or told != known:
                node = next(node for node in model.graph.node if name in node.output)
                raise AssertionError(
                    f"shape inference says element type {type_.elem_type}, sizes {told} of {node.op_type}, "
                    f"the evaluator gives {own}, {known}"
                )
    return [tensor_of(values[info.name]) for info in model.graph.output]


def converted(model: Any, version: int) -> Any:
    """The model in another operator set, which the checker has to find valid; what the converter lacks it declines."""
    with stage("convert_version"):
        try:
            found = onnx.version_converter.convert_version(model, version)
        except Exception as error:
            if "Assertion" in str(error) or "adapter" in str(error).lower():
                raise Declined(str(error)) from error
            raise
        onnx.checker.check_model(found, full_check=True)
        return found


def printed_and_parsed(model: Any) -> Any:
    """The model read from the text that it is printed as."""
    with stage("text"):
        found = onnx.parser.parse_model(onnx.printer.to_text(model))
        onnx.checker.check_model(found)
        return found


def ran(model: Any) -> Callable[..., list[torch.Tensor]]:
    """What runs a model on the evaluator."""

    def run(*given: torch.Tensor) -> list[torch.Tensor]:
        with stage("evaluate"):
            return list(Evaluated(model)(*given))

    return run


def tools_declined(error: BaseException | None) -> bool:
    """Whether the converter has no way between two operator sets, or the evaluator none for an old operator."""
    while error is not None:
        if type(error).__name__ == "Declined" or "No implementation for operator" in str(error):
            return True
        error = error.__cause__
    return False

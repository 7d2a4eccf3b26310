"""What a script of an ONNX model needs besides torch and onnx; printed into scripts, like ``standalone.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference
import torch

from shakeout.corpus.onnx_elements import elements


def array_of(tensor: torch.Tensor) -> Any:
    """A tensor as an array; NumPy knows elements that it lacks by onnx's own names."""
    tensor = tensor.detach().contiguous()
    if (tensor.dtype.itemsize > 1 and tensor.dtype != torch.bfloat16) or not tensor.is_floating_point():
        return tensor.numpy()
    name = onnx.helper.tensor_dtype_to_np_dtype(elements()[tensor.dtype])
    return tensor.reshape(-1).view(torch.uint8).numpy().view(name).reshape(tuple(tensor.shape))


def tensor_of(array: Any) -> torch.Tensor:
    """An array as a tensor with memory of its own."""
    array = np.array(array, order="C")
    if array.dtype.kind in "biuf":
        return torch.from_numpy(array)
    dtypes = {number: dtype for dtype, number in elements().items()}
    dtype = dtypes[onnx.helper.np_dtype_to_tensor_dtype(array.dtype)]
    return torch.from_numpy(array.reshape(-1).view(np.uint8)).view(dtype).reshape(array.shape)


def initializer(name: str, tensor: torch.Tensor) -> Any:
    """A constant of a graph."""
    return onnx.numpy_helper.from_array(array_of(tensor), name)


class Evaluated(torch.nn.Module):
    """A model as a function of its inputs: what ONNX's reference evaluator makes of it."""

    def __init__(self, model: Any, constants: Sequence[torch.Tensor] = ()) -> None:
        super().__init__()
        self.model = model
        for number, tensor in enumerate(constants):
            self.register_parameter(f"constant_{number}", torch.nn.Parameter(tensor, requires_grad=False))

    def forward(self, *given: torch.Tensor) -> list[torch.Tensor]:
        """The outputs."""
        names = [one.name for one in self.model.graph.input]
        with np.errstate(all="ignore"):
            evaluator = onnx.reference.ReferenceEvaluator(self.model)
            found = evaluator.run(None, dict(zip(names, map(array_of, given))))
        return [tensor_of(one) for one in found]

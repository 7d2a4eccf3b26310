"""Faults in ONNX graphs, as an optimiser of ONNX Runtime, or the exporter before it, would make them.

The session's model is changed before it is made; both models run, and the canary compares.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from tests.faults.fault import Canary, Fault, inputs, numbers

#: Changes a model; tells in how many places.
Change = Callable[[Any], int]


@dataclass(frozen=True, slots=True)
class Model:
    """A change of the model that a session is made of."""

    change: Change

    @contextlib.contextmanager
    def planted(self, canary: Canary) -> Iterator[None]:
        """Make every session meanwhile of the model with and without the change."""
        import onnx
        import onnxruntime

        make = onnxruntime.InferenceSession

        def session(model: Any, *args: Any, **kwargs: Any) -> Any:
            right = make(model, *args, **kwargs)
            changed = onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)
            places = self.change(changed)
            if not places:
                return right
            canary.reached += places
            wrong = make(changed.SerializeToString(), *args, **kwargs)
            return _Twin(wrong, right, canary) if canary.effect else _Twin(right, wrong, canary)

        with mock.patch.object(onnxruntime, "InferenceSession", session):
            yield


class _Twin:
    """Two sessions that look like one."""

    def __init__(self, chosen: Any, other: Any, canary: Canary) -> None:
        self._chosen, self._other, self._canary = chosen, other, canary

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chosen, name)

    def io_binding(self) -> _Binding:
        return _Binding(self._chosen.io_binding(), self._other.io_binding())

    def run_with_iobinding(self, binding: _Binding, *args: Any) -> None:
        self._chosen.run_with_iobinding(binding.chosen, *args)
        self._other.run_with_iobinding(binding.other, *args)
        shown, hidden = ([_bytes(v) for v in b.get_outputs()] for b in (binding.chosen, binding.other))
        self._canary.triggered += shown != hidden


class _Binding:
    """Two bindings that look like one."""

    def __init__(self, chosen: Any, other: Any) -> None:
        self.chosen, self.other = chosen, other

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("bind_"):
            return getattr(self.chosen, name)

        def bind(*args: Any) -> None:
            getattr(self.chosen, name)(*args)
            getattr(self.other, name)(*args)

        return bind


def _bytes(value: Any) -> tuple[Any, ...]:
    import ctypes

    size = value.tensor_size_in_bytes()
    return value.shape(), value.element_type(), ctypes.string_at(value.data_ptr(), size) if size else b""


def _nodes(model: Any, *kinds: str) -> list[Any]:
    return [node for node in model.graph.node if node.op_type in kinds]


def _renamed(old: str, new: str) -> Change:
    """Another operator on the same operands."""

    def change(model: Any) -> int:
        found = _nodes(model, old)
        for node in found:
            node.op_type = new
            del node.attribute[:]
        return len(found)

    return change


def _swapped(kind: str) -> Change:
    """The operands the other way round."""

    def change(model: Any) -> int:
        found = _nodes(model, kind)
        for node in found:
            node.input[0], node.input[1] = node.input[1], node.input[0]
        return len(found)

    return change


def _skipped(kind: str) -> Change:
    """The first operand in the place of the result."""

    def change(model: Any) -> int:
        returned = {output.name for output in model.graph.output}
        found = [node for node in _nodes(model, kind) if node.output[0] not in returned]
        for node in found:
            for user in model.graph.node:
                for position, name in enumerate(user.input):
                    if name == node.output[0]:
                        user.input[position] = node.input[0]
            model.graph.node.remove(node)
        return len(found)

    return change


def _attribute(kind: str, name: str, value: Any) -> Change:
    """Another value of an attribute."""

    def change(model: Any) -> int:
        import onnx

        found = _nodes(model, kind)
        for node in found:
            kept = [a for a in node.attribute if a.name != name]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])
        return len(found)

    return change


def _bias_dropped(model: Any) -> int:
    found = [node for node in _nodes(model, "Conv", "Gemm") if len(node.input) == 3]
    for node in found:
        del node.input[2]
    return len(found)


def _constants(change_value: Callable[[Any], Any]) -> Change:
    """Floating-point constants with other values."""

    def change(model: Any) -> int:
        import onnx

        found = 0
        for tensor in model.graph.initializer:
            old = onnx.numpy_helper.to_array(tensor)
            if old.dtype.kind == "f":
                new = change_value(old).astype(old.dtype)
                tensor.CopyFrom(onnx.numpy_helper.from_array(new, tensor.name))
                found += 1
        return found

    return change


def _fault(
    name: str, group: str, change: Change, program: Any, *given: torch.Tensor, source: str = "", missed: str = ""
) -> Fault:
    kind = "real" if source else "mutant"
    return Fault(
        name, kind, group, "onnxruntime", Model(change), program, (inputs(*given),), source=source, missed=missed
    )


ONNXRUNTIME = (
    _fault(
        "a cast to integers and back is eliminated",
        "rounding boundary",
        _skipped("Cast"),
        lambda x: x.to(torch.int32).to(torch.float32),
        numbers(6),
        source="microsoft/onnxruntime#4039",
    ),
    _fault(
        "a fused convolution loses what is added",
        "fusion guard",
        _bias_dropped,
        lambda x, w, b: torch.nn.functional.conv2d(x, w, b),
        numbers(1, 2, 5, 5),
        numbers(3, 2, 2, 2),
        numbers(3),
        source="microsoft/onnxruntime#14500",
    ),
    _fault(
        "a folded constant has the wrong value",
        "constant folding dtype",
        _constants(lambda values: values * 0 + 1),
        lambda x: x * 2.5,
        numbers(6),
        source="microsoft/onnxruntime#8422",
    ),
    _fault(
        "a minimum becomes a maximum",
        "arithmetic rewrite",
        _renamed("Min", "Max"),
        torch.minimum,
        numbers(9),
        numbers(9).flip(0),
    ),
    _fault(
        "a difference has its operands swapped",
        "arithmetic rewrite",
        _swapped("Sub"),
        lambda x, y: x - y,
        numbers(7),
        numbers(7) + 1,
    ),
    _fault(
        "softmax goes along the first dimension",
        "layout",
        _attribute("Softmax", "axis", 0),
        lambda x: torch.softmax(x, -1),
        numbers(3, 4),
    ),
    _fault(
        "a transposition is eliminated",
        "layout",
        _skipped("Transpose"),
        lambda x: x.t().sin(),
        numbers(4, 4),
    ),
    _fault(
        "an approximation takes the place of gelu",
        "rounding boundary",
        _attribute("Gelu", "approximate", "tanh"),
        lambda x: torch.nn.functional.gelu(x),
        numbers(9),
    ),
)

"""Values and attributes of which ONNX does not say what comes of them, though its reference evaluator takes them.

The evaluator is NumPy, which wraps, broadcasts and clips where a runtime may read past an operand. What stands here is
what the operators' documentation demands and neither schemas nor shape inference check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["GROWN_ELEMENTS", "MAX_ELEMENTS", "check_clear", "check_effort", "check_values"]

Arrays = Sequence[Any]
Attributes = Mapping[str, Any]

#: Elements that a value of a model may have: 256 MiB in single precision.
MAX_ELEMENTS = 1 << 26
#: The same of a model that is grown, where sizes are among the values of an operand.
GROWN_ELEMENTS = 1 << 20
#: Elements that the operands may have, while a model grows, of an operator that the evaluator computes in loops of
#: Python: 10 to 80 microseconds each, so that such a node takes no longer than all else of a case.
_LOOPED = 192


def check_values(name: str, arrays: Arrays, attributes: Attributes, largest: int = MAX_ELEMENTS) -> None:
    """Raise ValueError for a call that means nothing, or would need too much memory.

    Args:
        name: of the operator.
        arrays: its operands, None for those that are absent.
        attributes: by name.
        largest: elements that a result may have whose sizes are among the values of an operand.
    """
    if name in _SIZED:
        _sizes(name, arrays, largest)
    if (check := _CHECKS.get(name)) is not None:
        check(arrays, attributes)


def check_effort(name: str, sizes: Sequence[int]) -> None:
    """Raise ValueError for a call that takes the evaluator too long to be a part of a model that is grown.

    Args:
        name: of the operator.
        sizes: how many elements each operand has.
    """
    if name in _LOOPS and sum(sizes) > _LOOPED:
        raise ValueError("the reference evaluator would take too long")


def check_clear(name: str, arrays: Arrays, attributes: Attributes) -> None:
    """Raise ValueError for a call on values of which ONNX leaves open what comes of them, or the evaluator is wrong.

    No model that is grown has such calls, since each would be told as a finding; a model that somebody brought may.

    Args:
        name: of the operator.
        arrays: its operands, None for those that are absent.
        attributes: by name.
    """
    if (check := _CLEAR.get(name)) is not None:
        check(arrays, attributes)


_SIZED = frozenset("ConstantOfShape Expand Tile Range Resize Pad OneHot Reshape CenterCropPad AffineGrid".split())
_LOOPS = frozenset(
    "AveragePool Col2Im ConvTranspose DeformConv GridSample LpPool MaxPool MaxRoiPool NonMaxSuppression Pad Resize "
    "RoiAlign STFT Upsample".split()
)


def _sizes(name: str, arrays: Arrays, largest: int) -> None:
    small = [array for array in arrays[1:] if array is not None and array.dtype.kind in "iu" and array.size <= 64]
    small += [arrays[0]] if name in ("ConstantOfShape", "Range") else []
    for array in small:
        if array.size and math.fabs(float(array.astype("float64").max())) > largest:
            raise ValueError("would need too much memory")
        if name != "Range" and math.prod(int(size) for size in array.reshape(-1).tolist() if size > 0) > largest:
            raise ValueError("would need too much memory")


def _whole(array: Any) -> bool:
    return array.dtype.kind in "iu"


def _divides(arrays: Arrays, attributes: Attributes) -> None:
    if _whole(arrays[1]) and not arrays[1].all():
        raise ValueError("a whole number divided by zero")


def _mod(arrays: Arrays, attributes: Attributes) -> None:
    if not _whole(arrays[0]) and attributes.get("fmod", 0) != 1:
        raise ValueError("the remainder of floats needs fmod=1")
    _divides(arrays, attributes)


def _shift(arrays: Arrays, attributes: Attributes) -> None:
    if bool((arrays[1] >= 8 * arrays[1].dtype.itemsize).any()):
        raise ValueError("shifts by the width")


def _pow(arrays: Arrays, attributes: Attributes) -> None:
    if _whole(arrays[0]) and (bool((arrays[1] < 0).any()) or not _whole(arrays[1])):
        raise ValueError("a whole number to a power that is none")


def _bounded(indices: Any, size: int) -> None:
    if indices.size and not (-size <= int(indices.min()) and int(indices.max()) < size):
        raise ValueError("an index that does not exist")


def _axis(arrays: Arrays, attributes: Attributes) -> None:
    """Gather, GatherElements and ScatterElements take places along one axis."""
    rank, axis = arrays[0].ndim, attributes.get("axis", 0)
    if not -rank <= axis < rank:
        raise ValueError("an axis that does not exist")
    _bounded(arrays[1], arrays[0].shape[axis])


def _chosen(arrays: Arrays, attributes: Attributes) -> None:
    """ArgMax and ArgMin look along an axis, which one number does not have."""
    rank, axis = arrays[0].ndim, attributes.get("axis", 0)
    if not -rank <= axis < rank or not arrays[0].shape[axis]:
        raise ValueError("an axis that does not exist")


def _smaller(arrays: Arrays, attributes: Attributes) -> None:
    """Of GatherElements and ScatterElements the indices fit into the data, but along the axis."""
    _axis(arrays, attributes)
    data, indices = arrays[0], arrays[1]
    axis = attributes.get("axis", 0) % data.ndim
    pairs = zip(indices.shape, data.shape, strict=False)
    if indices.ndim != data.ndim or any(own > size for i, (own, size) in enumerate(pairs) if i != axis):
        raise ValueError("indices that do not fit into the data")
    if len(arrays) > 2 and arrays[2].shape != indices.shape:
        raise ValueError("updates and indices of different shapes")


def _tuples(batch: int) -> Callable[[Arrays, Attributes], None]:
    """GatherND and ScatterND take places as tuples of indices."""

    def check(arrays: Arrays, attributes: Attributes) -> None:
        data, indices = arrays[0], arrays[1]
        skipped = attributes.get("batch_dims", 0) if batch else 0
        if not indices.ndim or not 0 <= skipped < min(data.ndim, indices.ndim):
            raise ValueError("indices that are no tuples")
        if indices.shape[-1] > data.ndim - skipped:
            raise ValueError("tuples longer than the data has dimensions")
        for place in range(indices.shape[-1]):
            _bounded(indices[..., place], data.shape[skipped + place])
        if len(arrays) > 2 and arrays[2].shape != (*indices.shape[:-1], *data.shape[indices.shape[-1] :]):
            raise ValueError("updates that do not fit the indices")

    return check


def _sequences(arrays: Arrays, attributes: Attributes) -> None:
    """ReverseSequence: as many lengths as the batch has entries, none longer than time."""
    data, lengths = arrays[0], arrays[1]
    batch, time = attributes.get("batch_axis", 1), attributes.get("time_axis", 0)
    if data.ndim < 2 or {batch, time} != {0, 1} or lengths.shape != (data.shape[batch],):
        raise ValueError("lengths that do not fit the batch")
    if lengths.size and not (int(lengths.min()) >= 0 and int(lengths.max()) <= data.shape[time]):
        raise ValueError("a sequence longer than time")


def _norm(arrays: Arrays, attributes: Attributes) -> None:
    if attributes.get("p", 2) not in (1, 2):
        raise ValueError("a norm other than the first and second")


def _recurrent(gates: int) -> Callable[[Arrays, Attributes], None]:
    def check(arrays: Arrays, attributes: Attributes) -> None:
        data, weights, again = arrays[:3]
        hidden = attributes.get("hidden_size", again.shape[-1] if again.ndim else 0)
        directions = 2 if attributes.get("direction") == "bidirectional" else 1
        if data.ndim != 3 or weights.shape != (directions, gates * hidden, data.shape[2]):
            raise ValueError("weights that do not fit")
        if again.shape != (directions, gates * hidden, hidden):
            raise ValueError("weights that do not fit")
        if len(arrays) > 3 and arrays[3] is not None and arrays[3].shape != (directions, 2 * gates * hidden):
            raise ValueError("a bias that does not fit")
        batch = data.shape[0 if attributes.get("layout", 0) else 1]
        if len(arrays) > 4 and arrays[4] is not None:
            raise ValueError("lengths of sequences")  # which the reference evaluator does not look at
        states = [array for array in arrays[5:7] if array is not None]
        shape = (batch, directions, hidden) if attributes.get("layout", 0) else (directions, batch, hidden)
        if any(state.shape != shape for state in states):
            raise ValueError("a state that does not fit")

    return check


def _pooled(arrays: Arrays, attributes: Attributes) -> None:
    if arrays[0].ndim < 3:
        raise ValueError("no dimension to pool over")


def _channels(arrays: Arrays, attributes: Attributes) -> None:
    """What is scaled by channel has a number for each channel."""
    data = arrays[0]
    if data.ndim < 2 or any(one.shape != (data.shape[1],) for one in arrays[1:]):
        raise ValueError("numbers that do not fit the channels")


def _scaled(arrays: Arrays, attributes: Attributes) -> None:
    """LayerNormalization: scale and bias are broadcast to what is normalised, and not beyond."""
    data, axis = arrays[0], attributes.get("axis", -1)
    if not -data.ndim <= axis < data.ndim:
        raise ValueError("an axis that does not exist")
    shape = data.shape[axis % data.ndim :]
    for one in arrays[1:]:
        if one is not None and one.shape != shape:
            raise ValueError("a scale that does not fit")


def _k(arrays: Arrays, attributes: Attributes) -> None:
    data, axis = arrays[0], attributes.get("axis", -1)
    if arrays[1].size != 1 or not -data.ndim <= axis < data.ndim:
        raise ValueError("no one number of the largest elements")
    if not 0 <= int(arrays[1].reshape(-1)[0]) <= data.shape[axis]:
        raise ValueError("more elements than there are")


def _window(arrays: Arrays, attributes: Attributes) -> None:
    if arrays[0].ndim:
        raise ValueError("a size is one number")
    if attributes.get("periodic", 1) not in (0, 1):
        raise ValueError("a window is periodic or not")
    if not 0 < int(arrays[0]) <= GROWN_ELEMENTS:
        raise ValueError("no size of a window")


def _dilated(arrays: Arrays, attributes: Attributes) -> None:
    if any(int(size) < 1 for key in ("strides", "dilations", "kernel_shape") for size in attributes.get(key, ())):
        raise ValueError("a stride or size below one")
    if any(int(size) < 0 for size in attributes.get("pads", ())):
        raise ValueError("a negative padding")


def _certain(arrays: Arrays, attributes: Attributes) -> None:
    """RandomUniformLike is a call only where all that may be drawn is one number."""
    if attributes.get("high", 1.0) != attributes.get("low", 0.0) or "seed" in attributes:
        raise ValueError("draws random numbers")


def _kept(arrays: Arrays, attributes: Attributes) -> None:
    if len(arrays) > 2 and arrays[2] is not None and bool(arrays[2].any()):
        raise ValueError("drops at random")


_CHECKS: Mapping[str, Callable[[Arrays, Attributes], None]] = {
    "Div": _divides,
    "Dropout": _kept,
    "RandomUniformLike": _certain,
    "Mod": _mod,
    "BitShift": _shift,
    "Pow": _pow,
    "ArgMax": _chosen,
    "ArgMin": _chosen,
    "Gather": _axis,
    "GatherElements": _smaller,
    "ScatterElements": _smaller,
    "GatherND": _tuples(1),
    "ScatterND": _tuples(0),
    "ReverseSequence": _sequences,
    "LpNormalization": _norm,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "GlobalAveragePool": _pooled,
    "GlobalMaxPool": _pooled,
    "GlobalLpPool": _pooled,
    "InstanceNormalization": _channels,
    "BatchNormalization": _channels,
    "LayerNormalization": _scaled,
    "RMSNormalization": _scaled,
    "TopK": _k,
    "HannWindow": _window,
    "HammingWindow": _window,
    "BlackmanWindow": _window,
    "Conv": _dilated,
    "ConvTranspose": _dilated,
    "MaxPool": _dilated,
    "AveragePool": _dilated,
    "LpPool": _dilated,
}


def _numbers(arrays: Arrays, attributes: Attributes) -> None:
    """Pooling: the evaluator pads with what is no number, and passes over such ones in the data as well."""
    if arrays[0].dtype.kind == "f" and bool((arrays[0] != arrays[0]).any()):
        raise ValueError("pools what are no numbers")


def _lengths(arrays: Arrays, attributes: Attributes) -> None:
    """LpNormalization: the evaluator divides by the sum (p=1) where the norm adds absolute values."""
    if attributes.get("p", 2) == 1 and bool((arrays[0] < 0).any()):
        raise ValueError("the evaluator forgets absolute values")


def _clipped(arrays: Arrays, attributes: Attributes) -> None:
    """Clip: an absent bound is the largest number of the type, and infinity beyond it; the evaluator keeps it."""
    absent = len(arrays) < 3 or any(one is None for one in arrays[1:])
    if absent and arrays[0].dtype.kind == "f" and bool((abs(arrays[0]) == math.inf).any()):
        raise ValueError("clips infinity without a bound")


def _held(power: int) -> Callable[[Arrays, Attributes], None]:
    """Reductions of whole numbers: where the type does not hold the sum, one wraps and another saturates."""

    def check(arrays: Arrays, attributes: Attributes) -> None:
        data = arrays[0]
        if _whole(data) and data.size:
            total = float((abs(data.astype("float64")) ** power).sum())
            if total >= 2.0 ** (8 * data.dtype.itemsize - 1):
                raise ValueError("a sum beyond what the type holds")

    return check


_CLEAR: Mapping[str, Callable[[Arrays, Attributes], None]] = {
    "MaxPool": _numbers,
    "AveragePool": _numbers,
    "LpPool": _numbers,
    "LpNormalization": _lengths,
    "Clip": _clipped,
    "ReduceMean": _held(1),
    "ReduceSum": _held(1),
    "ReduceL1": _held(1),
    "ReduceL2": _held(2),
    "ReduceSumSquare": _held(2),
}

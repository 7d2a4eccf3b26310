"""Operators of sequences: a sequence is the tensors in it, constructed before the node and taken apart behind it.

Values of a program are tensors. So the operand that is a sequence is a tuple of tensors in a call, which a model makes
with ``SequenceConstruct``, and a result that is one is as many results, which it takes out with ``SequenceAt``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shakeout.corpus.vocabularies import onnx_schemas as schemas

__all__ = ["NAMES", "Node", "count", "nodes", "run"]

#: Operators whose first operand is a sequence, and those whose result is one.
TAKES = frozenset("ConcatFromSequence SequenceAt SequenceErase SequenceInsert SequenceLength".split())
GIVES = frozenset("SequenceErase SequenceInsert SplitToSequence".split())
NAMES = TAKES | GIVES

#: Tensors that a sequence may have.
MOST = 16


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a model: its operator, the names of its inputs and outputs, and its attributes.

    The value of a constant is one number here, and a tensor of it in the model: not every importer reads ``value_int``.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Any], ...] = ()


def nodes(
    name: str,
    inputs: Sequence[str | tuple[str, ...]],
    outputs: Sequence[str],
    attributes: tuple[tuple[str, Any], ...],
    own: str,
) -> Iterator[Node]:
    """The nodes of a call.

    Args:
        name: of the operator.
        inputs: names, a tuple of them for a sequence.
        outputs: of the results, empty where one is not asked for.
        attributes: of the call.
        own: what the names of other values begin with.
    """
    given = []
    for one in inputs:
        if isinstance(one, tuple):
            given.append(f"{own}_given")
            yield Node("SequenceConstruct", one, (given[-1],))
        else:
            given.append(one)
    if name not in GIVES:
        yield Node(name, tuple(given), tuple(outputs), attributes)
        return
    yield Node(name, tuple(given), (f"{own}_whole",), attributes)
    for place, output in enumerate(outputs):
        if output:
            yield Node("Constant", (), (f"{own}_at_{place}",), (("value", place),))
            yield Node("SequenceAt", (f"{own}_whole", f"{own}_at_{place}"), (output,))


def count(name: str, args: Sequence[Any], attributes: tuple[tuple[str, Any], ...]) -> int:
    """How many results a call has.

    Raises:
        ValueError, IndexError, TypeError: it is none.
    """
    if name == "SequenceInsert":
        return len(args[0]) + 1
    if name == "SequenceErase":
        return len(args[0]) - 1
    if name != "SplitToSequence":
        return 1
    data, split = args[0], args[1] if len(args) > 1 else None
    size = int(data.shape[_axis(dict(attributes).get("axis", 0), data.dim())])
    if split is None:
        return size
    return int(split.numel()) if split.dim() else -(-size // max(int(split), 1))


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError("an axis that does not exist")
    return axis % rank


def _check(name: str, args: Sequence[Any], attributes: tuple[tuple[str, Any], ...]) -> None:
    """Raise ValueError or TypeError for a call that is none, or means nothing."""
    first, rest = args[0], [one for one in args[1:] if one is not None]
    if isinstance(first, tuple) != (name in TAKES) or any(isinstance(one, tuple) for one in rest):
        raise TypeError(f"the first operand of {name} is {'' if name in TAKES else 'no '}sequence of tensors")
    tensors = first if isinstance(first, tuple) else (first,)
    if not 0 < len(tensors) <= MOST or len({one.dtype for one in tensors}) > 1:
        raise TypeError(f"expected 1 to {MOST} tensors of one element type")
    if name == "SequenceInsert":
        if rest[0].dtype != tensors[0].dtype:
            raise TypeError("expected a tensor of the sequence's element type")
        rest = rest[1:]
    for one in rest:
        if str(one.dtype) not in ("torch.int64", "torch.int32"):
            raise TypeError(f"{name} takes places and sizes as int64 or int32")
    if name == "SplitToSequence":
        _split(first, rest[0] if rest else None, dict(attributes))
    elif name.startswith("Sequence") and rest:
        ends = len(tensors) + (name == "SequenceInsert")
        if rest[0].dim() or not -len(tensors) <= int(rest[0]) < ends:
            raise ValueError("a place that does not exist")
    if name == "SequenceErase" and len(tensors) < 2:
        raise ValueError("nothing is left")


def _split(data: Any, split: Any, attributes: dict[str, Any]) -> None:
    size = int(data.shape[_axis(attributes.get("axis", 0), data.dim())])
    if attributes.get("keepdims", 1) not in (0, 1) or size > MOST or not size:
        raise ValueError("nothing to split, or too much")
    if split is None:
        return
    if split.dim() > 1 or not split.numel() or int(split.min()) < 1:
        raise ValueError("sizes are whole numbers from 1 on")
    if split.dim() and int(split.sum()) != size:
        raise ValueError("sizes that do not add up")


@functools.lru_cache(1 << 10)
def _evaluator(
    operator: str,
    dtypes: tuple[Any, ...],
    attributes: tuple[tuple[str, Any], ...],
    wanted: tuple[bool, ...],
) -> Any:
    """The reference evaluator of the model of a call whose operands have these element types."""
    import onnx.helper
    import onnx.reference

    name, version = schemas.identified(operator)
    infos, inputs = list[Any](), list[str | tuple[str, ...]]()

    def given(dtype: str | None) -> str:
        if dtype is None:
            return ""
        label = f"i{len(infos)}"
        infos.append(onnx.helper.make_tensor_value_info(label, schemas.ELEMENTS[dtype][0], None))
        return label

    for one in dtypes:
        inputs.append(tuple(map(given, one)) if isinstance(one, tuple) else given(one))
    outputs = [f"o{place}" if asked else "" for place, asked in enumerate(wanted)]
    made = []
    for node in nodes(name, inputs, outputs, attributes, "own"):
        more = dict(node.attributes)
        if node.kind == "Constant":
            more["value"] = onnx.helper.make_tensor("value", onnx.TensorProto.INT64, [], [more["value"]])
        made.append(onnx.helper.make_node(node.kind, node.inputs, node.outputs, **more))
    results = [onnx.helper.make_empty_tensor_value_info(one) for one in outputs if one]
    opsets = [onnx.helper.make_opsetid("", version)]
    graph = onnx.helper.make_graph(made, "node", infos, results)
    return onnx.reference.ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets))


def run(
    operator: str, args: Sequence[Any], attributes: tuple[tuple[str, Any], ...], wanted: Sequence[bool]
) -> list[Any]:
    """The results of a call, None for those that are not wanted.

    Raises:
        ValueError, TypeError: it is none, or the evaluator does not take it.
    """
    from shakeout.corpus.onnx_standalone import array_of, tensor_of

    name, _ = schemas.identified(operator)
    known = schemas.schema(operator)
    if len(args) < known.min_input or len(args) > known.max_input:
        raise TypeError(f"{operator} takes {known.min_input} to {known.max_input} inputs, not {len(args)}")
    for key, _ in attributes:
        if key not in known.attributes:
            raise TypeError(f"{operator} has no attribute {key}")
    _check(name, args, attributes)
    if len(wanted) != count(name, args, attributes):
        raise ValueError(f"{operator} gives {count(name, args, attributes)} results here, not {len(wanted)}")

    def dtype(one: Any) -> Any:
        if isinstance(one, tuple):
            return tuple(map(dtype, one))
        return None if one is None else str(one.dtype).removeprefix("torch.")

    flat = [one for arg in args for one in (arg if isinstance(arg, tuple) else (arg,)) if one is not None]
    feeds = {f"i{place}": array_of(one) for place, one in enumerate(flat)}
    found = iter(_evaluator(operator, tuple(map(dtype, args)), attributes, tuple(wanted)).run(None, feeds))
    return [tensor_of(next(found)) if asked else None for asked in wanted]

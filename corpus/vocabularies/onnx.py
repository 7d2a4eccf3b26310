"""The onnx vocabulary: a program is an ONNX model, its calls are nodes, its parameters are initialisers.

What an operator means is what ONNX's own reference evaluator makes of it, which is NumPy. The text of a program builds
the model with ``onnx.helper``; a target is given the network whose ``model`` that is. Arguments of a call are the
inputs of the node, ``None`` for an optional one that is absent; keywords are its attributes.

The evaluator takes much that ONNX's schemas and shape inference forbid, since NumPy does. A call is one only if both
allow it, and if the result has the type that shape inference says.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shakeout.corpus.program import Arg, Call, Input, Program, Ref, TensorType
from shakeout.corpus.vocabularies import onnx_schemas as schemas
from shakeout.corpus.vocabularies import onnx_sequences as sequences
from shakeout.corpus.vocabularies.onnx_defined import (
    GROWN_ELEMENTS,
    MAX_ELEMENTS,
    check_clear,
    check_effort,
    check_values,
)
from shakeout.corpus.vocabularies.onnx_schemas import ELEMENTS, UnknownOperator
from shakeout.corpus.vocabularies.onnx_traits import traits

__all__ = [
    "REFERENCE",
    "SIMPLEST",
    "UnknownOperator",
    "argument",
    "bindings",
    "call",
    "constant",
    "constants",
    "evaluate",
    "expression",
    "family",
    "functions",
    "imports",
    "meaning",
    "model",
    "namespace",
    "network",
    "operators",
    "resolve",
    "spelled",
    "traits",
    "value",
    "widened",
    "wider",
    "written",
]

#: The target that shows what a program means.
REFERENCE = "onnx.reference"

#: Operators that say nothing about what fails, from the simplest, with how many operands they take. They are as old
#: as any that programs are grown of, so that a program of whatever operator set may have them.
SIMPLEST = {"onnx.v13.Neg": 1, "onnx.v14.Add": 2}

#: What a baseline of higher precision has in the place of these.
_WIDER = {"float16": "float64", "bfloat16": "float64", "float32": "float64"}


@functools.cache
def operators() -> Mapping[str, Callable[..., Any]]:
    """Every operator of the operator sets that programs are grown of, by qualified name."""
    found = frozenset[str]().union(*map(schemas.of_set, schemas.SETS))
    return {name: resolve(name) for name in sorted(found) if _installed(name)}


def _installed(operator: str) -> bool:
    try:
        schemas.schema(operator)
    except UnknownOperator:
        return False
    return True


@functools.cache
def resolve(operator: str) -> Callable[..., Any]:
    """The function that an operator names: of tensors, ``None`` for those that are absent, and attributes.

    Raises:
        UnknownOperator: the name is not an operator here.
    """
    schemas.schema(operator)
    return functools.partial(_called, operator)


def _called(operator: str, /, *args: Any, **kwargs: Any) -> Any:
    """The result of a call: a tensor, or a tuple of them where the operator has several.

    What the evaluator takes long for it refuses: it is proposals that are called so, and not what a case holds.
    """
    name, attributes = schemas.identified(operator)[0], tuple(sorted(kwargs.items()))
    if name in sequences.NAMES:
        found = sequences.run(operator, args, attributes, (True,) * sequences.count(name, args, attributes))
        return found[0] if name not in sequences.GIVES else tuple(found)
    check_effort(name, [arg.numel() for arg in args if arg is not None])
    count = args[1].numel() if len(args) > 1 and args[1] is not None else 0
    wanted = schemas.outputs(operator, count, attributes)
    results = _run(operator, args, attributes, (True,) * wanted, grown=True)
    return results[0] if len(schemas.schema(operator).outputs) == 1 and not _several(operator) else tuple(results)


@functools.cache
def _several(operator: str) -> bool:
    """Whether an operator gives a sequence of results, even if it is one result at times."""
    return schemas.identified(operator)[0] == "Split"


def constants() -> Collection[str]:
    """There are none: element types are numbers among the attributes, as ONNX has them."""
    return frozenset()


def constant(name: str, /) -> Any:
    """There are none.

    Raises:
        UnknownOperator: always.
    """
    raise UnknownOperator(f"{name!r:.80} is no constant: ONNX has none by name")


def value(arg: Arg, tensors: Sequence[Any], /) -> Any:
    """An argument as ``resolve``'s functions take it."""
    match arg:
        case Ref(index):
            return tensors[index]
        case tuple():
            return tuple(value(item, tensors) for item in arg)
    return arg


def call(operation: Call, tensors: Sequence[Any], /) -> list[Any]:
    """Run one call; its results in order, None for those that it does not ask for."""
    args = [value(arg, tensors) for arg in operation.args]
    wanted = tuple(result is not None for result in operation.results) or (True,)
    if schemas.identified(operation.operator)[0] in sequences.NAMES:
        return sequences.run(operation.operator, args, operation.kwargs, wanted)
    return _run(operation.operator, args, operation.kwargs, wanted)


def evaluate(
    program: Program,
    tensors: Sequence[Any],
    after: Callable[[Call, list[Any]], list[Any]] | None = None,
    run: Callable[[Call, Sequence[Any]], list[Any]] = call,
) -> list[Any]:
    """Interpret a program, node by node; all its values, by number."""
    values = list(tensors)
    for operation in program.calls:
        results = run(operation, values)
        values.extend(results if after is None else after(operation, results))
    return values


# --- running a node ---------------------------------------------------------------------------------------------------


def _run(
    operator: str,
    args: Sequence[Any],
    kwargs: tuple[tuple[str, Any], ...],
    wanted: tuple[bool, ...],
    *,
    grown: bool = False,
) -> list[Any]:
    """The results of one node; what no rule of ONNX gives a meaning raises a ValueError or TypeError.

    So does, in a model that is ``grown``, what has one that is not clear, or is too large.
    """
    import numpy as np

    from shakeout.corpus.onnx_standalone import array_of, tensor_of

    for arg in args:
        if arg is not None and not hasattr(arg, "dtype"):
            raise TypeError(f"an input of {operator} is a tensor, not {arg!r:.40}")
    arrays = [None if arg is None else array_of(arg) for arg in args]
    dtypes = tuple(None if arg is None else str(arg.dtype).removeprefix("torch.") for arg in args)
    shapes = tuple(None if arg is None else tuple(arg.shape) for arg in args)
    inferred = _inferred(operator, kwargs, dtypes, shapes, wanted, tuple(map(_told, arrays)))
    name, attributes = schemas.identified(operator)[0], dict(kwargs)
    check_values(name, arrays, attributes, GROWN_ELEMENTS if grown else MAX_ELEMENTS)
    if grown:
        check_clear(name, arrays, attributes)
    evaluator = _evaluator(operator, kwargs, repr(kwargs), dtypes, wanted)
    feeds = {f"i{place}": array for place, array in enumerate(arrays) if array is not None}
    with np.errstate(all="ignore"):
        found = iter(evaluator.run(None, feeds))
    results: list[Any] = []
    for asked, type_ in zip(wanted, inferred, strict=True):
        result = tensor_of(next(found)) if asked else None
        results.append(result)
        if result is not None and type_ is not None:
            told, sizes = type_
            dtype = str(result.dtype).removeprefix("torch.")
            if told != dtype or (sizes is not None and not _fits(sizes, tuple(result.shape))):
                raise ValueError(f"shape inference says {told}{sizes}, the evaluator {dtype}{tuple(result.shape)}")
    return results


def _fits(told: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(told) == len(shape) and all(one in (None, size) for one, size in zip(told, shape, strict=True))


def _node(operator: str, kwargs: Sequence[tuple[str, Any]], present: Sequence[bool], wanted: Sequence[bool]) -> Any:
    import onnx.helper

    inputs = [f"i{place}" if there else "" for place, there in enumerate(present)]
    results = [f"o{place}" if asked else "" for place, asked in enumerate(wanted)]
    found = schemas.schema(operator)
    for key, given in kwargs:
        if key not in found.attributes:
            raise TypeError(f"{operator} has no attribute {key}")
        if isinstance(given, bool) or not isinstance(given, int | float | str | tuple):
            raise TypeError(f"the attribute {key} of {operator} cannot be {given!r:.40}")
    attributes = [
        onnx.helper.make_attribute(
            key, list(given) if isinstance(given, tuple) else given, attr_type=_kind(found.attributes[key].type)
        )
        for key, given in kwargs
    ]
    node = onnx.helper.make_node(schemas.identified(operator)[0], inputs, results)
    node.attribute.extend(attributes)
    return node


def _kind(kind: Any) -> int:
    """The number of an attribute's type; ``onnx.defs`` and ``onnx.AttributeProto`` number them alike."""
    return int(getattr(kind, "value", kind))


@functools.lru_cache(1 << 13)
def _evaluator(
    operator: str,
    kwargs: tuple[tuple[str, Any], ...],
    told: str,
    dtypes: tuple[str | None, ...],
    wanted: tuple[bool, ...],
) -> Any:
    """The reference evaluator of a model of one node. A node costs some 15 microseconds to run, and 50 to make.

    ``told`` tells apart attributes that are equal and mean something else: 0.0 and -0.0.
    """
    import onnx.helper
    import onnx.reference

    node = _node(operator, kwargs, [dtype is not None for dtype in dtypes], wanted)
    graph = onnx.helper.make_graph(
        [node],
        "node",
        [
            onnx.helper.make_tensor_value_info(f"i{place}", ELEMENTS[dtype][0], None)
            for place, dtype in enumerate(dtypes)
            if dtype is not None
        ],
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name],
    )
    opsets = [onnx.helper.make_opsetid("", schemas.identified(operator)[1])]
    return onnx.reference.ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets))


#: Sizes, axes and places are so many numbers at most; of them shape inference knows more than of types alone.
_FEW = 16


def _told(array: Any) -> bytes | None:
    """The numbers of an operand that may be sizes, axes or places."""
    return array.tobytes() if array is not None and array.dtype.str in ("<i8", "<i4") and array.size <= _FEW else None


_Inferred = tuple[tuple[str, tuple[int | None, ...] | None] | None, ...]


@functools.lru_cache(1 << 15)
def _inferred(
    operator: str,
    kwargs: tuple[tuple[str, Any], ...],
    dtypes: tuple[str | None, ...],
    shapes: tuple[tuple[int, ...] | None, ...],
    wanted: tuple[bool, ...],
    data: tuple[bytes | None, ...],
) -> _Inferred:
    """What ONNX's shape inference tells of each result, as far as it knows; a call that the schema forbids raises."""
    import onnx
    import onnx.shape_inference

    schemas.check_types(operator, dtypes)
    if dict(kwargs).get("batch_dims", 0) < 0:
        raise ValueError("a negative number of batch dimensions")  # with which onnx 1.23.2 reads beyond the sizes
    found = schemas.schema(operator)
    if len(wanted) > found.max_output:
        raise TypeError(f"{operator} has {found.max_output} results at most")
    node = _node(operator, kwargs, [dtype is not None for dtype in dtypes], wanted)
    version = schemas.identified(operator)[1]
    types = {
        f"i{place}": onnx.helper.make_tensor_type_proto(ELEMENTS[dtype][0], shape)
        for place, (dtype, shape) in enumerate(zip(dtypes, shapes, strict=True))
        if dtype is not None
    }
    constants_ = {
        f"i{place}": onnx.TensorProto(data_type=ELEMENTS[dtype][0], dims=shape, raw_data=held)
        for place, (dtype, shape, held) in enumerate(zip(dtypes, shapes, data, strict=True))
        if dtype is not None and shape is not None and held is not None
    }
    opsets = [onnx.helper.make_opsetid("", version)]
    told = onnx.shape_inference.infer_node_outputs(
        found, node, types, constants_, opset_imports=opsets, ir_version=_ir_version(version)
    )
    results: list[tuple[str, tuple[int | None, ...] | None] | None] = []
    for place in range(len(wanted)):
        tensor = told[f"o{place}"].tensor_type if f"o{place}" in told else None
        if tensor is None or not tensor.elem_type:
            results.append(None)
            continue
        sizes = None
        if tensor.HasField("shape"):
            sizes = tuple(one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim)
        results.append((schemas.element_name(tensor.elem_type), sizes))
    return tuple(results)


# --- source text ------------------------------------------------------------------------------------------------------


def argument(arg: Arg, names: Sequence[str], /) -> str:
    """An argument as Python source: an input of a node is the name of a value, an attribute what it is."""
    match arg:
        case Ref(index):
            return json.dumps(names[index])
        case None:
            return '""'
        case tuple():
            return f"[{', '.join(argument(item, names) for item in arg)}]"
        case float() if not math.isfinite(arg):
            return f'float("{arg}")'
        case str():
            return json.dumps(arg)
    return repr(arg)


def expression(operation: Call, names: Sequence[str], device: str = "cpu") -> str:
    """A call as the node that it is; its results are called by what it is."""
    results = [f"{schemas.identified(operation.operator)[0]}_{place}" for place in range(len(operation.results))]
    return ", ".join(_made(operation, names, results))


def _made(operation: Call, names: Sequence[str], results: Sequence[str]) -> list[str]:
    """A call as the nodes that it is."""
    kind = schemas.identified(operation.operator)[0]
    if kind in sequences.NAMES:
        given = [
            tuple(json.loads(argument(item, names)) for item in arg)
            if isinstance(arg, tuple)
            else json.loads(argument(arg, names))
            for arg in operation.args
        ]
        own = next(one for one in results if one)
        return [_printed(node) for node in sequences.nodes(kind, given, results, operation.kwargs, f"{own}_of")]
    inputs = f"[{', '.join(argument(arg, names) for arg in operation.args)}]"
    pieces = [json.dumps(kind), inputs, json.dumps(list(results))]
    # Of an empty list onnx.helper cannot tell the type, and it is what the attribute is without it.
    pieces += [f"{key}={argument(arg, names)}" for key, arg in operation.kwargs if arg != ()]
    return [f"onnx.helper.make_node({', '.join(pieces)})"]


def _printed(node: sequences.Node) -> str:
    pieces = [json.dumps(node.kind), json.dumps(list(node.inputs)), json.dumps(list(node.outputs))]
    for key, arg in node.attributes:
        text = argument(arg, ())
        if node.kind == "Constant":
            text = f'onnx.helper.make_tensor("value", {ELEMENTS["int64"][0]}, [], [{text}])'
        pieces.append(f"{key}={text}")
    return f"onnx.helper.make_node({', '.join(pieces)})"


def network(program: Program, names: Sequence[str]) -> str:
    """The functions ``bind`` and ``arguments`` of a program: the model built with ``onnx.helper``, and what it is."""
    given = [number for number, one in enumerate(program.inputs) if one.role == "input"]
    owned = [number for number, one in enumerate(program.inputs) if one.role == "parameter"]
    picked = ", ".join(f"tensors[{number}]" for number in owned)
    bound = f"Evaluated(model({picked}), [{picked}])" if owned else "Evaluated(model())"
    bind = f"def bind(tensors):\n    return {bound}"
    arguments = f"def arguments(tensors):\n    return [{', '.join(f'tensors[{number}]' for number in given)}]"
    return "\n\n\n".join([model(program, names), bind, arguments]) + "\n"


def model(program: Program, names: Sequence[str]) -> str:
    """The function ``model`` of the initialisers, which gives the model of a program."""
    given = [number for number, one in enumerate(program.inputs) if one.role == "input"]
    owned = [number for number, one in enumerate(program.inputs) if one.role == "parameter"]
    types = program.types()
    used = {number for operation in program.calls for number in operation.operands()} | set(program.returns)
    nodes = []
    for first, operation in zip(program.firsts(), program.calls, strict=True):
        results = [
            names[first + place] if type_ is not None or first + place in used or not place else ""
            for place, type_ in enumerate(operation.results)
        ]
        nodes += _made(operation, names, results)
    returned: list[tuple[str, TensorType | None]] = []
    for number in program.returns:
        name = names[number]
        if number < len(program.inputs) or any(name == one for one, _ in returned):
            # What a graph returns is the result of a node, and has a name of its own.
            name = f"{names[number]}_{len(returned)}"
            nodes.append(f'onnx.helper.make_node("Identity", ["{names[number]}"], ["{name}"])')
        returned.append((name, types[number]))
    version = schemas.opset(program.operators())
    lists = [
        _lines(nodes),
        '"program"',
        _lines([_info(names[number], types[number]) for number in given]),
        _lines([_info(name, type_) for name, type_ in returned]),
    ]
    lists += [_lines([f'initializer("{names[number]}", {names[number]})' for number in owned])] if owned else []
    parts = "".join(f"        {one},\n" for one in lists)
    return (
        f"def model({', '.join(names[number] for number in owned)}):\n"
        f"    graph = onnx.helper.make_graph(\n{parts}    )\n"
        f'    opsets = [onnx.helper.make_opsetid("", {version})]\n'
        f"    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version={_ir_version(version)})"
    )


def _lines(items: Sequence[str]) -> str:
    return f"[\n{''.join(f'            {item},' + chr(10) for item in items)}        ]" if items else "[]"


def _info(name: str, type_: TensorType | None) -> str:
    assert type_ is not None
    number = ELEMENTS[type_.dtype][0]
    return f'onnx.helper.make_tensor_value_info("{name}", {number}, {list(type_.shape)})'


#: The version of the file format with which each operator set came, from the set on (``onnx.helper.VERSION_TABLE``).
_FORMATS = ((28, 14), (25, 13), (24, 12), (23, 11), (21, 10), (19, 9), (15, 8), (12, 7), (0, 6))


def _ir_version(version: int) -> int:
    """The version of the file format that goes with an operator set."""
    return next(format_ for least, format_ in _FORMATS if version >= least)


def bindings(program: Program, /) -> list[str]:
    """There are none."""
    return []


def functions(program: Program, /) -> list[Any]:
    """What the text of a program uses, in order; a script has them in it."""
    from shakeout.corpus import onnx_standalone as printed
    from shakeout.corpus.onnx_elements import elements

    owned = any(one.role == "parameter" for one in program.inputs)
    constant_ = [printed.initializer] if owned else []
    return [elements, printed.array_of, printed.tensor_of, *constant_, printed.Evaluated]


def namespace(program: Program, /) -> dict[str, Any]:
    """Names that the text uses."""
    import numpy
    import onnx
    import onnx.reference

    from shakeout.corpus import onnx_standalone as printed
    from shakeout.corpus.onnx_elements import elements

    return {
        "onnx": onnx,
        "np": numpy,
        "elements": elements,
        "array_of": printed.array_of,
        "tensor_of": printed.tensor_of,
        "initializer": printed.initializer,
        "Evaluated": printed.Evaluated,
    }


def imports(program: Program, /) -> list[str]:
    """Lines that a script needs beside ``import torch``."""
    return ["import numpy as np", "import onnx", "import onnx.reference"]


# --- what is known of operators ---------------------------------------------------------------------------------------


def family(operator: str, /) -> str:
    """The name without its version: an operator stays one bug's operator when its schema is changed."""
    try:
        return f"onnx.{schemas.identified(operator)[0]}"
    except UnknownOperator:
        return operator


def written(operation: Call, /) -> tuple[int, ...]:
    """Nothing: a node writes to none of its inputs."""
    return ()


def meaning(operator: str, /) -> str:
    """The operator itself."""
    return operator


def spelled(operator: str, /) -> str | None:
    """Nothing plainer."""
    return None


def wider(dtype: str, /) -> str:
    """Double precision for every narrower float."""
    return _WIDER.get(dtype, dtype)


#: Attributes that are the number of an element type.
_TYPED = frozenset(("to", "dtype", "output_dtype", "stash_type", "softmax_precision"))
#: What quantises rounds to the numbers of a format, and has no higher precision.
_FORMATTED = frozenset("QuantizeLinear DynamicQuantizeLinear BitCast".split())


def widened(program: Program, /) -> Program | None:
    """The same program in double precision; None where it asks for a format."""
    if any(schemas.identified(operation.operator)[0] in _FORMATTED for operation in program.calls):
        return None
    calls = tuple(
        replace(
            operation,
            kwargs=tuple((key, _wide_attribute(key, arg)) for key, arg in operation.kwargs),
            results=tuple(None if one is None else _wide(one) for one in operation.results),
        )
        for operation in program.calls
    )
    return replace(program, inputs=tuple(Input(_wide(one.type), one.role) for one in program.inputs), calls=calls)


def _wide(type_: TensorType) -> TensorType:
    return TensorType(wider(type_.dtype), type_.shape)


def _wide_attribute(key: str, arg: Arg) -> Arg:
    if key not in _TYPED or not isinstance(arg, int):
        return arg
    try:
        return ELEMENTS[wider(schemas.element_name(arg))][0]
    except ValueError:
        return arg

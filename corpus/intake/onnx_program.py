"""ONNX models, read as data, as programs of the onnx vocabulary: the very nodes of the model, its weights as blobs.

A file may come from anybody. What it holds is parsed, checked by onnx's own checker and shape inference, and run on
ONNX's reference evaluator; nothing of it is executed, and no file is read but those beside the model that it names for
its weights. What it takes to run a node is bounded by the time and memory of the process that reads.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from shakeout.corpus.case import Case, Setting
from shakeout.corpus.codec import encode
from shakeout.corpus.inputs import describe_inputs
from shakeout.corpus.intake.refusal import NotCaptured
from shakeout.corpus.program import Arg, Call, Input, InvalidProgram, Program, Ref, Role, TensorType
from shakeout.corpus.standalone import fill
from shakeout.corpus.vocabularies import onnx as words
from shakeout.corpus.vocabularies import onnx_schemas as schemas
from shakeout.corpus.vocabularies import onnx_sequences as sequences
from shakeout.corpus.vocabularies.onnx_defined import MAX_ELEMENTS

__all__ = ["Read", "check_names", "read_inputs", "read_model", "read_program"]

#: Nodes that a model may have with its functions in the place of their calls; large models have some ten thousand.
MAX_NODES = 1 << 16

#: Sizes of symbolic dimensions for which no input says one, by the order in which their names are met.
SIZES = (2, 3, 5, 7)


@dataclass(frozen=True, slots=True)
class Read:
    """A model as a case.

    Attributes:
        case: it, on one set of inputs.
        notes: what a person should know of how it was read.
    """

    case: Case
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    """A model while it becomes a program: its values by name, and as tensors by number."""

    numbers: dict[str, int] = field(default_factory=dict)
    tensors: list[torch.Tensor | None] = field(default_factory=list)
    inputs: list[tuple[Input, torch.Tensor]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def give(self, name: str, tensor: torch.Tensor, role: Role) -> None:
        self.numbers[name] = len(self.tensors)
        self.tensors.append(tensor)
        self.inputs.append((Input(_type(tensor), role), tensor))


def read_program(
    path: Path, inputs: Mapping[str, torch.Tensor] | None, setting: Setting, directory: Path | str
) -> Read:
    """Make a case of the model in a file.

    Args:
        path: of the model.
        inputs: what it is fed, by name; None for drawn values.
        setting: of the case.
        directory: where weights become blobs.

    Raises:
        NotCaptured: it is no model, holds what a program cannot, or its evaluator does not run it.
    """
    model, notes = read_model(path)
    reading = _Reading()
    graph = model.graph
    weights = {one.name: _array(one) for one in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            weights[node.output[0]] = _constant(node)
        else:
            nodes.append(node)
    given = _given(graph, weights, inputs, notes)
    for name, tensor in given.items():
        reading.give(name, tensor, "input")
    for name, tensor in weights.items():
        reading.give(name, tensor, "parameter")
    version = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place, node in enumerate(nodes):
            _add(reading, node, version, place)
    try:
        returns = tuple(reading.numbers[one.name] for one in graph.output)
        program = Program(tuple(one for one, _ in reading.inputs), tuple(reading.calls), returns, "onnx")
        schemas.opset(program.operators())
    except KeyError as error:
        raise NotCaptured(f"the output {error} is no value of the graph") from None
    except InvalidProgram as error:
        raise NotCaptured(str(error)) from None
    case = Case(program, (describe_inputs([tensor for _, tensor in reading.inputs], Path(directory)),), setting)
    try:
        encode(case)  # a case that cannot be stored is told now
    except InvalidProgram as error:
        raise NotCaptured(str(error)) from None
    return Read(case, tuple(notes))


# --- the file ---------------------------------------------------------------------------------------------------------


def read_model(path: Path) -> tuple[Any, list[str]]:
    """The model in a file, checked, with the functions in it put in the place of their calls; and notes on that.

    Raises:
        NotCaptured: it is none.
    """
    import onnx
    import onnx.inliner
    from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]

    notes: list[str] = []
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (OSError, DecodeError, ValueError) as error:
        raise NotCaptured(f"{path.name} is no ONNX model: {_said(error)}") from None
    if not model.graph.node or not model.graph.output:
        raise NotCaptured(f"{path.name} is no ONNX model with a node and an output in it")
    _sized(model)
    _bounded(model)
    _external(model, path.absolute().parent)
    try:
        onnx.checker.check_model(_shaped(model))
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        if model.functions:
            notes.append(f"{len(model.functions)} functions of the model are put in the place of their calls")
            model = onnx.inliner.inline_local_functions(model)
    except EncodeError:
        raise NotCaptured(f"{path.name} has more than 2 GiB with its weights, which ONNX's own checker takes") from None
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise NotCaptured(f"{path.name} is no valid ONNX model: {_said(error)}") from None
    return model, notes


def _shaped(model: Any) -> Any:
    """The model without those outputs whose shape nobody told, which the checker refuses and every runtime takes."""
    import onnx

    told = [one for one in model.graph.output if one.type.tensor_type.HasField("shape")]
    if len(told) == len(model.graph.output):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(told)
    return copy


def _said(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _printable((lines or [type(error).__name__])[0][:200])


def _printable(text: str) -> str:
    """A text with names of a file in it, so that none of them speaks to somebody's terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _external(model: Any, folder: Path) -> None:
    """Read weights that lie in other files, which have to be beside the model.

    A name with a path that leads out of the folder, or that is a link, may be any file of this machine.
    """
    import onnx
    from onnx.external_data_helper import ExternalDataInfo

    for tensor in _tensors(model):
        if not _elsewhere(tensor):
            continue
        try:
            info = ExternalDataInfo(tensor)
            name, offset, length = str(info.location), int(info.offset or 0), int(info.length or 0)
            path = folder / name
            inside = os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep)
            # A name may be too long for a file, or have a zero byte in it.
            there, linked = os.path.isfile(path), os.path.islink(path)
        except (OSError, ValueError, TypeError) as error:
            raise NotCaptured(f"where the tensor {tensor.name!r} lies is not told right: {_said(error)}") from None
        if os.path.isabs(name) or not inside or linked:
            raise NotCaptured(
                f"the tensor {tensor.name!r} lies in {name!r:.80}, which is not beside the model: only files in its "
                "own directory are read"
            )
        if not there:
            raise NotCaptured(f"the tensor {tensor.name!r} lies in {name!r:.80}, and there is no such file")
        needed = math.prod(tensor.dims) * _itemsize(tensor)
        if length not in (0, needed):
            raise NotCaptured(f"the tensor {tensor.name!r} is said to have {length} bytes, expected {needed}")
        try:
            with path.open("rb") as file:
                file.seek(offset)
                tensor.raw_data = file.read(needed)
        except (OSError, ValueError) as error:
            raise NotCaptured(f"the tensor {tensor.name!r} cannot be read: {_said(error)}") from None
        if len(tensor.raw_data) < needed:
            raise NotCaptured(f"the tensor {tensor.name!r} is said to end behind the end of {name!r:.80}")
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _itemsize(tensor: Any) -> int:
    import onnx

    try:
        schemas.element_name(tensor.data_type)
    except ValueError as error:
        raise NotCaptured(f"the tensor {tensor.name!r} cannot be read: {error}") from None
    return int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _elsewhere(tensor: Any) -> bool:
    """Whether a tensor's numbers are said to lie in another file."""
    import onnx

    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _tensors(model: Any) -> list[Any]:
    """The tensors that the model's graph and functions hold; bodies of nodes have more, but no program has bodies."""
    nodes = [*model.graph.node, *(node for one in model.functions for node in one.node)]
    return [*model.graph.initializer, *(one.t for node in nodes for one in node.attribute if one.HasField("t"))]


def _sized(model: Any) -> None:
    """Raise NotCaptured for what is too large to look at, before anything is made of it."""
    for one in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        _check_size(one.name, [d.dim_value for d in one.type.tensor_type.shape.dim if d.HasField("dim_value")])
    for tensor in _tensors(model):
        _check_size(tensor.name, tensor.dims)


def _bounded(model: Any) -> None:
    """Raise NotCaptured for what onnx's own checker, inliner and shape inference would not come back from."""
    functions = {(_domain(one), one.name, one.overload): one for one in model.functions}
    known: dict[tuple[str, str, str], int] = {}

    def expanded(nodes: Sequence[Any], within: tuple[tuple[str, str, str], ...]) -> int:
        """How many nodes they are with functions in the place of their calls."""
        total = 0
        for node in nodes:
            total += 1
            if node.op_type == "GatherND":
                for one in node.attribute:
                    # Below zero shape inference reads in front of the sizes, and the process ends.
                    if one.name == "batch_dims" and one.ref_attr_name:
                        raise NotCaptured("a GatherND has its batch_dims from a call of a function, expected a number")
                    if one.name == "batch_dims" and one.i < 0:
                        raise NotCaptured(f"a GatherND has batch_dims={one.i}, expected a number from 0 on")
            for attribute in node.attribute:
                for body in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                    total += expanded(body.node, within)
            key = (_domain(node), node.op_type, node.overload)
            if key in functions:
                if key in within:
                    raise NotCaptured(f"the function {_printable(node.op_type)!r:.80} calls itself")
                if key not in known:
                    known[key] = expanded(functions[key].node, (*within, key))
                total += known[key]
            if total > MAX_NODES:
                raise NotCaptured(f"the model has more than {MAX_NODES} nodes with functions in place of their calls")
        return total

    try:
        expanded(model.graph.node, ())
    except RecursionError:
        raise NotCaptured("the functions of the model call each other too deep") from None


def _domain(named: Any) -> str:
    return "" if named.domain == "ai.onnx" else str(named.domain)


def _check_size(name: str, sizes: Sequence[int]) -> None:
    # Sizes beside one of zero count as well: what computes strides multiplies them.
    if any(size < 0 for size in sizes) or math.prod(size or 1 for size in sizes) > MAX_ELEMENTS:
        raise NotCaptured(f"{name!r} has the shape {list(sizes)!s:.80}, expected {MAX_ELEMENTS} elements at most")


# --- values -----------------------------------------------------------------------------------------------------------


def _type(tensor: torch.Tensor) -> TensorType:
    return TensorType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))


def _array(tensor: Any) -> torch.Tensor:
    from onnx import numpy_helper

    from shakeout.corpus.onnx_standalone import tensor_of

    if _elsewhere(tensor):  # of a function's default, say; onnx would look for it wherever this process happens to run
        raise NotCaptured(f"the tensor {tensor.name!r} lies in another file, where only weights and constants may")
    try:
        schemas.element_name(tensor.data_type)
        return tensor_of(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise NotCaptured(f"the tensor {tensor.name!r} cannot be read: {_said(error)}") from None


def _constant(node: Any) -> torch.Tensor:
    """The tensor of a node Constant."""
    from onnx import helper

    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        match attribute.name:
            case "value":
                return _array(value)
            case "value_int" | "value_ints":
                return torch.tensor(value, dtype=torch.int64)
            case "value_float" | "value_floats":
                return torch.tensor(value, dtype=torch.float32)
    raise NotCaptured(f"the constant {node.output[0]!r} holds no numbers")


def _given(
    graph: Any, weights: Mapping[str, torch.Tensor], inputs: Mapping[str, torch.Tensor] | None, notes: list[str]
) -> dict[str, torch.Tensor]:
    """What each input is fed; sizes that have a name are those that are fed, or drawn."""
    wanted = [one for one in graph.input if one.name not in weights]
    if inputs is not None:
        check_names(inputs, [one.name for one in wanted])
    sizes: dict[str, int] = {}
    found: dict[str, torch.Tensor] = {}
    for number, one in enumerate(wanted):
        kind = one.type.tensor_type
        if one.type.WhichOneof("value") != "tensor_type":
            raise NotCaptured(f"the input {one.name!r} is no tensor")
        try:
            dtype = getattr(torch, schemas.element_name(kind.elem_type))
        except ValueError as error:
            raise NotCaptured(f"the input {one.name!r}: {error}") from None
        told = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        if inputs is not None:
            tensor = inputs[one.name]
            fits = not kind.HasField("shape") or (
                len(told) == tensor.dim()
                and all(size in (None, own) for size, own in zip(told, tensor.shape, strict=True))
            )
            if tensor.dtype != dtype or not fits:
                raise NotCaptured(
                    f"the input {one.name!r} takes {str(dtype).removeprefix('torch.')}{told}, found {_type(tensor)}"
                )
            found[one.name] = tensor
            continue
        if not kind.HasField("shape"):
            raise NotCaptured(f"the input {one.name!r} has no shape: give it with --inputs inputs.npz")
        shape = []
        for axis, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value"):
                shape.append(dim.dim_value)
                continue
            name = dim.dim_param or f"{one.name}_{axis}"
            if name not in sizes:
                sizes[name] = SIZES[len(sizes) % len(SIZES)]
                notes.append(f"the size {name} is {sizes[name]} here; --inputs gives others")
            shape.append(sizes[name])
        _check_size(one.name, shape)
        found[one.name] = fill(dtype, tuple(shape), *_values(dtype, number))
    if wanted and inputs is None:
        notes.append("a model holds no inputs; drawn ones are taken, --inputs inputs.npz gives others")
    return found


def check_names(given: Collection[str], names: Collection[str]) -> None:
    """Raise NotCaptured unless these are the inputs of a model."""
    if set(given) != set(names):
        raise NotCaptured(f"the model has the inputs {', '.join(names) or 'none'}, found {', '.join(given) or 'none'}")


def _values(dtype: torch.dtype, seed: int) -> tuple[str, int, float, float]:
    return ("uniform", seed, -1.0, 1.0) if dtype.is_floating_point else ("integers", seed, 0, 1)


def read_inputs(path: Path) -> dict[str, torch.Tensor]:
    """The arrays of an ``.npz`` file by name; nothing in it is unpickled.

    Raises:
        NotCaptured: it is none, or holds what is no array of numbers.
    """
    import zipfile

    import numpy as np

    from shakeout.corpus.onnx_standalone import tensor_of

    if not zipfile.is_zipfile(path):
        raise NotCaptured(f"{path.name} is no .npz file of arrays of numbers: numpy.savez writes one")
    found: dict[str, torch.Tensor] = {}
    name = ""
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                found[name] = tensor_of(file[name])
    except Exception as error:  # of other packages, on a file of anybody's: its archive, its compression, its headers
        where = f", {name!r:.80} in it" if name else ""
        raise NotCaptured(f"{path.name} is no .npz file of arrays of numbers{where}: {_said(error)}") from None
    return found


# --- nodes ------------------------------------------------------------------------------------------------------------


def _add(reading: _Reading, node: Any, version: int, place: int) -> None:
    """Run a node on what is there, and add it as a call."""
    import onnx.defs

    here = _printable(f"node {node.name or place} ({node.op_type})"[:80])
    if node.domain not in ("", "ai.onnx"):
        raise NotCaptured(f"{here}: operators of the domain {node.domain!r} are not read; those of ONNX are")
    absent = node.op_type in schemas.LEFT_OUT or node.op_type in sequences.NAMES
    if absent or not onnx.defs.has(node.op_type, version, ""):
        raise NotCaptured(f"{here}: no program may have this operator: it has bodies, sequences, no numbers, or chance")
    operator = schemas.named(node.op_type, onnx.defs.get_schema(node.op_type, version, "").since_version)
    args: list[Arg] = []
    for name in node.input:
        if name and name not in reading.numbers:
            raise NotCaptured(f"{here} uses {name!r}, which no node before it gives")
        args.append(Ref(reading.numbers[name]) if name else None)
    try:
        kwargs = tuple(sorted((one.name, schemas.attribute(one)) for one in node.attribute))
    except ValueError as error:
        raise NotCaptured(f"{here}: {_said(error)}") from None
    asked = tuple(TensorType("float32", ()) if name else None for name in node.output)
    call = Call(operator, tuple(args), kwargs, asked, "tensor" if len(asked) == 1 else "sequence")
    try:
        results = words.call(call, reading.tensors)
    except Exception as error:  # of another package, on a model of anybody's
        raise NotCaptured(f"{here}: ONNX's reference does not run it: {_said(error)}") from None
    types = tuple(None if one is None else _type(one) for one in results)
    for name, result in zip(node.output, results, strict=True):
        if result is not None and result.numel() > MAX_ELEMENTS:
            raise NotCaptured(f"{here} makes {result.numel()} elements, more than {MAX_ELEMENTS}")
        if name:
            reading.numbers[name] = len(reading.tensors)
        reading.tensors.append(result)
    reading.calls.append(Call(operator, tuple(args), kwargs, types, call.form))

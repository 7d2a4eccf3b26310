"""Programs of ``torch.export.save`` (``.pt2``), read as data: JSON and the bytes of tensors, and nothing is unpickled.

``torch.export.load`` evaluates expressions that the file holds and may unpickle weights, so it is not asked. The graph
is run node by node instead, and calls only those operators of PyTorch's library that a case may call.
"""

from __future__ import annotations

import io
import json
import operator
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from shakeout.corpus.intake.refusal import NotCaptured
from shakeout.corpus.vocabularies import aten

__all__ = ["Exported", "exported"]

#: Bytes of one member: the graph, or a tensor.
MOST = 4 << 30

#: Assertions on what an exporter has found out; on the inputs of the file they hold.
_ASSERTIONS = ("torch.ops.aten._assert", "torch.ops.aten.sym_constrain", "torch.ops.aten._functional_assert")

#: What is computed with sizes, as plain numbers.
_ARITHMETIC = frozenset("add sub mul floordiv mod neg pow eq ne lt le gt ge truediv".split())


class Exported(torch.nn.Module):
    """An exported program as a module, which runs its graph.

    Attributes:
        notes: what a person should know of how it was read.
        example: the inputs with which it was exported, or random ones of their shapes.
    """

    def __init__(self, graph: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.example: tuple[list[Any], dict[str, Any]] = ([], {})
        self._graph = graph["graph"]
        self._inputs = [_only(one) for one in graph["signature"]["input_specs"]]
        self._outputs = [_only(one) for one in graph["signature"]["output_specs"]]
        self._places: dict[str, str] = {}
        for name, tensor in tensors.items():
            place = self._places[name] = f"held_{len(self._places)}"
            if isinstance(tensor, torch.nn.Parameter):
                self.register_parameter(place, tensor)
            else:
                self.register_buffer(place, tensor)
        self.eval()

    def forward(self, *given: Any, **named: Any) -> tuple[Any, ...]:
        """Run the graph."""
        values: dict[str, Any] = {}
        users = iter([*given, *named.values()])
        for kind, spec in self._inputs:
            if kind == "user_input":
                _bind(values, spec["arg"], next(users))
            elif kind in _HELD:
                values[spec["arg"]["name"]] = self._held(spec[_HELD[kind]])
            elif kind == "constant_input":
                values[spec["name"]] = _value(spec["value"], values)
            else:
                raise NotCaptured(f"the program is given a {kind}, which a case cannot hold")
        outputs = _run(self._graph, values)
        returned = []
        for (kind, spec), output in zip(self._outputs, outputs, strict=True):
            if kind == "buffer_mutation":
                self._held(spec["buffer_name"]).copy_(output)
            elif kind == "user_input_mutation":
                values[spec["user_input_name"]].copy_(output)
            elif kind in ("user_output", "loss_output"):
                returned.append(output)
            else:
                raise NotCaptured(f"the program gives a {kind}, which a case cannot hold")
        return tuple(returned)

    def _held(self, name: str) -> torch.Tensor:
        if name not in self._places:
            raise NotCaptured(f"the file lacks the tensor {name!r}")
        found: torch.Tensor = getattr(self, self._places[name])
        return found

    def user_inputs(self) -> Iterator[Mapping[str, Any]]:
        """What is told of each input of the user's: its shape, or its value."""
        for kind, spec in self._inputs:
            if kind == "user_input":
                name = spec["arg"].get("as_tensor", {}).get("name")
                yield self._graph["tensor_values"][name] if name else spec["arg"]


_HELD = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


def exported(path: Path) -> Exported:
    """Read a file.

    Raises:
        NotCaptured: it is none of this kind, or holds what no case can hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _exported(_Members(archive))
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        raise NotCaptured(f"{path.name} is no file of torch.export.save: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, RecursionError) as error:
        if isinstance(error, NotCaptured):
            raise
        raise NotCaptured(f"{path.name} is damaged, or of another release: {type(error).__name__}: {error}") from None


class _Members:
    """The files in an archive, below its one folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._names = {name.partition("/")[2]: name for name in archive.namelist()}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def read(self, name: str) -> bytes:
        if name not in self._names:
            raise NotCaptured(f"the file has no {name}; expected what torch.export.save writes in torch 2.9 or later")
        info = self._archive.getinfo(self._names[name])
        if info.file_size > MOST:
            raise NotCaptured(f"{name} has {info.file_size >> 20} MiB; at most {MOST >> 20} are read")
        return self._archive.read(info)


def _exported(members: _Members) -> Exported:
    model = json.loads(members.read("models/model.json"))
    tensors = dict(_tensors(members, "data/weights", "model_weights_config.json"))
    tensors |= dict(_tensors(members, "data/constants", "model_constants_config.json"))
    found = Exported(model["graph_module"], tensors)
    found.example = _example(members, found)
    return found


def _tensors(members: _Members, folder: str, config: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors by name; those in one file share their memory."""
    if f"{folder}/{config}" not in members:
        return
    memory: dict[str, bytearray] = {}
    for name, entry in json.loads(members.read(f"{folder}/{config}"))["config"].items():
        if entry["use_pickle"]:
            raise NotCaptured(f"the tensor {name!r} is pickled in the file, and nothing is unpickled")
        file = entry["path_name"]
        if file not in memory:
            memory[file] = bytearray(members.read(f"{folder}/{file}"))
        meta = entry["tensor_meta"]
        dtype, sizes, strides = _dtype(meta["dtype"]), _sizes(meta["sizes"]), _sizes(meta["strides"])
        flat = torch.frombuffer(memory[file], dtype=dtype) if memory[file] else torch.empty(0, dtype=dtype)
        tensor = flat.as_strided(sizes, strides, _size(meta["storage_offset"]))
        wants = meta["requires_grad"] and (dtype.is_floating_point or dtype.is_complex)
        yield name, torch.nn.Parameter(tensor, requires_grad=wants) if entry["is_param"] else tensor


def _example(members: _Members, found: Exported) -> tuple[list[Any], dict[str, Any]]:
    """The inputs that are in the file; random ones of their shapes where there are none."""
    name = "data/sample_inputs/model.pt"
    if name in members:
        try:
            args, kwargs = torch.load(io.BytesIO(members.read(name)), weights_only=True)
            return list(args), dict(kwargs)
        except Exception as error:
            said = str(error).splitlines()[0][:120]
            found.notes.append(f"its inputs cannot be read as data ({said}); random ones are taken")
    else:
        found.notes.append("no inputs are in it; random ones are taken")
    generator = torch.Generator().manual_seed(0)
    made: list[Any] = []
    for spec in found.user_inputs():
        if "sizes" not in spec:
            made.append(_value(spec, {}))
            continue
        dtype, shape = _dtype(spec["dtype"]), _sizes(spec["sizes"])
        if dtype.is_floating_point or dtype.is_complex:
            made.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            made.append(torch.randint(0, 2, shape, generator=generator).to(dtype))
    return made, {}


# --- running a graph --------------------------------------------------------------------------------------------------


def _run(graph: Mapping[str, Any], values: dict[str, Any]) -> list[Any]:
    for node in graph["nodes"]:
        try:
            _node(node, values)
        except NotCaptured as error:
            raise NotCaptured(error.reason + _where(node), lower=error.lower) from None
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            said = (str(error).splitlines() or [""])[0][:200]
            raise NotCaptured(f"{node['target']} raises {type(error).__name__}: {said}{_where(node)}") from None
    return [_value(output, values) for output in graph["outputs"]]


def _where(node: Mapping[str, Any]) -> str:
    """Where the source that was exported called an operator, as the file tells."""
    lines = str(node.get("metadata", {}).get("stack_trace", "")).strip().splitlines()
    return f" (exported from {' '.join(line.strip() for line in lines[-2:])})" if len(lines) > 1 else ""


def _node(node: Mapping[str, Any], values: dict[str, Any]) -> None:
    target = str(node["target"])
    if target.startswith(_ASSERTIONS):
        return
    if target.startswith("torch.ops.higher_order."):
        results = _block(target.rpartition(".")[2], [one["arg"] for one in node["inputs"]], values)
    else:
        args = [_value(one["arg"], values) for one in node["inputs"] if one.get("kind") != 2]
        kwargs = {one["name"]: _value(one["arg"], values) for one in node["inputs"] if one.get("kind") == 2}
        results = _function(target)(*args, **kwargs)
    outputs = node["outputs"]
    if len(outputs) == 1:
        results = results if "as_tensors" in outputs[0] or not isinstance(results, tuple | list) else results[0]
        _bind(values, outputs[0], results)
    elif outputs:
        for output, result in zip(outputs, results, strict=True):
            _bind(values, output, result)


def _function(target: str) -> Callable[..., Any]:
    """An operator that a case may call, or arithmetic with sizes."""
    if target.startswith("_operator.") and target.removeprefix("_operator.") in _ARITHMETIC:
        found: Callable[..., Any] = getattr(operator, target.removeprefix("_operator."))
        return _plain(found)
    if target == "torch.ops.aten.sym_size.int":
        return lambda tensor, dim: int(tensor.size(dim))
    if target.startswith(aten.PREFIX) and (overload := aten.overload(target)) is not None:
        return overload  # type: ignore[no-any-return]
    raise NotCaptured(f"{target} is not an operator of a case")


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    def computed(*numbers: Any) -> Any:
        if not all(type(number) in (int, float, bool) for number in numbers):
            raise NotCaptured(f"{function.__name__} of something else than sizes is not an operator of a case")
        return function(*numbers)

    return computed


def _block(name: str, args: Sequence[Any], values: dict[str, Any]) -> list[Any]:
    """A part of the graph that stands in a block."""
    place = next((place for place, arg in enumerate(args) if "as_graph" in arg), None)
    if name not in ("wrap_with_set_grad_enabled", "wrap_with_autocast") or place is None:
        raise NotCaptured(f"torch.ops.higher_order.{name} is not an operator of a case")
    head = [_value(arg, values) for arg in args[:place]]
    given = [_value(arg, values) for arg in args[place + 1 :]]
    graph = args[place]["as_graph"]["graph"]
    if name == "wrap_with_set_grad_enabled":
        block: Any = torch.enable_grad() if head[0] else torch.no_grad()
    else:
        device, dtype, enabled, cached = head
        block = torch.autocast(device, dtype=dtype, enabled=enabled, cache_enabled=cached)
    inner: dict[str, Any] = {}
    for spec, value in zip(graph["inputs"], given, strict=True):
        _bind(inner, spec, value)
    with block:
        return _run(graph, inner)


# --- values -----------------------------------------------------------------------------------------------------------


def _bind(values: dict[str, Any], spec: Mapping[str, Any], value: Any) -> None:
    """Remember a value under the name that it has in the graph."""
    kind, content = _only(spec)
    if kind == "as_tensors":
        for one, item in zip(content, value, strict=True):
            values[one["name"]] = item
    elif kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        if "as_name" in content:
            values[content["as_name"]] = value
    elif isinstance(content, dict) and "name" in content:
        values[content["name"]] = value


def _value(spec: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    """An argument of a node."""
    kind, content = _only(spec)
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return values[content["name"]]
        case "as_tensors":
            return [values[one["name"]] for one in content]
        case "as_optional_tensors":
            return [None if "as_none" in one else values[one["as_tensor"]["name"]] for one in content]
        case "as_int" | "as_float" | "as_bool" | "as_string":
            return content
        case "as_ints" | "as_floats" | "as_bools" | "as_strings":
            return list(content)
        case "as_sym_int" | "as_sym_bool" | "as_sym_float":
            return _symbol(content, values)
        case "as_sym_ints" | "as_sym_bools" | "as_sym_floats":
            return [_symbol(one, values) for one in content]
        case "as_complex":
            return complex(content["real"], content["imag"])
        case "as_scalar_type":
            return _dtype(content)
        case "as_memory_format" | "as_layout":
            return _named(kind, content)
        case "as_device":
            index = content.get("index")
            return torch.device(content["type"] if index is None else f"{content['type']}:{index}")
    raise NotCaptured(f"an argument of the kind {kind} cannot be held by a case")


def _symbol(content: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    kind, value = _only(content)
    return values[value] if kind == "as_name" else value


def _only(spec: Mapping[str, Any]) -> tuple[str, Any]:
    """The one kind that something in the file has, and what is said of it."""
    ((kind, content),) = [(key, value) for key, value in spec.items() if not key.startswith("_")]
    return kind, content


def _sizes(specs: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    return tuple(_size(spec) for spec in specs)


def _size(spec: Mapping[str, Any]) -> int:
    """A size; of one that is symbolic the size with which the program was exported."""
    kind, content = _only(spec)
    if kind == "as_int":
        return int(content)
    hint = content.get("hint") or {}
    if "as_int" not in hint:
        raise NotCaptured("an input has a symbolic size, and the file tells no example of it")
    return int(hint["as_int"])


def _dtype(number: int) -> torch.dtype:
    from torch._export.serde import serialize

    found: torch.dtype = serialize._SERIALIZE_TO_TORCH_DTYPE[number]
    return found


def _named(kind: str, number: int) -> Any:
    from torch._export.serde import serialize

    tables = {
        "as_memory_format": serialize._SERIALIZE_TO_TORCH_MEMORY_FORMAT,
        "as_layout": serialize._SERIALIZE_TO_TORCH_LAYOUT,
    }
    return tables[kind][number]

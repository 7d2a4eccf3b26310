"""The canonical text of a case: how it is written, and so what it is called.

Canonical means: keys sorted, no white space, ASCII; equal cases have equal text, so the text is the identity. The
published schema is ``corpus/data/case.schema.json``; ``codec.py`` reads it.

A case is written in the least format that can say it, because its id is the hash of its text: format 1 unless it has
regions, blocks around its program, blobs, values drawn by magnitude, or another cotangent, which only format 2 has. So
what was stored in format 1 keeps its id, and there is one text of a case. What is at its default and came with format 2
is left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from shakeout.corpus.program import Arg, Call, InvalidProgram, Name, Program, Ref, Slice, TensorType
from shakeout.corpus.setting import Setting
from shakeout.corpus.storage import InputSet, Values, later_values

__all__ = ["FORMAT", "MAX_BYTES", "MAX_DEPTH", "CannotBeStored", "arg_to_json", "text", "to_json"]

#: Latest version of the text; a reader refuses later ones. Earlier ones say nothing that this one does not say alike.
FORMAT = 2

#: Deepest nesting of an argument; real ones have two or three levels.
MAX_DEPTH = 32

#: A case is a few kilobytes; nothing larger than this is written, or read.
MAX_BYTES = 4 << 20


class CannotBeStored(InvalidProgram):
    """A case that could not be read again if it were written."""


def text(program: Program, input_sets: Sequence[InputSet], setting: Setting) -> str:
    """The canonical text of a case.

    Raises:
        CannotBeStored: it is larger, or nested deeper, than what is read again.
    """
    try:
        found = json.dumps(
            to_json(program, input_sets, setting), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except ValueError as error:  # a whole number of thousands of digits
        raise CannotBeStored(f"the case cannot be stored: {error}") from None
    if len(found) > MAX_BYTES:
        held = max((storage.size, n) for inputs in input_sets for n, storage in enumerate(inputs.storages))[0]
        raise CannotBeStored(
            f"the case has {len(found)} bytes as text, and at most {MAX_BYTES} are stored and read again; its largest "
            f"tensor has {held} elements: make it smaller, or draw its values instead of writing them out"
        )
    return found


def to_json(program: Program, input_sets: Sequence[InputSet], setting: Setting) -> dict[str, Any]:
    """A case as plain JSON values."""
    stored: dict[str, Any] = {
        "vocabulary": program.vocabulary,
        "inputs": [{"type": _type(given.type), "role": given.role} for given in program.inputs],
        "calls": [_call(call) for call in program.calls],
        "returns": list(program.returns),
    }
    if program.around:
        stored["around"] = [_call(call) for call in program.around]
    under: dict[str, Any] = {
        "target": setting.target,
        "knobs": {name: _arg(value) for name, value in setting.knobs},
        "mode": setting.mode,
        "device": setting.device,
    }
    if setting.cotangent != "whole":
        under["cotangent"] = setting.cotangent
    return {
        "format": 2 if program.structured() or later_values(input_sets) or "cotangent" in under else 1,
        "program": stored,
        "calls": [
            {
                "storages": [
                    {
                        "dtype": storage.dtype,
                        "size": storage.size,
                        "values": _values(storage.values),
                    }
                    for storage in inputs.storages
                ],
                "views": [
                    {
                        "storage": view.storage,
                        "dtype": view.dtype,
                        "shape": list(view.shape),
                        "strides": list(view.strides),
                        "offset": view.offset,
                        "requires_grad": view.requires_grad,
                    }
                    for view in inputs.views
                ],
            }
            for inputs in input_sets
        ],
        "setting": under,
    }


def arg_to_json(arg: Arg) -> Any:
    """One argument as JSON values."""
    return _arg(arg)


def _call(call: Call) -> dict[str, Any]:
    stored: dict[str, Any] = {
        "operator": call.operator,
        "args": [_arg(arg) for arg in call.args],
        "kwargs": {key: _arg(value) for key, value in call.kwargs},
        "results": [None if result is None else _type(result) for result in call.results],
        "form": call.form,
    }
    if call.regions:
        stored["regions"] = [
            {
                "parameters": [_type(parameter) for parameter in region.parameters],
                "captures": list(region.captures),
                "calls": [_call(inner) for inner in region.calls],
                "returns": list(region.returns),
            }
            for region in call.regions
        ]
    return stored


def _type(type_: TensorType) -> dict[str, Any]:
    return {"dtype": type_.dtype, "shape": list(type_.shape)}


def _values(values: Values) -> dict[str, Any]:
    if values.kind == "literal":
        return {"kind": "literal", "items": [_arg(item) for item in values.items]}
    if values.kind == "blob":
        return {"kind": "blob", "sha256": values.blob}
    return {"kind": values.kind, "seed": values.seed, "low": _arg(values.low), "high": _arg(values.high)}


def _arg(arg: Arg, depth: int = 0) -> Any:
    if type(arg) is int or type(arg) is str or type(arg) is bool:  # by far the commonest
        return arg
    if type(arg) is Ref:
        return {"ref": arg.index}
    match arg:
        case float() if not math.isfinite(arg):
            return {"float": str(arg)}
        case None | bool() | int() | float() | str():
            return arg
        case complex():
            return {"complex": [_arg(arg.real), _arg(arg.imag)]}
        case Ref(index):
            return {"ref": index}
        case Name(name):
            return {"name": name}
        case Slice(start, stop, step):
            return {"slice": [_arg(part, depth + 1) for part in (start, stop, step)]}
        case tuple():
            if depth >= MAX_DEPTH:
                raise CannotBeStored(f"an argument is nested more than {MAX_DEPTH} deep")
            return [_arg(item, depth + 1) for item in arg]
        case _ if arg is ...:
            return {"ellipsis": True}
    raise InvalidProgram(f"an argument of type {type(arg).__name__} cannot be stored: {arg!r}")

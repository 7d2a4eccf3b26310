"""Cases as text: versioned canonical JSON, safe to read from anyone.

What is read is a case and nothing else: every operator and constant in it is one of its vocabulary (``admission.py``),
and what is written (``canonical.py``) can be read again.
"""

from __future__ import annotations

import json
import keyword
import math
import re
import reprlib
import sys
from collections.abc import Sequence
from typing import Any, get_args

from shakeout.corpus import blobs, canonical
from shakeout.corpus.canonical import FORMAT, MAX_BYTES, MAX_DEPTH, CannotBeStored, arg_to_json
from shakeout.corpus.case import COTANGENTS, Case, InputSet, Scalar, Setting, Storage, Values, View
from shakeout.corpus.program import (
    NESTING,
    NUMBERS,
    Call,
    Input,
    InvalidProgram,
    Name,
    Program,
    Ref,
    Region,
    Slice,
    TensorType,
)
from shakeout.corpus.storage import ValueKind, later_values
from shakeout.corpus.user_objects import NotDeclared, check
from shakeout.corpus.vocabularies.admission import admit, is_dtype

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "CannotBeStored",
    "MalformedCase",
    "arg_from_json",
    "arg_to_json",
    "decode",
    "encode",
    "from_json",
    "loads",
    "stored",
    "to_json",
]

#: Most elements of one storage: 256 Mi, far above what a campaign draws.
MAX_ELEMENTS = 1 << 28

# An operator is a dotted path, or MODULE:ATTRIBUTE for a user's kernel. Whether it may be called is the vocabulary's
# decision; that it is no other Python text is decided here, because the name is printed into source code.
_OPERATOR = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)?", re.ASCII)
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)  # of a constant
_KEYWORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_DTYPE = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_BLOB = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KNOB = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
_TARGET = re.compile(r"[A-Za-z_][\w.:-]*", re.ASCII)

#: Exponents of a ladder: those of double precision, and a few below its least number.
_EXPONENTS = (-1100, 1023)


class MalformedCase(ValueError):
    """A text that is not a case, or one that this version must not trust or cannot read."""


def encode(case: Case) -> str:
    """The canonical text of a case; raises CannotBeStored."""
    return case.text


def stored(case: Case) -> bool:
    """Whether a case can be stored."""
    try:
        return bool(case.text)
    except CannotBeStored:
        return False


def decode(text: str | bytes, places: Sequence[str] = ()) -> Case:
    """Read a case; ``places`` are directories that may hold its blobs, which are read when they are needed.

    Raises:
        MalformedCase: with what is wrong and where; never another exception, whatever the text is.
    """
    if len(text) > MAX_BYTES:
        raise MalformedCase(f"the text has {len(text)} bytes; a case has at most {MAX_BYTES}")
    return from_json(loads(text), places)


def loads(text: str | bytes) -> Any:
    """JSON values; raises MalformedCase and never another exception, however deep the text is nested."""
    try:
        return json.loads(text)
    except UnicodeDecodeError:
        raise MalformedCase("not JSON: it is not even text") from None
    except ValueError as error:
        raise MalformedCase(f"not JSON: {error}") from None
    except RecursionError:
        raise MalformedCase("not a case: it is nested too deep") from None


def to_json(case: Case) -> dict[str, Any]:
    """A case as plain JSON values."""
    return canonical.to_json(case.program, case.input_sets, case.setting)


def from_json(data: object, places: Sequence[str] = ()) -> Case:
    """A case from plain JSON values; raises MalformedCase."""
    try:
        version = _get(data, "format", int, "case")
        if version > FORMAT:
            raise MalformedCase(
                f"format {version} is newer than this Shakeout reads (up to {FORMAT}); install a newer Shakeout"
            )
        if version < 1:
            raise MalformedCase(f"format {version} does not exist")
        case = Case(
            program=_read_program(_get(data, "program", dict, "case"), version),
            input_sets=tuple(
                _read_inputs(item, f"calls[{number}]") for number, item in enumerate(_get(data, "calls", list, "case"))
            ),
            setting=_read_setting(_get(data, "setting", dict, "case")),
        )
        if version == 1 and case.setting.cotangent != "whole":
            raise MalformedCase("format 1 has no cotangents; write the format as 2")
        if version == 1 and later_values(case.input_sets):
            raise MalformedCase("format 1 has no blobs and no values by magnitude; write the format as 2")
        return blobs.placed(case, places)
    except InvalidProgram as error:
        raise MalformedCase(str(error)) from None
    except RecursionError:
        raise MalformedCase("not a case: it is nested too deep") from None


def arg_from_json(data: object, where: str = "argument") -> Any:
    """One argument from JSON values; raises MalformedCase."""
    return _read_arg(data, where)


def _get(data: object, key: str, kind: type, where: str) -> Any:
    if not isinstance(data, dict):
        raise MalformedCase(f"{where}: expected an object, found {_show(data)}")
    if key not in data:
        raise MalformedCase(f"{where}: the key {key!r} is missing")
    value = data[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise MalformedCase(f"{where}.{key}: expected {kind.__name__}, found {_show(value)}")
    return value


def _show(value: object) -> str:
    text = reprlib.repr(value)  # which looks at the outermost levels only
    return text if len(text) <= 60 else text[:57] + "..."


def _text(data: object, key: str, pattern: re.Pattern[str], where: str) -> str:
    value: str = _get(data, key, str, where)
    if not pattern.fullmatch(value):
        raise MalformedCase(f"{where}.{key}: {_show(value)} is not a valid name")
    return value


def _dtype(data: object, key: str, where: str) -> str:
    value = _text(data, key, _DTYPE, where)
    if not is_dtype(value):
        raise MalformedCase(f"{where}.{key}: {_show(value)} is not a dtype")
    return value


def _choice(data: object, key: str, allowed: tuple[str, ...], where: str) -> Any:
    value = _get(data, key, str, where)
    if value not in allowed:
        raise MalformedCase(f"{where}.{key}: expected one of {', '.join(allowed)}, found {_show(value)}")
    return value


def _sizes(data: object, key: str, where: str) -> tuple[int, ...]:
    items = _get(data, key, list, where)
    for item in items:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= MAX_ELEMENTS:
            raise MalformedCase(f"{where}.{key}: {_show(item)} is not a size")
    return tuple(items)


def _read_type(data: object, where: str, *, numbers: bool = False) -> TensorType:
    """A type; ``numbers``: of a value that may be a number of Python. Where it may, the program itself decides."""
    dtype = _text(data, "dtype", _DTYPE, where)
    dtype = dtype if numbers and dtype in NUMBERS else _dtype(data, "dtype", where)
    return TensorType(dtype, _sizes(data, "shape", where))


def _numbers(data: object, key: str, where: str) -> tuple[int, ...]:
    items = _get(data, key, list, where)
    for item in items:
        if not isinstance(item, int) or isinstance(item, bool):
            raise MalformedCase(f"{where}.{key}: {_show(item)} is not a value number")
    return tuple(items)


def _read_program(data: dict[str, Any], version: int) -> Program:
    inputs = tuple(
        Input(
            _read_type(_get(item, "type", dict, f"inputs[{number}]"), f"inputs[{number}].type"),
            _choice(item, "role", ("input", "parameter"), f"inputs[{number}]"),
        )
        for number, item in enumerate(_get(data, "inputs", list, "program"))
    )
    program = Program(
        inputs,
        _read_calls(data, "program"),
        _numbers(data, "returns", "program"),
        _text(data, "vocabulary", _DTYPE, "program"),
        _read_calls(data, "program", key="around") if "around" in data else (),
    )
    if version == 1 and program.structured():
        raise MalformedCase("format 1 has neither regions nor blocks around a program; write the format as 2")
    admit(program)
    return program


def _read_calls(data: dict[str, Any], where: str, depth: int = 0, key: str = "calls") -> tuple[Call, ...]:
    """Calls of a program or of a region; every call of a case comes through here."""
    calls = _get(data, key, list, where)
    return tuple(_read_call(item, f"{where}.{key}[{number}]", depth) for number, item in enumerate(calls))


def _read_call(item: object, where: str, depth: int) -> Call:
    keywords = _get(item, "kwargs", dict, where)
    for key in keywords:
        if not _KEYWORD.fullmatch(key) or keyword.iskeyword(key) or key == "__debug__":
            raise MalformedCase(f"{where}.kwargs: {_show(key)} is not a keyword")
    return Call(
        operator=_text(item, "operator", _OPERATOR, where),
        args=tuple(_read_arg(arg, where) for arg in _get(item, "args", list, where)),
        kwargs=tuple(sorted((key, _read_arg(value, where)) for key, value in keywords.items())),
        results=tuple(
            None if result is None else _read_type(result, f"{where}.results", numbers=True)
            for result in _get(item, "results", list, where)
        ),
        form=_choice(item, "form", ("tensor", "sequence", "none"), where),
        regions=_read_regions(item, where, depth) if isinstance(item, dict) and "regions" in item else (),
    )


def _read_regions(data: dict[str, Any], where: str, depth: int) -> tuple[Region, ...]:
    items = _get(data, "regions", list, where)
    if depth == NESTING:
        raise MalformedCase(f"{where}: regions are nested more than {NESTING} deep")
    regions = []
    for number, item in enumerate(items):
        here = f"{where}.regions[{number}]"
        parameters = [
            _read_type(type_, f"{here}.parameters", numbers=True) for type_ in _get(item, "parameters", list, here)
        ]
        captures = _numbers(item, "captures", here)
        calls = _read_calls(item, here, depth + 1)
        regions.append(Region(tuple(parameters), captures, calls, _numbers(item, "returns", here)))
    return tuple(regions)


def _read_inputs(data: object, where: str) -> InputSet:
    storages = []
    for number, item in enumerate(_get(data, "storages", list, where)):
        here = f"{where}.storages[{number}]"
        size = _get(item, "size", int, here)
        if not 0 <= size <= MAX_ELEMENTS:
            raise MalformedCase(f"{here}.size: {size} is not between 0 and {MAX_ELEMENTS}")
        storages.append(
            Storage(
                _dtype(item, "dtype", here),
                size,
                _read_values(_get(item, "values", dict, here), size, here),
            )
        )
    views = []
    for number, item in enumerate(_get(data, "views", list, where)):
        here = f"{where}.views[{number}]"
        offset = _get(item, "offset", int, here)
        view = View(
            storage=_get(item, "storage", int, here),
            dtype=_dtype(item, "dtype", here),
            shape=_sizes(item, "shape", here),
            strides=_sizes(item, "strides", here),
            offset=offset,
            requires_grad=_get(item, "requires_grad", bool, here),
        )
        if not 0 <= offset <= MAX_ELEMENTS:
            raise MalformedCase(f"{here}.offset: {offset} is not an offset")
        last = offset + sum(max(n - 1, 0) * step for n, step in zip(view.shape, view.strides, strict=False))
        held = storages[view.storage] if 0 <= view.storage < len(storages) else None
        # With another dtype, sizes count in that dtype; torch itself checks the window then.
        if held is not None and held.dtype == view.dtype and 0 not in view.shape and last >= held.size:
            raise MalformedCase(f"{here}: the window reaches element {last} of a storage of {held.size}")
        views.append(view)
    return InputSet(tuple(storages), tuple(views))


def _read_values(data: dict[str, Any], size: int, where: str) -> Values:
    kind = _choice(data, "kind", get_args(ValueKind), where)
    if kind == "blob":
        return Values("blob", blob=_text(data, "sha256", _BLOB, where))
    if kind == "literal":
        items = tuple(_read_arg(item, where) for item in _get(data, "items", list, where))
        for item in items:
            if not isinstance(item, bool | int | float | complex):
                raise MalformedCase(f"{where}.values.items: {_show(item)} is not a number")
        if len(items) != size:
            raise MalformedCase(f"{where}.values.items: {len(items)} numbers for a storage of {size}")
        return Values("literal", items=items)
    seed = _get(data, "seed", int, where)
    bounds = [_read_arg(data.get(key), where) for key in ("low", "high")]
    for bound in bounds:
        if not isinstance(bound, int | float) or isinstance(bound, bool) or not abs(bound) <= sys.float_info.max:
            raise MalformedCase(f"{where}.values: the bounds are {_show(bounds)}, expected two finite numbers")
    if not 0 <= seed < 1 << 31:
        raise MalformedCase(f"{where}.values.seed: {seed} is not between 0 and 2**31 - 1")
    least, most = _EXPONENTS
    if kind == "ladder" and not (bounds == list(map(int, bounds)) and least <= bounds[0] <= bounds[1] <= most):
        raise MalformedCase(
            f"{where}.values: the exponents are {_show(bounds)}, expected two whole numbers between {least} and "
            f"{most}, the least first"
        )
    return Values(kind, seed, bounds[0], bounds[1])


def _read_setting(data: dict[str, Any]) -> Setting:
    knobs: list[tuple[str, Scalar]] = []
    for name, value in _get(data, "knobs", dict, "setting").items():
        scalar = _read_arg(value, "setting.knobs")
        if not isinstance(scalar, bool | int | float | str | None) or not _KNOB.fullmatch(name):
            raise MalformedCase(f"setting.knobs: {_show(name)}: {_show(value)} is not a knob")
        knobs.append((name, scalar))
    target = _text(data, "target", _TARGET, "setting")
    if ":" in target:
        try:
            check(target)
        except NotDeclared as error:
            raise MalformedCase(f"setting.target: {error}") from None
    return Setting(
        target=target,
        knobs=tuple(sorted(knobs)),
        mode=_choice(data, "mode", ("inference", "training"), "setting"),
        device=_choice(data, "device", ("cpu", "cuda"), "setting"),
        cotangent=_choice(data, "cotangent", COTANGENTS, "setting") if "cotangent" in data else "whole",
    )


def _read_arg(data: object, where: str, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise MalformedCase(f"{where}: an argument is nested more than {MAX_DEPTH} deep")
    match data:
        case None | bool() | int() | str():
            return data
        case float():
            # The parser accepts the bare words NaN and Infinity, which are not JSON.
            if not math.isfinite(data):
                raise MalformedCase(f"{where}: write {data} as {{'float': '{data}'}}")
            return data
        case list():
            return tuple(_read_arg(item, where, depth + 1) for item in data)
        case {"float": "nan" | "inf" | "-inf" as text, **rest} if not rest:
            return float(text)
        case {"complex": [real, imaginary], **rest} if not rest:
            parts = _read_arg(real, where, depth + 1), _read_arg(imaginary, where, depth + 1)
            if all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts):
                try:
                    return complex(*parts)
                except OverflowError:  # a whole number beyond what a float holds
                    pass
        case {"ref": int() as index, **rest} if not rest and not isinstance(index, bool):
            return Ref(index)
        case {"name": str() as name, **rest} if not rest and _NAME.fullmatch(name):
            return Name(name)
        case {"slice": [start, stop, step], **rest} if not rest:
            return Slice(*(_read_arg(part, where, depth + 1) for part in (start, stop, step)))
        case {"ellipsis": True, **rest} if not rest:
            return ...
    raise MalformedCase(f"{where}: {_show(data)} is not an argument")

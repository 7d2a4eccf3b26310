"""ONNX's schemas as a vocabulary asks them: which operators there are, what they take, and how many results they give.

An operator is named ``onnx.vVERSION.NAME``, where the version is that of the operator set of the default domain in
which its schema came to be (``onnx.v14.Add``). So a stored call means the same whatever operator sets come later, and
the operator set of a model follows from its operators (``opset``).

Which names there are is known without onnx as well, from a table that ships (``corpus/data/operators/onnx.json``);
``python -m shakeout.corpus.vocabularies.onnx_schemas`` adds the installed onnx to it.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shakeout.corpus.program import Arg, InvalidProgram

__all__ = [
    "ELEMENTS",
    "SETS",
    "SPELLING",
    "TABLE",
    "UnknownOperator",
    "attribute",
    "check_types",
    "element_name",
    "identified",
    "known",
    "listed",
    "named",
    "of_set",
    "opset",
    "outputs",
    "placed",
    "schema",
]

TABLE = Path(__file__).parent.parent / "data" / "operators" / "onnx.json"

#: Operator sets that programs are grown of, each as it stood then: the newest, and the one of 2024, for which the
#: optimisers of runtimes are written that look at the versions of operators before they rewrite them. Of the first,
#: ONNX Runtime 1.32.0 lacks kernels for three operators alone (QuantizeLinear, DequantizeLinear, SwiGLU).
SETS = (28, 21)

#: Operator sets of models, where one of them will do: how a runtime takes an operator apart hangs on it, so what was
#: measured of single nodes has to hold for networks. Stored cases rest on these, which are never changed.
_PREFERRED = (21, 28)

#: Element types by their names in torch: the number in ``onnx.TensorProto.DataType``, and the name in schemas.
ELEMENTS: Mapping[str, tuple[int, str]] = {
    "float32": (1, "float"),
    "uint8": (2, "uint8"),
    "int8": (3, "int8"),
    "uint16": (4, "uint16"),
    "int16": (5, "int16"),
    "int32": (6, "int32"),
    "int64": (7, "int64"),
    "bool": (9, "bool"),
    "float16": (10, "float16"),
    "float64": (11, "double"),
    "uint32": (12, "uint32"),
    "uint64": (13, "uint64"),
    "bfloat16": (16, "bfloat16"),
    "float8_e4m3fn": (17, "float8e4m3fn"),
    "float8_e5m2": (19, "float8e5m2"),
}
_NAMES = {number: name for name, (number, _) in ELEMENTS.items()}

#: Keywords of ``onnx.helper.make_node`` that are no attributes; ``domain`` would make another operator of a node.
SPELLING = frozenset(("op_type", "inputs", "outputs", "name", "doc_string", "domain", "overload"))

_QUALIFIED = re.compile(r"onnx\.v(\d{1,4})\.([A-Za-z]\w*)")

#: Operators with bodies, with optional values or strings, and those that draw random numbers, but for what leaves no
#: choice (``onnx_defined.py``): values are tensors of numbers here, and a case must not depend on what is drawn. A
#: constant is an input or an initialiser, and a sequence is the tensors in it (``onnx_sequences.py``).
LEFT_OUT = frozenset(
    """
    If Loop Scan SequenceMap SequenceConstruct SequenceEmpty Optional StringConcat StringNormalizer StringSplit
    RegexFullMatch TfIdfVectorizer ImageDecoder Constant Bernoulli Multinomial RandomNormal RandomNormalLike
    RandomUniform
    """.split()
)


class UnknownOperator(ValueError):
    """A name that is not an operator of this vocabulary, or not in this version of onnx."""


def named(name: str, version: int) -> str:
    """The qualified name of an operator of the default domain."""
    return f"onnx.v{version}.{name}"


@functools.lru_cache(4096)
def identified(operator: str) -> tuple[str, int]:
    """The name of an operator within its domain, and the operator set in which its schema came to be.

    Raises:
        UnknownOperator: the text is no such name.
    """
    found = _QUALIFIED.fullmatch(operator)
    if found is None:
        raise UnknownOperator(f"{operator!r:.80} is no operator of ONNX: expected onnx.vVERSION.NAME")
    return found[2], int(found[1])


@functools.cache
def listed() -> Mapping[str, Sequence[int]]:
    """By name the operator sets that changed each operator, as the table that ships has them."""
    data: Mapping[str, Sequence[int]] = json.loads(TABLE.read_text(encoding="utf-8"))["operators"]
    return data


@functools.cache
def of_set(number: int) -> frozenset[str]:
    """The operators of an operator set that a case may call, as the table that ships has them."""
    found = set()
    for name, versions in listed().items():
        if name not in LEFT_OUT and (least := max((one for one in versions if one <= number), default=0)):
            found.add(named(name, least))
    return frozenset(found)


@functools.lru_cache(4096)
def known(operator: str) -> bool:
    """Whether the table has an operator; asked without onnx."""
    found = _QUALIFIED.fullmatch(operator)
    return found is not None and found[2] not in LEFT_OUT and int(found[1]) in listed().get(found[2], ())


@functools.lru_cache(4096)
def schema(operator: str) -> Any:
    """The schema of an operator, as ``onnx.defs.OpSchema``.

    Raises:
        UnknownOperator: the installed onnx has none, or it is not an operator that a case may call.
    """
    import onnx.defs

    name, version = identified(operator)
    if name in LEFT_OUT:
        raise UnknownOperator(f"{operator} is not an operator that a case may call")
    try:
        found = onnx.defs.get_schema(name, version, "")
    except onnx.defs.SchemaError:
        found = None
    if found is None or found.since_version != version or found.deprecated:
        raise UnknownOperator(f"{operator} is not an operator of onnx {onnx.__version__}")
    return found


def opset(operators: Iterable[str]) -> int:
    """The operator set of a model of these operators, in which all of them are what their names say.

    It is one of those that are preferred, or else the least.

    Raises:
        InvalidProgram: there is none, since one of them was changed before another one came to be.
    """
    versions = dict(identified(operator) for operator in operators)
    least = max(versions.values(), default=_PREFERRED[0])
    # In operator sets from this one on some operator would be another one.
    first = min((one for name, version in versions.items() if (one := _changed(name, version))), default=1 << 30)
    if first <= least:
        name, version = next((name, version) for name, version in versions.items() if _changed(name, version) == first)
        raise InvalidProgram(
            f"{named(name, version)} was changed by operator set {first}, and the program needs set {least}"
        )
    return next((one for one in _PREFERRED if least <= one < first), least)


@functools.lru_cache(4096)
def _changed(name: str, version: int) -> int:
    """The operator set that changed a schema; 0 if none has."""
    return next((one for one in sorted(listed().get(name, ())) if one > version), 0)


def element_name(number: int) -> str:
    """The name in torch of an element type of ONNX.

    Raises:
        ValueError: tensors have no such elements here.
    """
    if number not in _NAMES:
        raise ValueError(f"there are no tensors of ONNX's element type {number} here")
    return _NAMES[number]


def attribute(given: Any) -> Arg:
    """The value of an attribute of a node, an ``onnx.AttributeProto``.

    Raises:
        ValueError: a call has no such values, or it is one that only a function's call gives.
    """
    import onnx

    if given.ref_attr_name:
        raise ValueError(f"the attribute {given.name!r:.80} is one of a function around it, and there is none")
    value, kinds = onnx.helper.get_attribute_value(given), onnx.AttributeProto
    match given.type:
        case kinds.INT | kinds.FLOAT:
            return value  # type: ignore[no-any-return]
        case kinds.STRING:
            return value.decode()  # type: ignore[no-any-return]
        case kinds.INTS | kinds.FLOATS:
            return tuple(value)
        case kinds.STRINGS:
            return tuple(one.decode() for one in value)
    raise ValueError(f"the attribute {given.name!r:.80} is a tensor or a graph, and a call has none")


#: Results that an operator has only under an attribute, or that its users do not ask for.
_FIRST_ONLY = frozenset(("BatchNormalization", "Attention", "Dropout", "MaxPool"))


def outputs(operator: str, count: int, kwargs: Sequence[tuple[str, Any]]) -> int:
    """How many results a call is asked for that does not say it.

    Args:
        operator: qualified name.
        count: sizes in the second operand, where that says how a tensor is split.
        kwargs: attributes.
    """
    name, _ = identified(operator)
    if name in _FIRST_ONLY:
        return 1
    formal = schema(operator).outputs
    if name == "Split":
        return int(dict(kwargs).get("num_outputs", count or 1))
    return len(formal)


@functools.lru_cache(1 << 14)
def placed(operator: str, count: int) -> tuple[int, ...]:
    """For each of so many arguments the number of the schema's formal one.

    Raises:
        TypeError: there are too many or too few.
    """
    import onnx.defs

    found = schema(operator)
    if not found.min_input <= count <= found.max_input:
        raise TypeError(f"{operator} takes {found.min_input} to {found.max_input} inputs, not {count}")
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic
    last = len(found.inputs) - 1
    if last >= 0 and found.inputs[last].option != variadic and count > last + 1:
        raise TypeError(f"{operator} takes {last + 1} inputs, not {count}")
    return tuple(min(place, last) for place in range(count))


@functools.lru_cache(1 << 14)
def check_types(operator: str, dtypes: tuple[str | None, ...]) -> None:
    """Whether an operator takes operands of these element types; None stands for an optional input that is absent.

    Raises:
        TypeError: it does not.
    """
    import onnx.defs

    found = schema(operator)
    option = onnx.defs.OpSchema.FormalParameterOption
    bound: dict[str, str] = {}
    for place, (number, dtype) in enumerate(zip(placed(operator, len(dtypes)), dtypes, strict=True)):
        formal = found.inputs[number]
        if dtype is None:
            if formal.option != option.Optional:
                raise TypeError(f"{operator} needs its input {formal.name}")
            continue
        kind = f"tensor({ELEMENTS[dtype][1]})"
        if kind not in formal.types:
            raise TypeError(f"{operator} takes no {dtype} as {formal.name}")
        if formal.option == option.Variadic and not formal.is_homogeneous:
            continue
        if bound.setdefault(formal.type_str, dtype) != dtype:
            raise TypeError(f"{operator} takes operands of one element type, not {dtype} as operand {place}")


def _of_installed() -> dict[str, list[int]]:
    import onnx.defs

    found: dict[str, set[int]] = {}
    for one in onnx.defs.get_all_schemas_with_history():
        if one.domain == "":
            found.setdefault(one.name, set()).add(one.since_version)
    return {name: sorted(versions) for name, versions in sorted(found.items())}


def _main() -> None:
    import onnx

    old: Mapping[str, Any] = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    operators: dict[str, Collection[int]] = dict(old.get("operators", {}))
    for name, versions in _of_installed().items():
        operators[name] = sorted({*operators.get(name, ()), *versions})
    data = {"versions": sorted({*old.get("versions", ()), onnx.__version__}), "operators": operators}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(list(operators[name]))}" for name in sorted(operators))
    TABLE.write_text(f'{{\n "versions": {json.dumps(data["versions"])},\n "operators": {{\n{rows}\n }}\n}}\n')


if __name__ == "__main__":
    _main()

"""Collects records from the node cases that ship with onnx, as ``bootstrap.py`` does from PyTorch's samples.

A process of its own like that of torch's records, because an operator that is tried with other sizes may crash. It says
on standard output which operator comes next, and is started again without that operator if it dies.
"""

from __future__ import annotations

import io
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from shakeout.corpus.onnx_standalone import tensor_of
from shakeout.corpus.program import Arg, Ref
from shakeout.corpus.vocabularies import onnx_schemas as schemas
from shakeout.corpus.vocabularies import onnx_sequences as sequences
from shakeout.corpus.vocabularies.onnx_defined import check_effort
from shakeout.corpus.vocabularies.onnx_schemas import ELEMENTS
from shakeout.generators.vocabularies.collecting import collected, pack
from shakeout.generators.vocabularies.drafts import (
    LITERAL,
    PER_STRUCTURE,
    Seen,
    probed,
    shapes_of,
    structure,
    thinned,
)
from shakeout.generators.vocabularies.probe import Draft, DraftSlot, retype
from shakeout.generators.vocabularies.recorder import MAX_ELEMENTS
from shakeout.generators.vocabularies.records import Record

__all__ = ["calls", "collect", "main", "own_calls"]

#: Dtypes that a record is tried at; those of ONNX that nothing takes but casts and quantisation are left out.
_DTYPES = tuple(name for name in ELEMENTS if not name.startswith(("bfloat", "float8")))


#: An operator, its arguments, its attributes as sorted pairs, and the tensors that they refer to.
Example = tuple[str, tuple[Arg, ...], tuple[tuple[str, Arg], ...], tuple[torch.Tensor, ...]]


def calls() -> Iterator[Example]:
    """The call of each node case of the default domain that a program may have: operator, arguments, tensors.

    The cases are written for the newest operator set; ``collect`` tries them in older ones as well.
    """
    import onnx.defs
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        if case.model is None or not case.data_sets:
            continue
        graph = case.model.graph
        version = next((one.version for one in case.model.opset_import if one.domain == ""), 0)
        if len(graph.node) != 1 or graph.node[0].domain:
            continue
        node = graph.node[0]
        if node.op_type in schemas.LEFT_OUT | sequences.NAMES or not onnx.defs.has(node.op_type, version, ""):
            continue
        operator = schemas.named(node.op_type, onnx.defs.get_schema(node.op_type, version, "").since_version)
        try:
            kwargs = tuple(sorted((one.name, schemas.attribute(one)) for one in node.attribute))
            feeds = dict(zip((one.name for one in graph.input), case.data_sets[0][0], strict=True))
            tensors = [tensor_of(_array(feeds[name])) for name in node.input if name]
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # strings, sequences, or a graph among the attributes
        numbers = iter(range(len(tensors)))
        args: tuple[Arg, ...] = tuple(Ref(next(numbers)) if name else None for name in node.input)
        if all(tensor.numel() <= MAX_ELEMENTS for tensor in tensors):
            yield operator, args, kwargs, tuple(tensors)


def own_calls() -> Iterator[Example]:
    """Calls of operators for which the node cases have none that a program may have: sequences, and large tensors."""
    newest = {schemas.identified(one)[0]: one for one in schemas.of_set(schemas.SETS[0])}
    short, long = torch.linspace(-1, 1, 6).reshape(2, 3), torch.linspace(-2, 2, 12).reshape(4, 3)

    def at(*numbers: int) -> torch.Tensor:
        return torch.tensor(numbers if len(numbers) > 1 else numbers[0])

    pair: tuple[Arg, ...] = (Ref(0), Ref(1))
    three: tuple[Arg, ...] = (*pair, Ref(2))
    examples: tuple[tuple[str, tuple[Arg, ...], Mapping[str, Arg], tuple[torch.Tensor, ...]], ...] = (
        ("ConcatFromSequence", (pair,), {"axis": 0}, (short, long)),
        ("ConcatFromSequence", (three,), {"axis": -1}, (short, short, short)),
        ("ConcatFromSequence", (pair,), {"axis": 1, "new_axis": 1}, (short, short)),
        ("SequenceAt", (pair, Ref(2)), {}, (short, long, at(1))),
        ("SequenceAt", (three, Ref(3)), {}, (short, long[0], short, at(-2))),
        ("SequenceErase", (pair,), {}, (short, long)),
        ("SequenceErase", (three, Ref(3)), {}, (short, long, short, at(0))),
        ("SequenceInsert", (pair, Ref(2)), {}, (short, long, short)),
        ("SequenceInsert", (pair, Ref(2), Ref(3)), {}, (short, long, short, at(-1))),
        ("SequenceLength", (three,), {}, (short, long, short)),
        ("SplitToSequence", (Ref(0),), {}, (short,)),
        ("SplitToSequence", (Ref(0),), {"axis": 1, "keepdims": 0}, (long,)),
        ("SplitToSequence", pair, {}, (long, at(3))),
        ("SplitToSequence", pair, {"axis": 1}, (long, at(1, 2))),
        ("ConstantOfShape", (Ref(0),), {}, (at(2, 3),)),
        ("Dropout", pair, {}, (short, torch.tensor(0.3))),
        ("Mish", (Ref(0),), {}, (short,)),
        ("OptionalGetElement", (Ref(0),), {}, (short,)),
        ("OptionalHasElement", (Ref(0),), {}, (short,)),
        ("RandomUniformLike", (Ref(0),), {"high": 2.5, "low": 2.5}, (short,)),
        ("RandomUniformLike", (Ref(0),), {"dtype": 11, "high": -0.1, "low": -0.1}, (short,)),
        ("STFT", (Ref(0), Ref(1), None, Ref(2)), {"onesided": 0}, (long.reshape(1, 12, 1), at(2), at(4))),
        ("STFT", three, {"onesided": 0}, (long.reshape(1, 12, 1), at(4), short[0])),
        *(
            (
                "MelWeightMatrix",
                (*three, Ref(3), Ref(4)),
                {},
                (at(bins), at(length), at(8000), torch.tensor(0.0), torch.tensor(4000.0)),
            )
            for bins in (3, 4, 5, 6)  # as often as it takes to see what its bounds may be
            for length in (8, 16)
        ),
    )
    for name, args, kwargs, tensors in examples:
        yield newest[name], args, tuple(sorted(kwargs.items())), tensors


def _array(given: Any) -> Any:
    """What a case is fed: an array, or a tensor of ONNX where NumPy lacks the elements."""
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(given) if isinstance(given, TensorProto) else given


def _draft(
    operator: str, args: tuple[Arg, ...], kwargs: tuple[tuple[str, Arg], ...], tensors: Sequence[torch.Tensor]
) -> Draft:
    """A call as a draft: the operands of the schema's first type that varies have the draft's dtype."""
    formal: list[str] = []
    for number, arg in zip(schemas.placed(operator, len(args)), args, strict=True):
        kind = schemas.schema(operator).inputs[number].type_str
        if isinstance(arg, tuple) or (kind == "T" and schemas.identified(operator)[0] in sequences.NAMES):
            kind = "S"  # a tensor that is put into a sequence has its element type
        formal += [kind] * (len(arg) if isinstance(arg, tuple) else arg is not None)
    main = next((one for one in formal if not one.startswith("tensor(")), None)
    dtype = next((tensor.dtype for tensor, one in zip(tensors, formal, strict=True) if one == main), torch.float32)
    slots = []
    for tensor, one in zip(tensors, formal, strict=True):
        literal = None
        if one != main and not tensor.is_floating_point() and tensor.numel() <= LITERAL:
            literal = tuple(int(item) for item in tensor.flatten().tolist())
        name = "T" if one == main else str(tensor.dtype).removeprefix("torch.")
        slots.append(DraftSlot(name, tuple(tensor.shape), literal))
    return Draft(operator, args, kwargs, tuple(slots), dtype)


def _reduced(draft: Draft) -> Draft:
    """The draft with its longest sizes halved until it is as small as what the evaluator is asked while a model grows.

    The node cases pool images of 32 by 32, in loops of Python. Sizes that are equal stay so; operands that are kept
    element by element stay as they are.
    """
    while True:
        try:
            check_effort(schemas.identified(draft.operator)[0], [math.prod(slot.shape) for slot in draft.slots])
        except ValueError:
            longest = max((max(slot.shape, default=0) for slot in draft.slots if slot.literal is None), default=0)
            if longest < 2:
                return draft
            draft = replace(draft, slots=tuple(_halved(slot, longest) for slot in draft.slots))
        else:
            return draft


def _halved(slot: DraftSlot, longest: int) -> DraftSlot:
    if slot.literal is not None:
        return slot
    return replace(slot, shape=tuple((size + 1) // 2 if size == longest else size for size in slot.shape))


def collect(
    progress: Callable[[str, int, int], None], skip: frozenset[str] = frozenset()
) -> Mapping[str, list[Record]]:
    """Every record, by operator: of the newest operator set, and what of it older ones take.

    Args:
        progress: told the name of what comes next, how many are done, and of how many.
        skip: names (as told to ``progress``) that are left out because they crash.
    """
    progress("the node cases of onnx", 0, 1)
    drafts: dict[str, dict[tuple[Any, ...], list[Draft]]] = {}
    seen: dict[tuple[str, int], Seen] = {}
    for operator, args, kwargs, tensors in (*calls(), *own_calls()):
        draft = _reduced(_draft(operator, args, kwargs, tensors))
        for number, tensor in enumerate(tensors):
            seen.setdefault((operator, number), Seen()).add(tensor)
        kept = drafts.setdefault(operator, {}).setdefault((*structure(draft), draft.main), [])
        if len(kept) < PER_STRUCTURE and all(
            (shapes_of(one), one.args, one.kwargs) != (shapes_of(draft), draft.args, draft.kwargs) for one in kept
        ):
            kept.append(draft)
    older = schemas.of_set(schemas.SETS[-1])
    found: dict[str, list[Record]] = {}
    for done, (operator, groups) in enumerate(sorted(drafts.items())):
        if operator in skip:
            continue
        progress(operator, done, len(drafts))
        records = thinned(probed(groups, seen, _DTYPES, ()))
        if records:
            found[operator] = records
        name, _ = schemas.identified(operator)
        former = next((one for one in older if schemas.identified(one)[0] == name), operator)
        if former != operator and former not in skip:
            again = [one for record in records if (one := retype(record, former)) is not None]
            if again:
                found[former] = again
    return found


def _text(rows: Mapping[str, Sequence[Any]]) -> str:
    """A record on each line: such a file is committed, and its changes are read."""
    lines = []
    for name, found in rows.items():
        inner = ",\n".join(json.dumps(row, separators=(",", ":")) for row in found)
        lines.append(f"{json.dumps(name)}:[\n{inner}\n]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(argv: Sequence[str]) -> int:
    """Write the records to ``argv[0]``, as text if it is called ``.json``; further arguments are names to leave out."""
    path, rows = Path(argv[0]), collected(collect, argv[1:])
    rows = dict(sorted(rows.items()))
    if path.suffix == ".json":
        path.write_text(_text(rows), encoding="utf-8")
    else:
        pack(path, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Which element types a target takes of each operator of ONNX: ``python -m shakeout.fuzz.learning.taken NAME``.

Every recorded call runs at every element type, as a program of one node. Runtimes have a kernel for each type, or none,
and a network of ten operators one of which has none shows nothing. What is found goes into ``corpus/data/support``.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Call, Input, Program, Ref
from shakeout.corpus.support import DIRECTORY, with_types
from shakeout.corpus.vocabularies import onnx_schemas as schemas
from shakeout.fuzz.ground.exits import Exit
from shakeout.generators.rules.trace import Trace
from shakeout.generators.vocabularies.records import Record, Spread

__all__ = ["main", "refused_types"]

#: An operator that only the newest operator set has, of what programs are grown of, and what set that is.
_OF_NEWEST, NEWEST = "onnx.v25.Identity", schemas.SETS[0]

Types = tuple[str, tuple[str, ...]]


def refused_types(target: str, records: Sequence[Record]) -> tuple[frozenset[Types], dict[str, list[int]]]:
    """Operators with element types of which a target declined every call; and by operator how many calls it took.

    Args:
        target: its name.
        records: calls that are tried at every dtype that they take.
    """
    from shakeout.fuzz.running.execute import execute
    from shakeout.generators.rules.examine import call_of
    from shakeout.generators.rules.execution import executed

    outcomes: dict[tuple[str, tuple[str, ...], bool], list[bool]] = {}
    counts: dict[str, list[int]] = {}
    for record in records:
        shapes = [record.shape(number) for number in range(len(record.slots))]
        spreads = [slot.spread for slot in record.slots]
        for dtype in record.dtypes or ("float32",):
            done = executed(call_of(record, shapes, dtype), spreads)
            if done is None or not done.accepted:
                continue
            # A runtime that has no kernel takes an operator apart, in one operator set and not in another.
            sets = [newest for newest in (False, True) if not newest or record.operator in schemas.of_set(NEWEST)]
            for newest in sets:
                result = execute(_case(done, spreads, target, newest=newest), explain=False)
                key = (record.operator, tuple(type_.dtype for type_ in done.operands))
                outcomes.setdefault((*key, newest), []).append(result.status != "unsupported")
                row = counts.setdefault(record.operator, [0, 0, 0])
                row[{"compared": 0, "unsupported": 1}.get(result.status, 2)] += 1
    return frozenset((name, types) for (name, types, _), took in outcomes.items() if not any(took)), counts


def _case(call: Trace, spreads: Sequence[Spread], target: str, *, newest: bool) -> Case:
    """A call on the values that it was tried with; whole numbers of which few are there are initialisers.

    With ``newest`` a node that nobody uses makes it a model of the newest operator set.
    """
    import torch

    from shakeout.generators.vocabularies.probe import operand

    storages, views, inputs = [], [], []
    for number, (type_, spread) in enumerate(zip(call.operands, spreads, strict=True)):
        items = operand(type_.dtype, type_.shape, spread, torch.float32).flatten().tolist()
        storages.append(Storage(type_.dtype, len(items), Values("literal", items=tuple(items))))
        views.append(View(number, type_.dtype, type_.shape, contiguous(type_.shape)))
        inputs.append(Input(type_, "parameter" if spread.literal is not None else "input"))
    node = Call(call.operator, call.args, call.kwargs, call.results, call.form)
    first = len(inputs)
    returned = tuple(first + place for place, result in enumerate(call.results) if result is not None)
    calls: tuple[Call, ...] = (node,)
    if newest and inputs:
        types = (*call.operands, *call.results)
        calls += (Call(_OF_NEWEST, (Ref(0),), (), (types[0],)),)
    program = Program(tuple(inputs), calls, returned, "onnx")
    return Case(program, (InputSet(tuple(storages), tuple(views)),), Setting(target))


def _records() -> Iterator[Record]:
    from shakeout.generators.vocabularies.onnx import load_onnx

    vocabulary = load_onnx()
    for operator in vocabulary.operators:
        yield from vocabulary.records(operator)


def main(argv: Sequence[str]) -> int:
    """Write the table of each target that is named."""
    from importlib.metadata import version

    import torch

    from shakeout.targets.registry import target, within
    from shakeout.targets.target import UnknownTarget

    try:
        argv = [within("onnx", name) for name in argv]
    except UnknownTarget as error:
        print(error, file=sys.stderr)
        return Exit.USAGE
    torch.set_num_threads(1)
    for name in argv:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            found, counts = refused_types(name, list(_records()))
        versions = {package: version(package) for package in target(name).facts.packages}
        text = with_types(json.dumps({"versions": versions, "operators": counts}), found)
        (DIRECTORY / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}: {sum(map(sum, counts.values()))} calls, {len(found)} combinations of types are not taken")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

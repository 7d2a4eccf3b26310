"""What a worker does for ``shakeout learn``: it examines or learns one operator, each call told before it runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.learning.errors import Errors
from shakeout.fuzz.protocol import Job
from shakeout.fuzz.slot import Slot

if TYPE_CHECKING:
    from shakeout.corpus.case import Case
    from shakeout.generators.rules.examine import Execute
    from shakeout.generators.rules.trace import Trace
    from shakeout.generators.vocabularies.records import Record, Spread
    from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["case_of", "prepare", "told", "work"]

_loaded: list[Vocabulary] = []


def prepare(say: Callable[[str], None]) -> None:
    """Load the operators; once, in the zygote, before any fork."""
    import shakeout.generators.rules.examine
    import shakeout.generators.rules.execution  # noqa: F401
    from shakeout.generators.vocabularies.torch import load_records

    if not _loaded:
        _loaded.append(load_records(say))


def work(job: Job, slot: Slot) -> dict[str, Any]:
    """Examine or learn an operator, or write down the case of a call that crashed.

    Args:
        job: its recipe has ``operator``, ``without`` (calls that are not to be made, as they stood in the slot), and
            either ``traces`` and, of a user's kernel, ``records`` (rows of them) and ``calls`` (of each variant at
            most) to examine it, or ``examined`` (the file of that) and ``seen`` (rows of calls of campaigns) to learn
            from it; or it has ``call``, as it stood in the slot.
        slot: where each call is told before it runs.
    """
    import warnings

    import torch

    recipe = job.recipe
    if "call" in recipe:
        return {"case": case_of(*_read(recipe["call"])).text}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (_learnt if "examined" in recipe else _examined)(recipe, slot)


def _runner(recipe: Mapping[str, Any], slot: Slot, errors: Errors) -> Execute:
    """Runs calls, each told before; those that are to be left out say nothing, nor do those that meet an error."""
    from shakeout.generators.rules.execution import executed

    without = set(recipe.get("without", ()))

    def run(call: Trace, spreads: Sequence[Spread]) -> Trace | None:
        text = told(call, spreads)
        if text in without:
            return None
        slot.case(text)
        slot.phase("grow")
        done = None
        try:
            done = executed(call, spreads)
        except Exception as error:
            errors(error)
        slot.phase("learn")
        return done

    return run


def _examined(recipe: Mapping[str, Any], slot: Slot) -> dict[str, Any]:
    from shakeout.generators.rules.examine import Budget, examine
    from shakeout.generators.rules.library import spread_to_json
    from shakeout.generators.rules.trace import Trace

    operator: str = recipe["operator"]
    records = _records(operator, recipe.get("records", ()))
    traces = [Trace.from_json(row) for row in recipe.get("traces", ())]
    budget = Budget(variant=recipe.get("calls") or Budget().variant)
    errors = Errors()
    found = examine(operator, traces, records, _runner(recipe, slot, errors), budget)
    return {
        "operator": operator,
        "traces": [trace.to_json() for trace in found.traces],
        "spreads": [
            [variant.to_json(), [spread_to_json(spread) for spread in spreads]]
            for variant, spreads in found.spreads.items()
        ],
        "left_out": found.left_out,
        "errors": errors.counts,
    }


def _records(operator: str, rows: Sequence[Any]) -> Sequence[Record]:
    """Those of an operator of torch, or those that recorded calls of a user's kernel gave."""
    from shakeout.generators.vocabularies.records import Record

    if ":" in operator:
        return [Record.from_json(operator, row) for row in rows]
    return _loaded[0].records(operator) if operator in _loaded[0].operators else ()


def _learnt(recipe: Mapping[str, Any], slot: Slot) -> dict[str, Any]:
    from shakeout.fuzz.learning.store import read
    from shakeout.generators.rules.library import spread_from_json, spread_to_json
    from shakeout.generators.rules.measure import learn_measured
    from shakeout.generators.rules.trace import Trace, Variant, variant_of

    operator: str = recipe["operator"]
    seen = read(Path(recipe["examined"]))
    if seen is None:
        raise ValueError(f"{recipe['examined']} cannot be read; delete it, and {operator} is examined again")
    traces = [Trace.from_json(row) for row in seen["traces"]]
    spreads = {Variant.from_json(variant): tuple(map(spread_from_json, rows)) for variant, rows in seen["spreads"]}
    errors = Errors(seen.get("errors"))
    run = _runner(recipe, slot, errors)
    for row in recipe.get("seen", ()):
        # A campaign may have drawn values that were the reason: what counts is what becomes of it with these.
        with contextlib.suppress(ValueError):
            call = Trace.from_json(row)
            done = run(call, spreads.get(variant_of(call), ()))
            traces += [done] if done is not None else []
    found = learn_measured(traces, spreads, run)
    records: list[Record] = []
    # Varying a record is not told call by call: nothing is varied of a kernel that is known to crash.
    if ":" in operator and not recipe["without"]:
        from shakeout.generators.rules.library import Entry
        from shakeout.generators.vocabularies.kernel import records_of_rule

        for one in found:
            if one.rule is not None and Entry(one.rule, ()).usable:
                records += records_of_rule(one.rule, spreads.get(one.variant, ()), run, lost=errors)
    return {
        "operator": operator,
        "records": [record.to_json() for record in records],
        "errors": errors.counts,
        "variants": [
            {
                "variant": one.variant.to_json(),
                "rule": None if one.rule is None else one.rule.to_json(),
                "notes": list(one.notes),
                "spreads": [spread_to_json(spread) for spread in spreads.get(one.variant, ())],
            }
            for one in found
        ],
    }


def told(call: Trace, spreads: Sequence[Spread]) -> str:
    """A call with what its operands are filled with, as it stands in the slot."""
    from shakeout.generators.rules.library import spread_to_json

    return json.dumps({"call": call.to_json(), "spreads": [spread_to_json(spread) for spread in spreads]})


def _read(text: str) -> tuple[Trace, tuple[Spread, ...]]:
    from shakeout.generators.rules.library import spread_from_json
    from shakeout.generators.rules.trace import Trace

    data = json.loads(text)
    return Trace.from_json(data["call"]), tuple(map(spread_from_json, data["spreads"]))


def case_of(call: Trace, spreads: Sequence[Spread]) -> Case:
    """The case that a call would be; it is not run, and its result is not known."""
    import torch

    from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
    from shakeout.corpus.program import Call, Input, Program
    from shakeout.generators.vocabularies.probe import operand

    kernel = ":" in call.operator
    storages, views = [], []
    for number, (type_, spread) in enumerate(zip(call.operands, spreads, strict=True)):
        items = operand(type_.dtype, type_.shape, spread, torch.float32).flatten().tolist()
        storages.append(Storage(type_.dtype, len(items), Values("literal", items=tuple(items))))
        views.append(View(number, type_.dtype, type_.shape, contiguous(type_.shape)))
    program = Program(
        tuple(Input(type_) for type_ in call.operands),
        (Call(call.operator, call.args, call.kwargs, (None,), "tensor"),),
        (0,) if call.operands else (),
        "kernel" if kernel else "torch",
    )
    return Case(program, (InputSet(tuple(storages), tuple(views)),), Setting(call.operator if kernel else "eager"))

"""What a worker does for ``shakeout learn``: it examines or learns one operator, each call told before it runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shakeout.fuzz.ground.jobs import Examine, Learn, Recall
from shakeout.fuzz.ground.makers import RunsOnly
from shakeout.fuzz.ground.results import Reply
from shakeout.fuzz.ground.slot import Slot
from shakeout.fuzz.learning.errors import Errors

if TYPE_CHECKING:
    from shakeout.corpus.case import Case
    from shakeout.generators.rules.examine import Execute
    from shakeout.generators.rules.trace import Trace
    from shakeout.generators.vocabularies.records import Record, Spread
    from shakeout.generators.vocabularies.torch import Vocabulary

__all__ = ["Learner", "OnnxLearner", "case_of", "told", "work"]

_loaded: list[Vocabulary] = []


class Learner(RunsOnly):
    """The maker of workers that learn: the operators are loaded once, and no case is grown."""

    def prepare(self, say: Callable[[str], None]) -> None:
        """Load the operators."""
        import shakeout.generators.rules.examine
        import shakeout.generators.rules.execution  # noqa: F401
        from shakeout.generators.vocabularies.torch import load_records

        if not _loaded:
            _loaded.append(load_records(say))


class OnnxLearner(RunsOnly):
    """The maker of workers that learn ONNX's operators, whose recorded calls come with the job."""

    def prepare(self, say: Callable[[str], None]) -> None:
        """Load what evaluates them."""

        import shakeout.generators.rules.examine
        import shakeout.generators.rules.execution  # noqa: F401


def work(job: Examine | Learn | Recall, slot: Slot) -> Reply:
    """Examine or learn an operator, or write down the case of a call that crashed.

    Args:
        job: what is wanted.
        slot: where each call is told before it runs.
    """
    import warnings

    import torch

    if isinstance(job, Recall):
        return Reply(case=case_of(*_read(job.call)).text)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Reply(learnt=_learnt(job, slot) if isinstance(job, Learn) else _examined(job, slot))


def _runner(job: Examine | Learn, slot: Slot, errors: Errors) -> Execute:
    """Runs calls, each told before; those that are to be left out say nothing, nor do those that meet an error."""
    from shakeout.generators.rules.execution import executed

    without = set(job.without)

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


def _examined(job: Examine, slot: Slot) -> dict[str, Any]:
    from shakeout.generators.rules.examine import Budget, examine
    from shakeout.generators.rules.library import spread_to_json
    from shakeout.generators.rules.trace import Trace

    records = _records(job.operator, job.records)
    traces = [Trace.from_json(row) for row in job.traces]
    budget = Budget(variant=job.calls or Budget().variant)
    errors = Errors()
    found = examine(job.operator, traces, records, _runner(job, slot, errors), budget)
    return {
        "operator": job.operator,
        "traces": [trace.to_json() for trace in found.traces],
        "spreads": [
            [variant.to_json(), [spread_to_json(spread) for spread in spreads]]
            for variant, spreads in found.spreads.items()
        ],
        "left_out": found.left_out,
        "errors": errors.counts,
    }


def _records(operator: str, rows: Sequence[Any]) -> Sequence[Record]:
    """Those that came with the job, of a user's kernel or an operator of ONNX; else those of an operator of torch."""
    from shakeout.generators.vocabularies.records import Record

    if ":" in operator or rows:
        return [Record.from_json(operator, row) for row in rows]
    return _loaded[0].records(operator) if operator in _loaded[0].operators else ()


def _learnt(job: Learn, slot: Slot) -> dict[str, Any]:
    from shakeout.fuzz.learning.store import read
    from shakeout.generators.rules.library import spread_from_json, spread_to_json
    from shakeout.generators.rules.measure import learn_measured
    from shakeout.generators.rules.trace import Trace, Variant, variant_of

    operator = job.operator
    seen = read(Path(job.examined))
    if seen is None:
        raise ValueError(f"{job.examined} cannot be read; delete it, and {operator} is examined again")
    traces = [Trace.from_json(row) for row in seen["traces"]]
    spreads = {Variant.from_json(variant): tuple(map(spread_from_json, rows)) for variant, rows in seen["spreads"]}
    errors = Errors(seen.get("errors"))
    run = _runner(job, slot, errors)
    for row in job.seen:
        # A campaign may have drawn values that were the reason: what counts is what becomes of it with these.
        with contextlib.suppress(ValueError):
            call = Trace.from_json(row)
            done = run(call, spreads.get(variant_of(call), ()))
            traces += [done] if done is not None else []
    found = learn_measured(traces, spreads, run)
    records: list[Record] = []
    # Varying a record is not told call by call: nothing is varied of a kernel that is known to crash.
    if ":" in operator and not job.without:
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
    from shakeout.corpus.vocabularies import owner, vocabulary
    from shakeout.generators.vocabularies.probe import operand

    kernel, words = ":" in call.operator, owner(call.operator)
    storages, views = [], []
    for number, (type_, spread) in enumerate(zip(call.operands, spreads, strict=True)):
        items = operand(type_.dtype, type_.shape, spread, torch.float32).flatten().tolist()
        storages.append(Storage(type_.dtype, len(items), Values("literal", items=tuple(items))))
        views.append(View(number, type_.dtype, type_.shape, contiguous(type_.shape)))
    program = Program(
        tuple(Input(type_) for type_ in call.operands),
        (Call(call.operator, call.args, call.kwargs, (None,), "tensor"),),
        (0,) if call.operands else (),
        "kernel" if kernel else "onnx" if words is vocabulary("onnx") else "torch",
    )
    setting = Setting(call.operator if kernel else words.REFERENCE)
    return Case(program, (InputSet(tuple(storages), tuple(views)),), setting)

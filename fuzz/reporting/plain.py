"""A bug as a person reads it, in plain text."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

from shakeout.corpus import script
from shakeout.corpus.case import Case, Storage, View, contiguous
from shakeout.corpus.rows import Bug, Decision
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.bug_list import ReportedBug
from shakeout.fuzz.triage.rank import Severity
from shakeout.oracles.vendor import Points, unusual
from shakeout.oracles.verdict import Verdict

__all__ = [
    "GivenTensor",
    "bug_lines",
    "bug_row",
    "finding_lines",
    "floating",
    "fresh",
    "given_tensors",
    "ordinary",
    "program_lines",
    "said",
    "vendor_lines",
]

#: Oracles that compare numbers, for which double precision has something to say.
_NUMERIC = ("value", "gradient", "mutation")

#: Values of one input that are written out beside its type.
_WRITTEN = 8


def bug_row(shown: ReportedBug) -> str:
    """One bug in one line: id, state, evidence, findings, targets, title and why it stands where it stands.

    One that came back after it was fixed has the number of its life behind its title.
    """
    bug = shown.bug
    life = f" ({shown.life})" if shown.life > 1 else ""
    told = f" [{said(shown.decision)}]" if shown.decision is not None else ""
    title = shown.title.removeprefix(f"{bug.target}: ") + life + told
    # Of what was not looked at there is no reason.
    why = "" if shown.rank.severity is Severity.UNKNOWN else f"  -- {shown.rank.reason}"
    targets = "+".join(shown.targets)
    return f"{bug.id:<9} {bug.state:<9} {fresh(bug):>5} {shown.findings:>5}  {targets:<11}  {title}{why}"


def fresh(bug: Bug) -> str:
    """In how many of how many fresh processes it failed; ``-`` if it was not tried."""
    return f"{bug.k}/{bug.n}" if bug.n else "-"


def said(decision: Decision) -> str:
    """What a person said of a bug."""
    status = f"duplicate of {decision.other}" if decision.other else decision.status
    return f"{status}: {decision.note}" if decision.note else status


def bug_lines(shown: ReportedBug) -> Iterator[str]:
    """One bug for a person: why it stands where it stands, program, what was expected and found, what to do next."""
    bug = shown.bug
    yield f"{bug.id}  {shown.title}"
    if shown.result is not None:
        yield f"  rank      {shown.rank.reason}"
        yield from finding_lines(shown.case, shown.result, "smallest" if shown.smallest else "program")
    if shown.culprit:
        yield f"  culprit   {shown.culprit}"
    tried = f"{bug.k} of {bug.n} fresh processes" if bug.n else "not tried in a fresh process yet"
    # A note that says as much, and more, stands in its place.
    tried, more = (bug.note, "") if bug.note.startswith(tried) else (tried, bug.note)
    seen = f"{shown.findings} time{'' if shown.findings == 1 else 's'}"
    yield f"  state     {bug.state}: {tried}; seen {seen}" + (f"; {more}" if more else "")
    if len(shown.sightings) > 1:
        yield "  seen      " + "; ".join(f"{one.symptom} on {one.target}, {one.count}" for one in shown.sightings)
    yield f"  first     case {bug.first_index}, {time.strftime('%Y-%m-%d %H:%M', time.localtime(bug.first_seen))}"
    if bug.known:
        yield f"  known     {bug.known}"
    yield "  newest    NOT checked on a newer release"
    yield (
        f"  next      shakeout replay {bug.id} · python {shown.script}"
        if shown.script is not None
        else (f"  next      shakeout run with the campaign's seed grows case {bug.first_index} again")
    )


def finding_lines(case: Case | None, result: Result, heading: str = "program") -> Iterator[str]:
    """What one finding shows; ``case`` is None if it died before there was one."""
    if case is None:
        # What is known is the last call that was tried, and what the process said.
        for verdict in result.verdicts:
            evidence = verdict.evidence
            yield f"  growing   last call: {evidence.get('call', 'unknown')}"
            yield from ("            " + line for line in str(evidence.get("output", "")).splitlines()[:8])
        return
    yield from program_lines(heading, case)
    yield from _input_lines(case)
    if result.failure is not None:
        yield from _evidence(case.setting.target, result.failure)
    if (where := result.divergence) and where.call < len(case.program.calls):
        names = script.value_names(case.program)
        first = names[case.program.firsts()[where.call] :][: len(case.program.calls[where.call].results)]
        place = ", ".join(first) or f"call {where.call}"
        yield f"  diverges  first behind {place} ({where.operator}): {where.message[:160]}"
    if result.relation:
        yield f"  relation  {result.relation}: case {result.parent} passed, and became this one"
    if result.vendor is not None:
        yield from (f"  vendor    {line}" for line in vendor_lines(result.vendor, exact=not floating(result.failure)))
    knobs = ", ".join(f"{name}={value!r}" for name, value in case.setting.knobs) or "default"
    if case.setting.cotangent != "whole":
        knobs += f", {case.setting.cotangent} cotangent"
    yield f"  setting   {case.setting.mode}, {knobs:<34} ordinary: {ordinary(case)}"


@dataclass(frozen=True, slots=True)
class GivenTensor:
    """One input of a case in words: its variable, type, layout where it is not row-major, and values if few."""

    name: str
    type: str
    layout: str
    values: str


def given_tensors(case: Case) -> Iterator[GivenTensor]:
    """The inputs of the first call."""
    inputs = case.input_sets[0]
    for name, given, view in zip(script.value_names(case.program), case.program.inputs, inputs.views, strict=False):
        plain = view.strides == contiguous(view.shape)
        layout = [] if plain else [f"strides {view.strides}"]
        layout += [f"offset {view.offset}"] if view.offset else []
        values = _values(view, inputs.storages[view.storage]) if plain else ""
        yield GivenTensor(name, str(given.type), ", ".join(layout), values)


def _input_lines(case: Case) -> Iterator[str]:
    for given in given_tensors(case):
        layout = f", {given.layout}" if given.layout else ""
        values = f" = {given.values}" if given.values else ""
        yield f"  {given.name:<9} {given.type}{layout}{values}"
    if len(case.input_sets) > 1:
        yield f"  calls     {len(case.input_sets)}, each with inputs of its own; these are the first one's"


def _values(view: View, storage: Storage) -> str:
    """The values of a row-major input, one after the other, as far as they are written down."""
    items = storage.values.items[view.offset : view.offset + math.prod(view.shape)]
    if not items or len(items) > _WRITTEN or view.dtype != storage.dtype:
        return ""
    return ", ".join(map(str, items))


def program_lines(heading: str, case: Case) -> Iterator[str]:
    """The function behind a case, below a heading."""
    lines = script.definition(case.program).splitlines()
    yield f"  {heading:<9} {lines[0]}"
    yield from ("            " + line for line in lines[1:])


def _evidence(target: str, failing: Verdict) -> Iterator[str]:
    evidence = failing.evidence
    if "expected" in evidence:
        where = failing.place + (str(evidence["index"]) if evidence.get("index") is not None else "")
        double = evidence.get("double")
        agrees = f"   (double precision: {double})" if double is not None and floating(failing) else ""
        yield f"  expected  {where} = {evidence['expected']}{agrees}"
        yield f"  {target:<9} {where} = {evidence['found']}"
        if "asked" in evidence:
            yield f"  switch    asked for by {evidence['asked']}"
        if "wrong" in evidence:
            yield f"  wrong     {evidence['wrong']} of {evidence['total']} elements, {evidence['where']}"
    else:
        lines = failing.message.splitlines() or [failing.symptom]
        yield f"  {failing.oracle:<9} {lines[0][:300]}"


def ordinary(case: Case) -> str:
    """Whether a program looks like what people write: ``yes``, or what is unusual about it."""
    found = unusual(case)
    return "yes" if not found else "no (" + ", ".join(found) + ")"


def floating(failing: Verdict | None) -> bool:
    """Whether double precision has anything to say of a failure: not of whole numbers, truth values and shapes."""
    if failing is None or failing.oracle not in _NUMERIC:
        return False
    return str(failing.evidence.get("dtype", "float32")).startswith(("float", "bfloat", "complex"))


def vendor_lines(points: Points, *, exact: bool = False) -> Iterator[str]:
    """How a finding stands before whoever would read a report of it.

    Args:
        points: the answers to what a vendor asks.
        exact: whether double precision has nothing to say of it.
    """
    said = []
    if points.tolerances != "not compared":
        said.append(f"default tolerances {points.tolerances}")
    if points.double != "not known" and not exact:
        errors = [points.reference_error, points.target_error]
        off = ["not finite" if error is None else f"{error:.3g}" for error in errors]
        said.append(f"double precision {points.double} with the reference (off by {off[0]}, the target by {off[1]})")
    said.append(f"random state {points.random}")
    if points.indices != "no":
        said.append(f"only indices differ ({points.indices})")
    yield "; ".join(said)
    if points.objections:
        yield "would close it: " + "; ".join(points.objections)

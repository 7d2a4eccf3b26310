"""A campaign as plain text: one line on how it went, and a bug as a person reads it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from shakeout.corpus import script
from shakeout.corpus.case import Case, contiguous
from shakeout.corpus.rows import Bug, Totals
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.report import ReportedBug
from shakeout.oracles.vendor import Points, unusual
from shakeout.oracles.verdict import Verdict

__all__ = ["bug_lines", "finding_lines", "ordinary", "program_lines", "summary", "vendor_lines"]


def summary(totals: Mapping[str, Totals], states: Mapping[str, int]) -> str:
    """One line on how a campaign went."""
    whole = sum(totals.values(), Totals())
    new = states.get("confirmed", 0) + states.get("history", 0)
    parts = [
        f"{whole.compared:,} compared",
        f"{whole.exact:,} bit-exact",
        f"{new} new bug{'' if new == 1 else 's'}",
        f"{states.get('flaky', 0)} flaky",
        f"{states.get('internal', 0)} internal",
    ]
    if states.get("new"):
        parts.append(f"{states['new']} not yet confirmed")
    return ", ".join(parts)


def bug_lines(shown: ReportedBug) -> Iterator[str]:
    """One bug for a person: program, what was expected and found, the setting, what to do next."""
    bug = shown.bug
    yield f"{bug.id}  {bug.title}"
    if shown.result is not None:
        yield from finding_lines(bug, shown.case, shown.result)
    fresh = f"{bug.k} of {bug.n} fresh processes" if bug.n else "not tried in a fresh process yet"
    yield f"  state     {bug.state}: {fresh}; seen {bug.count} time{'' if bug.count == 1 else 's'}" + (
        f"; {bug.note}" if bug.note and bug.note != fresh else ""
    )
    yield f"  first     case {bug.first_index}, {time.strftime('%Y-%m-%d %H:%M', time.localtime(bug.first_seen))}"
    if bug.known:
        yield f"  known     {bug.known}"
    yield "  newest    NOT checked on a newer release"
    yield (
        f"  next      shakeout replay {bug.id} · python {shown.script}"
        if shown.script is not None
        else (f"  next      shakeout run with the campaign's seed grows case {bug.first_index} again")
    )


def finding_lines(bug: Bug, case: Case | None, result: Result) -> Iterator[str]:
    """What one finding of a bug shows; ``case`` is None if it died before there was one."""
    if case is None:
        # What is known is the last call that was tried, and what the process said.
        for verdict in result.verdicts:
            evidence = verdict.evidence
            yield f"  growing   last call: {evidence.get('call', 'unknown')}"
            yield from ("            " + line for line in str(evidence.get("output", "")).splitlines()[:8])
        return
    yield from program_lines("program", case)
    for name, given, view in zip(
        script.value_names(case.program), case.program.inputs, case.calls[0].views, strict=False
    ):
        layout = "" if view.strides == contiguous(view.shape) and view.offset == 0 else f", strides {view.strides}"
        layout += f", offset {view.offset}" if view.offset else ""
        yield f"  {name:<9} {given.type}{layout}"
    if result.failure is not None:
        yield from _evidence(bug, result.failure)
    if (where := result.divergence) and where.call < len(case.program.calls):
        names = script.value_names(case.program)
        first = names[case.program.firsts()[where.call] :][: len(case.program.calls[where.call].results)]
        place = ", ".join(first) or f"call {where.call}"
        yield f"  diverges  first behind {place} ({where.operator}): {where.message[:160]}"
    if result.relation:
        yield f"  relation  {result.relation}: case {result.parent} passed, and became this one"
    if result.vendor is not None:
        yield from (f"  vendor    {line}" for line in vendor_lines(result.vendor))
    knobs = ", ".join(f"{name}={value!r}" for name, value in case.setting.knobs) or "default"
    yield f"  setting   {case.setting.mode}, {knobs:<34} ordinary: {ordinary(case)}"


def program_lines(heading: str, case: Case) -> Iterator[str]:
    """The function behind a case, below a heading."""
    lines = script.definition(case.program).splitlines()
    yield f"  {heading:<9} {lines[0]}"
    yield from ("            " + line for line in lines[1:])


def _evidence(bug: Bug, failing: Verdict) -> Iterator[str]:
    evidence = failing.evidence
    if "expected" in evidence:
        where = failing.place + (str(evidence["index"]) if evidence.get("index") is not None else "")
        double = evidence.get("double")
        agrees = f"   (double precision: {double})" if double is not None else ""
        yield f"  expected  {where} = {evidence['expected']}{agrees}"
        yield f"  {bug.target:<9} {where} = {evidence['found']}"
        if "wrong" in evidence:
            yield f"  wrong     {evidence['wrong']} of {evidence['total']} elements, {evidence['where']}"
    else:
        lines = failing.message.splitlines() or [failing.symptom]
        yield f"  {bug.oracle:<9} {lines[0][:300]}"


def ordinary(case: Case) -> str:
    """Whether a program looks like what people write: ``yes``, or what is unusual about it."""
    found = unusual(case)
    return "yes" if not found else "no (" + ", ".join(found) + ")"


def vendor_lines(points: Points) -> Iterator[str]:
    """How a finding stands before whoever would read a report of it."""
    said = []
    if points.tolerances != "not compared":
        said.append(f"default tolerances {points.tolerances}")
    if points.double != "not known":
        errors = [points.reference_error, points.target_error]
        off = ["not finite" if error is None else f"{error:.3g}" for error in errors]
        said.append(f"double precision {points.double} with the reference (off by {off[0]}, the target by {off[1]})")
    said.append(f"random state {points.random}")
    if points.indices != "no":
        said.append(f"only indices differ ({points.indices})")
    yield "; ".join(said)
    if points.objections:
        yield "would close it: " + "; ".join(points.objections)

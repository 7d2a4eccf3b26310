"""A campaign as text: the summary, the report in Markdown, one bug. All of it is read from the database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shakeout.corpus import codec, script
from shakeout.corpus.case import Case
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.files import write_whole
from shakeout.corpus.rows import Bug, LedgerRow, Totals
from shakeout.fuzz.ground.environment import describe
from shakeout.fuzz.ground.results import Result
from shakeout.oracles.vendor import Points, unusual
from shakeout.oracles.verdict import Verdict

__all__ = ["REPORT", "bug_lines", "ordinary", "program_lines", "summary", "vendor_lines", "write_report"]

#: File name in a campaign's directory.
REPORT = "report.md"


def summary(totals: dict[str, Totals], states: dict[str, int]) -> str:
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


def write_report(directory: Path) -> Path:
    """Write ``report.md`` of a campaign anew."""
    with Database.read(directory / NAME) as database:
        text = "\n".join(_report(directory, database)) + "\n"
    path = directory / REPORT
    write_whole(path, text)
    return path


def _report(directory: Path, database: Database) -> Iterator[str]:
    totals, states = database.totals(), database.states()
    yield f"# Campaign {directory.name}"
    yield ""
    yield summary(totals, states) + f"; {float(database.meta('spent', 0.0)):.0f} s of fuzzing."
    yield ""
    yield "## Ledger"
    yield ""
    yield "How far the cases came, by target: grown, accepted by the reference, run by the target, compared,"
    yield "compared on something that could have differed, equal bit for bit."
    yield ""
    names = ("generated", "valid", "executed", "compared", "nontrivial", "exact")
    others = ("unknown", "unsupported", "undefined", "invalid", "failed", "infra", "findings")
    yield from _table(
        ["target", *names, *others],
        [[target, *(getattr(row, name) for name in (*names, *others))] for target, row in totals.items()],
    )
    yield ""
    if proven := database.meta("proven", {}):
        shares = ", ".join(f"{count} on {target}" for target, count in proven.items())
        yield f"Bit-exact proven: {shares}. Each result of these is exact in any order of summation, so equality of all"
        yield "elements was the verdict, without tolerance."
        yield ""
    if related := database.meta("related", {}):
        shares = ", ".join(f"{name} {count}" for name, count in sorted(related.items()))
        yield f"Changed by a metamorphic relation and run again: {sum(related.values())} cases ({shares})."
        yield ""
    yield from _times(database.phases(), totals)
    yield from _disk(database.meta("disk", {}))
    yield "## Bugs"
    yield ""
    bugs = [bug for bug in database.bugs() if bug.state not in ("internal", "known")]
    if not bugs:
        yield "None."
    for bug in sorted(bugs, key=lambda bug: (bug.state not in ("confirmed", "history"), bug.first_seen)):
        yield f"### {bug.id} {bug.title}"
        yield ""
        yield "```"
        yield from bug_lines(directory, database, bug)
        yield "```"
        yield ""
    if known := database.known():
        yield "## Known bugs"
        yield ""
        yield from _table(["state", "title", "reference"], [[row.state, row.title, row.reference] for row in known])
        yield ""
    for status in ("avoided", "unsupported", "infra"):
        if reasons := database.reasons(status):
            yield f"## Why {status}"
            yield ""
            yield from _table(
                ["target", "count", "reason"], [[t, count, reason[:120]] for t, reason, count in reasons[:30]]
            )
            yield ""
    yield from _operators(database.ledger())
    yield "## Environment"
    yield ""
    yield "Of the machine that wrote this report; that of each finding stands in the `environment.json` of its folder."
    yield ""
    facts = describe()
    yield from (f"- {name}: {value}" for name, value in facts.items() if name != "packages")
    yield from (f"- {name} {version}" for name, version in facts["packages"].items())
    yield ""
    yield "The newest releases: NOT checked."


def _times(phases: dict[str, dict[str, float]], totals: dict[str, Totals]) -> Iterator[str]:
    if not phases:
        return
    yield "## Time"
    yield ""
    yield "Seconds in workers by target, and what they went into. `waiting` is for a compiler that works for several"
    yield "cases; others are at work meanwhile."
    yield ""
    rows = []
    for target, spent in phases.items():
        whole = sum(spent.values())
        parts = sorted(spent.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {100 * took / whole:.0f} %" for name, took in parts if took > whole / 200)
        busy = whole - spent.get("waiting", 0.0)
        rate = 60 * totals[target].compared / busy if target in totals and busy else 0.0
        rows.append([target, f"{whole:.0f}", f"{rate:.0f}", shares])
    yield from _table(["target", "seconds", "compared a minute at work", "shares"], rows)
    yield ""


def _disk(used: dict[str, int]) -> Iterator[str]:
    if not used:
        return
    yield "## Disk"
    yield ""
    yield (
        f"Kept in the campaign's directory: {used['kept'] / 1e6:.1f} MB. Compilers' files while it ran: "
        f"{used['compilers'] / 1e6:.0f} MB at most, deleted. Precompiled headers, shared by all campaigns: "
        f"{used['headers'] / 1e6:.0f} MB."
    )
    yield ""


def _operators(rows: Sequence[LedgerRow]) -> Iterator[str]:
    by_name: dict[str, list[LedgerRow]] = {}
    for row in rows:
        by_name.setdefault(row.operator, []).append(row)
    fed = sum(any(row.fed for row in found) for found in by_name.values())
    yield "## Operators"
    yield ""
    yield f"{len(by_name)} operators, {fed} of them also fed by another operator's result."
    yield ""
    yield "<details><summary>By operator</summary>"
    yield ""
    table = [
        [row.operator, row.target, row.generated, row.compared, row.nontrivial, row.unsupported, row.fed]
        for found in by_name.values()
        for row in found
    ]
    yield from _table(["operator", "target", "generated", "compared", "nontrivial", "unsupported", "fed"], table)
    yield ""
    yield "</details>"
    yield ""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) + " |"


def bug_lines(directory: Path, database: Database, bug: Bug) -> Iterator[str]:
    """One bug for a person: program, what was expected and found, the setting, what to do next."""
    yield f"{bug.id}  {bug.title}"
    findings = database.findings(bug.id)
    best = max(findings, key=lambda finding: (finding.k, -len(finding.case_json)), default=None)
    if best is not None:
        yield from _finding(bug, best.case_json, Result.from_json(best.result))
    fresh = f"{bug.k} of {bug.n} fresh processes" if bug.n else "not tried in a fresh process yet"
    yield f"  state     {bug.state}: {fresh}; seen {bug.count} time{'' if bug.count == 1 else 's'}" + (
        f"; {bug.note}" if bug.note and bug.note != fresh else ""
    )
    yield f"  first     case {bug.first_index}, {time.strftime('%Y-%m-%d %H:%M', time.localtime(bug.first_seen))}"
    if bug.known:
        yield f"  known     {bug.known}"
    yield "  newest    NOT checked on a newer release"
    script = directory / bug.id / "repro.py"
    yield (
        f"  next      shakeout replay {bug.id} · python {script}"
        if script.exists()
        else (f"  next      shakeout run with the campaign's seed grows case {bug.first_index} again")
    )


def _finding(bug: Bug, case_json: str, result: Result) -> Iterator[str]:
    try:
        case = codec.decode(case_json)
    except codec.MalformedCase:
        # It died before there was a case: what is known is the last call that was tried, and what the process said.
        for verdict in result.verdicts:
            evidence = verdict.evidence
            yield f"  growing   last call: {evidence.get('call', 'unknown')}"
            yield from ("            " + line for line in str(evidence.get("output", "")).splitlines()[:8])
        return
    yield from program_lines("program", case)
    for name, given, view in zip(
        script.value_names(case.program), case.program.inputs, case.calls[0].views, strict=False
    ):
        layout = "" if view.strides == _contiguous(view.shape) and view.offset == 0 else f", strides {view.strides}"
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


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    from shakeout.corpus.case import contiguous

    return contiguous(shape)


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

"""A campaign's report in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from shakeout.corpus.files import write_whole
from shakeout.fuzz.reporting.bug_list import BugList
from shakeout.fuzz.reporting.campaign_report import CampaignReport, TargetTime, gathered
from shakeout.fuzz.reporting.fence import fenced
from shakeout.fuzz.reporting.plain import bug_lines, fresh, said
from shakeout.fuzz.reporting.short_scripts import short_scripts
from shakeout.fuzz.reporting.tables import table as _table

__all__ = ["REPORT", "markdown", "write_report"]

#: File name in a campaign's directory.
REPORT = "report.md"

#: Bugs that are shown whole, with their scripts; what comes behind them has a line each.
TOP = 10


def write_report(directory: Path) -> Path:
    """Write ``report.md`` of a campaign anew."""
    path = directory / REPORT
    report = gathered(directory)
    cases = [shown.alone for shown in report.bugs.ranked[:TOP] if shown.alone is not None]
    write_whole(path, markdown(report, short_scripts(cases)))
    return path


def markdown(report: CampaignReport, scripts: Mapping[str, str]) -> str:
    """A campaign's report as the text of a Markdown file.

    Args:
        report: what there is to tell.
        scripts: short scripts of the first bugs, by the ids of their cases.
    """
    return "\n".join(_lines(report, scripts)) + "\n"


def _lines(report: CampaignReport, scripts: Mapping[str, str]) -> Iterator[str]:
    yield f"# Campaign {report.name}"
    yield ""
    yield f"{report.counted.summary}; {report.seconds:.0f} s of fuzzing."
    yield ""
    yield from _bugs(report.bugs, scripts)
    yield "## Ledger"
    yield ""
    yield "How far the cases came, by target: grown, accepted by the reference, run by the target, compared,"
    yield "compared on something that could have differed, equal bit for bit. Before that programs, and the settings"
    yield "under which they were compared; a metamorphic relation makes further cases of them."
    yield ""
    names = ("generated", "valid", "executed", "compared", "nontrivial", "exact")
    others = ("unknown", "unsupported", "undefined", "invalid", "failed", "infra", "findings")
    counted = report.counted
    yield from _table(
        ["target", "programs", "settings", *names, *others],
        [
            [
                target,
                counted.programs.get(target, "-"),
                counted.settings.get(target, "-"),
                *(getattr(row, name) for name in (*names, *others)),
            ]
            for target, row in counted.totals.items()
        ],
    )
    yield ""
    if report.proven:
        shares = ", ".join(f"{count} on {target}" for target, count in report.proven.items())
        yield f"Bit-exact proven: {shares}. Each result of these is exact in any order of summation, so equality of all"
        yield "elements was the verdict, without tolerance."
        yield ""
    if related := report.related:
        shares = ", ".join(f"{name} {count}" for name, count in sorted(related.items()))
        yield f"Changed by a metamorphic relation and run again: {sum(related.values())} cases ({shares})."
        yield ""
    yield from _times(report.times)
    yield from _disk(report.disk)
    if known := report.known:
        yield "## Known bugs"
        yield ""
        yield from _table(["state", "title", "reference"], [[row.state, row.title, row.reference] for row in known])
        yield ""
    if report.notes:
        yield "## Notes"
        yield ""
        yield from (f"- {one.line}" for one in report.notes)
        yield ""
    if report.forgiven:
        yield "## Forgiven"
        yield ""
        yield "Cases in which a rule of the oracles says why a difference is no failure, or why it could not be judged"
        yield "(docs/oracles.md). A rule that forgives often behind one operator may hide a bug of it."
        yield ""
        yield from _table(
            ["target", "rule", "operator", "cases", "of compared"],
            [[one.target, one.rule, one.operator, one.count, one.compared] for one in report.forgiven[:30]],
        )
        yield ""
    if reached := report.coverage.lines():
        yield "## Coverage"
        yield ""
        yield "What the cases reached, by source (docs/coverage.md); what none reached was not tested."
        yield ""
        yield from (f"- {line}" if not line.startswith(" ") else f"  - {line.strip()}" for line in reached)
        yield ""
    for status, reasons in report.reasons.items():
        yield f"## Why {status}"
        yield ""
        yield from _table(
            ["target", "count", "reason"], [[row.target, row.count, row.text[:120]] for row in reasons[:30]]
        )
        yield ""
    yield from _operators(report)
    yield "## Environment"
    yield ""
    yield "Of the machine that wrote this report; that of each finding stands in the `environment.json` of its folder."
    yield ""
    yield from (f"- {name}: {value}" for name, value in report.environment.items())
    yield from (f"- {name} {version}" for name, version in report.packages.items())
    yield ""
    yield "The newest releases: NOT checked."


def _bugs(bugs: BugList, scripts: Mapping[str, str]) -> Iterator[str]:
    """The worst whole, the next ones in a line each, and how many there are of what nobody has to look at."""
    yield "## Bugs"
    yield ""
    if not bugs.ranked:
        yield "None." if not bugs.waiting else "None that triage has come to."
        yield ""
    for place, shown in enumerate(bugs.ranked[:TOP], 1):
        yield f"### {place}. {shown.bug.id} {shown.title}"
        yield ""
        yield from fenced("\n".join(bug_lines(shown)))
        if shown.alone is not None and (script := scripts.get(shown.alone.id)) is not None:
            yield f"A short script; `shakeout report {shown.bug.id}` runs it, and says whether it shows the bug."
            yield ""
            yield from fenced(script, "python")
    if further := bugs.ranked[TOP:]:
        yield "### Further bugs"
        yield ""
        yield from _table(
            ["bug", "state", "fresh", "findings", "title", "why here"],
            [
                [shown.bug.id, shown.bug.state, fresh(shown.bug), shown.findings, shown.title, shown.rank.reason]
                for shown in further
            ],
        )
        yield ""
    if bugs.waiting:
        yield f"{bugs.waiting:,} findings wait for triage; `shakeout triage` works them off."
        yield ""
    apart = {group: rows for group, rows in bugs.apart.items() if group != "waiting"}
    if apart:
        yield "### Apart"
        yield ""
        yield from _table(
            ["", "bug", "findings", "title", "said"],
            [
                [
                    group,
                    shown.bug.id,
                    shown.findings,
                    shown.title,
                    "" if shown.decision is None else said(shown.decision),
                ]
                for group, rows in apart.items()
                for shown in rows
            ],
        )
        yield ""


def _times(times: Sequence[TargetTime]) -> Iterator[str]:
    if not times:
        return
    yield "## Time"
    yield ""
    yield "Seconds in workers by target, and what they went into. `waiting` is for a compiler that works for several"
    yield "cases; others are at work meanwhile."
    yield ""
    rows = []
    for row in times:
        whole = row.seconds
        parts = sorted(row.phases.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {100 * took / whole:.0f} %" for name, took in parts if took > whole / 200)
        rows.append([row.target, f"{whole:.0f}", f"{row.rate:.0f}", shares])
    yield from _table(["target", "seconds", "compared a minute at work", "shares"], rows)
    yield ""


def _disk(used: Mapping[str, int]) -> Iterator[str]:
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


def _operators(report: CampaignReport) -> Iterator[str]:
    yield "## Operators"
    yield ""
    yield f"{len(report.operators)} operators, {report.fed} of them also fed by another operator's result."
    yield ""
    yield "<details><summary>By operator</summary>"
    yield ""
    table = [
        [row.operator, row.target, row.generated, row.compared, row.nontrivial, row.unsupported, row.fed]
        for found in report.operators.values()
        for row in found
    ]
    yield from _table(["operator", "target", "generated", "compared", "nontrivial", "unsupported", "fed"], table)
    yield ""
    yield "</details>"
    yield ""

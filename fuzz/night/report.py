"""A night and what has changed since the last one, in Markdown, in plain lines, and as JSON values."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shakeout.fuzz.night.difference import Difference, Reached, TargetNight
from shakeout.fuzz.night.record import BugState, Night
from shakeout.fuzz.reporting.bug_list import BugList
from shakeout.fuzz.reporting.fence import fenced
from shakeout.fuzz.reporting.plain import bug_lines
from shakeout.fuzz.reporting.tables import table

__all__ = ["described", "lines", "markdown", "summary"]

#: Bugs that are shown whole, of those that are new or back; what comes behind them has a line.
WHOLE = 10

#: Rows of a list: what a pull request or a job's summary takes is a megabyte, and what a person reads is less.
MOST = 100


def described(difference: Difference) -> dict[str, Any]:
    """What has changed, as JSON values, with how many things are worse and whether nothing was compared."""
    return {**asdict(difference), "bad": difference.bad, "vacuous": difference.vacuous}


def summary(difference: Difference) -> str:
    """What has changed, in one line: ``2 new bugs, 1 back, 3 fixed; 5 were there before``."""
    counts = (
        (len(difference.new), "new bug", "new bugs"),
        (len(difference.reopened), "back after a fix", "back after a fix"),
        (len(difference.again), "shipped case fails again", "shipped cases fail again"),
        (len(difference.fixed), "fixed", "fixed"),
        (len(difference.flaky), "flaky", "flaky"),
        (len(difference.internal), "internal", "internal"),
    )
    said = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    return f"{', '.join(said) or 'nothing new'}; {difference.still} open from before"


# --- plain lines ------------------------------------------------------------------------------------------------------


def lines(night: Night, difference: Difference) -> Iterator[str]:
    """For a person who reads the mail of a cron job: a word, and what it says."""
    against = f"compared with {difference.against}" if difference.against else "there is no night to compare it with"
    yield _line("night", f"{night.name}, {against}: {summary(difference)}")
    for word, bugs in _kinds(difference):
        yield from (_line(word, _bug(bug)) for bug in bugs[:MOST])
        if len(bugs) > MOST:
            yield _line(word, f"and {len(bugs) - MOST} more")
    yield from (_line("changed", f"{id_}: {how}") for id_, how in difference.changed.items())
    yield from (_line("joined", f"{one} is {other}") for one, other in difference.joined.items())
    yield from (_line("again", f"{one.kind} {one.id}: {one.title}") for one in difference.again)
    yield from (_line("gone", f"{one.kind} {one.id}: {one.title}") for one in difference.gone)
    for reason, count in Counter(difference.unable.values()).most_common(5):
        yield _line("unable", f"{count} cannot run again: {reason}")
    yield from (
        _line("version", f"{one.name}: {one.before or 'none'} -> {one.now or 'none'}") for one in difference.versions
    )
    yield from (_line("cases", _target(row)) for row in difference.targets)
    yield from (_line("reached", _reached(one)) for one in difference.reached)
    yield from (_line("note", note) for note in night.notes)


def _kinds(difference: Difference) -> tuple[tuple[str, Sequence[BugState]], ...]:
    """The bugs that have changed, by one word for how."""
    return (
        ("new", difference.new),
        ("back", difference.reopened),
        ("fixed", difference.fixed),
        ("flaky", difference.flaky),
        ("internal", difference.internal),
    )


def _line(word: str, text: str) -> str:
    return f"{word:<9}{text}"


def _bug(bug: BugState) -> str:
    life = f" ({bug.life})" if bug.life > 1 else ""
    culprit = f"; {bug.culprit}" if bug.culprit else ""
    return f"{bug.id}{life}  {'+'.join(bug.targets)}  {bug.title.removeprefix(f'{bug.targets[0]}: ')}{culprit}"


def _reached(one: Reached) -> str:
    return f"{one.source}: {one.total:,}, {one.new:,} for the first time"


def _target(one: TargetNight) -> str:
    before = "" if one.rate_before is None else f" (last night {one.rate_before:.0f})"
    said = (
        f"{one.target}: {one.totals.compared:,} compared of {one.totals.generated:,}, {one.rate:.0f} a minute{before}; "
        f"{one.operators:,} operators, {one.operators_new:,} for the first time"
    )
    return f"{said}; {one.remark}" if one.remark else said


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(night: Night, difference: Difference, bugs: BugList) -> str:
    """The report of a night.

    Args:
        night: that is over.
        difference: from the one before.
        bugs: of the campaign, as they stand now.
    """
    return "\n".join(_markdown(night, difference, bugs)) + "\n"


def _markdown(night: Night, difference: Difference, bugs: BugList) -> Iterator[str]:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(night.began))
    took, budget = _span(night.ended - night.began), _span(night.budget)
    yield f"# Night {night.name}"
    yield ""
    yield f"**{summary(difference)}.**"
    yield ""
    against = f"Compared with {difference.against}." if difference.against else "There is no night to compare it with."
    yield f"{against} Begun at {began}, it took {took} of {budget}, {_span(difference.seconds)} of that for cases."
    yield ""
    heads = {
        "new": "New",
        "back": "Back after a fix",
        "fixed": "Fixed",
        "flaky": "Flaky",
        "internal": "Shakeout's own defects",
    }
    for word, rows in _kinds(difference):
        yield from _listed(heads[word], [_item(bug) for bug in rows])
    yield from _listed("Fails otherwise", [f"{id_}: {_plain(how)}" for id_, how in difference.changed.items()])
    yield from _listed("One bug", [f"{one} is {other}" for one, other in difference.joined.items()])
    for head, moves in (("Fails again", difference.again), ("Fails no more", difference.gone)):
        yield from _listed(
            f"{head}, of what ships with Shakeout", [f"{one.kind} `{one.id}`: {_plain(one.title)}" for one in moves]
        )
    if difference.versions:
        yield "## Other versions"
        yield ""
        yield from table(
            ["", "last night", "tonight"],
            [[one.name, one.before or "none", one.now or "none"] for one in difference.versions],
        )
        yield ""
    yield from _ledger(difference.targets)
    yield from _listed("Coverage since last night", [_plain(_reached(one)) for one in difference.reached])
    yield from _listed("Notes", [_plain(note) for note in night.notes])
    yield from _ranked(night)
    yield from _whole(difference, bugs)
    yield from _replayed(night, difference.unable)
    yield "## Environment"
    yield ""
    yield from (f"- {name} {version}" for name, version in night.versions.items())


def _listed(head: str, items: Sequence[str]) -> Iterator[str]:
    if not items:
        return
    yield f"## {head}"
    yield ""
    yield from (f"- {item}" for item in items[:MOST])
    if len(items) > MOST:
        yield f"- and {len(items) - MOST} more"
    yield ""


def _item(bug: BugState) -> str:
    life = f" (life {bug.life})" if bug.life > 1 else ""
    said = [bug.reason, f"{bug.fresh} fresh processes" if bug.fresh != "-" else "", bug.culprit]
    more = "; ".join(_plain(one) for one in said if one)
    return f"**{bug.id}**{life} {_plain(bug.title)}" + (f" -- {more}" if more else "")


def _plain(text: str) -> str:
    """Text of any origin on one line, without what Markdown or HTML would make of it."""
    escaped = "".join(f"\\{one}" if one in "\\`*_[]<>#" else one for one in text)
    return " ".join(escaped.split())


def _ledger(targets: Sequence[TargetNight]) -> Iterator[str]:
    yield "## Cases since last night"
    yield ""
    if not targets:
        yield "None."
        yield ""
        return
    names = ("generated", "valid", "executed", "compared", "nontrivial", "exact", "unsupported", "failed", "infra")
    rows = []
    for one in targets:
        before = "-" if one.rate_before is None else f"{one.rate_before:.0f}"
        counts = [getattr(one.totals, name) for name in names]
        operators = f"{one.operators} (+{one.operators_new})"
        rows.append([one.target, *counts, f"{one.rate:.0f}", before, operators, one.remark])
    yield from table(["target", *names, "compared a minute", "last night", "operators", ""], rows)
    yield ""


def _ranked(night: Night) -> Iterator[str]:
    found = night.standing.open
    yield "## All open bugs, the worst first"
    yield ""
    if not found:
        yield "None."
    else:
        yield from table(
            ["bug", "targets", "fresh", "seen", "title", "why here", "culprit"],
            [
                [
                    bug.id,
                    "+".join(bug.targets),
                    bug.fresh,
                    bug.seen,
                    _plain(bug.title),
                    _plain(bug.reason),
                    _plain(bug.culprit),
                ]
                for bug in found[:MOST]
            ],
        )
    if len(found) > MOST:
        yield ""
        yield f"And {len(found) - MOST} more: `shakeout bugs`."
    if night.standing.waiting:
        yield ""
        yield f"{night.standing.waiting:,} findings wait for triage; the next night goes on with them."
    yield ""


def _whole(difference: Difference, bugs: BugList) -> Iterator[str]:
    told = {bug.id for bug in (*difference.new, *difference.reopened)}
    shown = [row for row in bugs.ranked if row.bug.id in told][:WHOLE]
    if not shown:
        return
    yield "## New bugs, and bugs that are back"
    yield ""
    for row in shown:
        yield from fenced("\n".join(bug_lines(row)))
        yield ""


def _replayed(night: Night, unable: Mapping[str, str]) -> Iterator[str]:
    yield "## What ran again"
    yield ""
    if not night.replays:
        yield "Nothing."
    counts = Counter((row.kind, row.verdict) for row in night.replays)
    yield from (f"- {count} {kind}{'s' if count > 1 else ''}: {verdict}" for (kind, verdict), count in counts.items())
    yield from (f"- {id_} cannot run: {_plain(reason)}" for id_, reason in list(unable.items())[:MOST])
    yield ""


def _span(seconds: float) -> str:
    """``7 h 12 min``, ``4 min 30 s``, ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"

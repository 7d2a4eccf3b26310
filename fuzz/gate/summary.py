"""A gate as Markdown for a pull request: what blocks with its program, then what is noted, then what was compared."""

from __future__ import annotations

from collections.abc import Iterator

from shakeout.fuzz.gate.told import Finding, Outcome, Refusal
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.reporting.fence import fenced

__all__ = ["LARGEST", "summary"]

#: Bytes: GitHub takes 1 MiB as the summary of a step, and nothing of what is longer.
LARGEST = 1 << 20

#: Findings that are shown with their program; of the others there is a line each.
WHOLE = 20

_WORDS = {
    Exit.OK: "green",
    Exit.FOUND: "red",
    Exit.VACUOUS: "vacuous",
    Exit.INTERRUPTED: "interrupted",
    Exit.INFRASTRUCTURE: "broken environment",
}


def summary(outcome: Outcome) -> str:
    """The document; what does not fit is cut off at its end, and said to be."""
    text = "\n".join(_lines(outcome)) + "\n"
    data = text.encode()
    if len(data) < LARGEST:
        return text
    note = "\n\n*Cut off here; gate.json has all of it.*\n"
    kept = data[: LARGEST - len(note.encode()) - 16].decode("utf-8", "ignore")
    whole = kept[: kept.rfind("\n")]
    # A fence that was cut through would swallow the note.
    return whole + ("\n```" if whole.count("\n```") % 2 else "") + note


def _lines(outcome: Outcome) -> Iterator[str]:
    word = _WORDS.get(outcome.status, outcome.status.name.lower())
    yield f"# Shakeout gate: {word}"
    yield ""
    yield f"{_plain(outcome.verdict)}"
    yield ""
    blocking, refused = outcome.blocking, outcome.refused
    for one in blocking[:WHOLE]:
        yield from _whole(one)
    if len(blocking) > WHOLE:
        yield f"## {len(blocking) - WHOLE} further new bugs"
        yield ""
        yield from (_line(one) for one in blocking[WHOLE:])
        yield ""
    if outcome.refusals:
        yield "## Newly unsupported" + ("" if refused else " (does not block without `--refusals`)")
        yield ""
        yield from map(_refusal, outcome.refusals)
        yield ""
    if outcome.noted:
        yield "## Noted, not blocking"
        yield ""
        yield from map(_line, outcome.noted)
        yield ""
    yield "## What was compared"
    yield ""
    yield "| | commit | Python | interpreter |"
    yield "|---|---|---|---|"
    for side in (outcome.base, outcome.head):
        python = side.versions.get("python", "")
        yield f"| {side.role} | {_plain(side.name)} | {_plain(python)} | {_plain(side.python)} |"
    yield ""
    if outcome.totals:
        yield "| target | cases | compared | exact | unsupported | undefined |"
        yield "|---|---:|---:|---:|---:|---:|"
        for name, row in outcome.totals.items():
            counts = (row.generated, row.nontrivial, row.exact, row.unsupported, row.undefined)
            yield f"| {_plain(name)} | {' | '.join(f'{count:,}' for count in counts)} |"
        yield ""
    if outcome.replays:
        states = [replay.state for replay in outcome.replays]
        told = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        yield f"Regression corpus: {len(states)} cases, {told}."
        yield ""
    spent = ", ".join(f"{phase} {seconds:.0f} s" for phase, seconds in outcome.seconds.items())
    yield f"Seed {outcome.seed}; {spent}."
    for note in outcome.notes:
        yield f"- {_plain(note)}"


def _whole(one: Finding) -> Iterator[str]:
    yield f"## {_plain(one.title)}"
    yield ""
    yield f"{_plain(one.decision.reason)}." + (f" {_code(one.file)}, line {one.line}." if one.file else "")
    yield ""
    if not one.reduced:
        yield f"Not reduced: the time was over; {_code(f'shakeout minimise {one.case}')} goes on."
        yield ""
    if one.text:
        yield from fenced(one.text, "text")
    yield ", ".join([*([f"script {_code(one.script)}"] if one.script else []), f"case {_code(one.case)}"])
    yield ""


def _line(one: Finding) -> str:
    return f"- {_code(one.id)} {_plain(one.title)}: {_plain(one.decision.reason)} ({_code(one.case)})"


def _refusal(one: Refusal) -> str:
    operators = ", ".join(sorted(set(one.operators))[:6])
    times = f"{one.count} case{'' if one.count == 1 else 's'}"
    return f"- {_code(one.target)}: {_plain(one.reason[:200])} ({_plain(operators)}; {times}; {_code(one.case)})"


def _plain(text: str) -> str:
    """Text in which nothing is taken for Markdown or HTML, in one line."""
    line = " ".join(text.split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in line)


def _code(text: str) -> str:
    return f"`{text.replace('`', chr(39))}`"

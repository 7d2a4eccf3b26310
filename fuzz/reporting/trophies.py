"""``docs/bugs/TROPHIES.md``: what a maintainer reads first, one line and one snippet each.

Bugs that are real, of which no report was found, and that fail in the newest release that was tried; in the order in
which a campaign ranks its bugs, by severity and by how ordinary their programs are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.regressions import Regression
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.rank import Rank, rank
from shakeout.oracles.verdict import Outcome, Verdict

__all__ = ["trophies"]


@dataclass(frozen=True, slots=True)
class _Trophy:
    """A bug, the case that shows it best, and where it stands."""

    bug: Regression
    case: Case
    inputs: str
    rank: Rank


def trophies(found: Sequence[Regression]) -> Iterator[str]:
    """The lines of the list."""
    best = sorted((_best(bug) for bug in found if _counts(bug)), key=lambda one: one.rank.key)
    yield "# Trophies"
    yield ""
    yield "Written by `python -m shakeout.fuzz.reporting.pages docs/bugs`: bugs that are real, of which no public"
    yield "report was found by those who looked, and that fail in the newest release that was tried. The worst come"
    yield "first, and among equals the most ordinary programs, as a campaign ranks its bugs ([triage](../triage.md))."
    yield "One cause has one place. Default settings are those without a knob; what else a script sets is on the page."
    yield "Inputs that are shown in place of the smallest case fail too, and perhaps of something else."
    yield ""
    looked = sum(bool(one.bug.searched) for one in best)
    yield f"{len(best)} bugs; a report was looked for of {looked}."
    yield ""
    for place, one in enumerate(best, 1):
        yield from _lines(place, one)


def _counts(bug: Regression) -> bool:
    newest = list(bug.status.values())[-1]
    return bug.judgement == "real" and not bug.reference and not bug.same and newest == "fails"


def _best(bug: Regression) -> _Trophy:
    """The smallest case or the most ordinary one that fails, whichever stands higher."""
    rows = [_Trophy(bug, bug.case, "", _ranked(bug, bug.case, bug.failure["oracle"], bug.failure["symptom"]))]
    if bug.evidence is not None and (wide := bug.evidence.wide) is not None:
        rows.append(_Trophy(bug, wide.case, wide.what, _ranked(bug, wide.case, wide.symptom.oracle, wide.symptom.name)))
    return min(rows, key=lambda one: one.rank.key)


def _ranked(bug: Regression, case: Case, oracle: str, symptom: str) -> Rank:
    verdict = Verdict(oracle, Outcome.FAIL, symptom)
    return rank(case, Result(case.id, case.setting.target, "compared", (verdict,)), bug=bug.id)


def _lines(place: int, one: _Trophy) -> Iterator[str]:
    bug = one.bug
    where = bug.case.setting.target + ("" if bug.case.setting.device == "cpu" else ", GPU")
    newest = list(bug.status)[-1]
    looked = f"no report found on {bug.searched}" if bug.searched else "not looked for"
    yield f"## {place}. [{bug.title}]({bug.id}.md)"
    yield ""
    shown = f"; shown here with {one.inputs}" if one.inputs else ""
    yield f"{where}, {newest}: {one.rank.reason}; {looked}{shown}."
    yield ""
    yield "```python"
    yield from script.definition(one.case.program, one.case.setting.device).splitlines()
    yield ""
    yield from script.inputs(one.case)[0].splitlines()
    yield "```"
    yield ""

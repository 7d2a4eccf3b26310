"""What the pages' templates are given of a bug: its values, and its drawings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.bug_list import ReportedBug
from shakeout.fuzz.reporting.bug_report import extent_of
from shakeout.fuzz.reporting.html import vega
from shakeout.fuzz.reporting.html.drawings import Classes, extent_map, program_graph
from shakeout.fuzz.reporting.html.layout import drawing
from shakeout.fuzz.reporting.plain import GivenTensor, floating, given_tensors, ordinary, vendor_lines
from shakeout.oracles.extent import Extent
from shakeout.oracles.verdict import Verdict

__all__ = ["BugView", "CaseView", "bug_view"]


@dataclass(frozen=True, slots=True)
class CaseView:
    """The case that shows a bug.

    Attributes:
        program: its source.
        inputs: what the program is given in its first call.
        calls: how often it is called.
        graph: the program as a drawing; None if it is too large, or if nothing can be drawn here.
        differs: the first operator with which the values go wrong, in words; empty if that is not known.
        setting: what the target was set to.
        ordinary: whether the program looks like what people write.
    """

    program: str
    inputs: tuple[GivenTensor, ...]
    calls: int
    graph: Markup | None
    differs: str
    setting: str
    ordinary: str


@dataclass(frozen=True, slots=True)
class BugView:
    """A bug as a page shows it.

    Attributes:
        shown: the bug.
        case: that shows it; None if it died before there was one.
        failure: what the oracle said; None if no failing verdict is stored.
        extent: where the difference lies; None if it is no matter of values, or was not looked for.
        picture: the same as a drawing; None if nothing can be drawn here.
        vendor: how it stands before whoever would read a report of it.
        short: a script that needs no Shakeout; empty if it has none.
    """

    shown: ReportedBug
    case: CaseView | None
    failure: Verdict | None
    extent: Extent | None
    picture: Markup | None
    vendor: tuple[str, ...]
    short: str

    @property
    def evidence(self) -> Mapping[str, Any]:
        """What the oracle keeps beside its words."""
        return {} if self.failure is None else self.failure.evidence

    @property
    def classes(self) -> Classes:
        """How large the differences are."""
        return Classes.of(() if self.extent is None else self.extent.cells)


def bug_view(shown: ReportedBug, short: str = "") -> BugView:
    """A bug as a page shows it; ``short`` is its short script."""
    result, extent = shown.result, extent_of(shown)
    failure = None if result is None else result.failure
    picture = None
    if extent is not None and failure is not None and vega.able():
        wrong = sum(cell.wrong for cell in extent.cells)
        described = f"{wrong} elements of a tensor of shape {list(extent.shape)} are wrong."
        picture = extent_map(extent, f"Where {failure.place} of {shown.bug.id} is wrong", described)
    return BugView(
        shown=shown,
        case=None if shown.case is None else _case_view(shown.case, result, shown.bug.id),
        failure=failure,
        extent=extent,
        picture=picture,
        vendor=()
        if result is None or result.vendor is None
        else tuple(vendor_lines(result.vendor, exact=not floating(result.failure))),
        short=short,
    )


def _case_view(case: Case, result: Result | None, bug: str) -> CaseView:
    program = script.definition(case.program)
    drawn = drawing(case.program, _marks(case, result)) if vega.able() else None
    count = len(case.program.operators())
    described = f"{count} operator{'' if count == 1 else 's'}; the program's text follows."
    where = None if result is None else result.divergence
    return CaseView(
        program=program,
        inputs=tuple(given_tensors(case)),
        calls=len(case.input_sets),
        graph=None if drawn is None else program_graph(drawn, f"The program of {bug}", described),
        differs="" if where is None else f"behind {where.operator}: {where.message}",
        setting=", ".join([case.setting.mode, *(f"{name}={value!r}" for name, value in case.setting.knobs)]),
        ordinary=ordinary(case),
    )


def _marks(case: Case, result: Result | None) -> dict[int, str]:
    """By value, what makes it stand out: where the target's values first go wrong, and which result shows it."""
    marks: dict[int, str] = {}
    if result is None or result.failure is None:
        return marks
    program, place = case.program, result.failure.place
    part, _, number = place.rpartition(" ")
    if number.isdecimal():
        given = {"gradient", "input after the call"}
        values = program.returns if part == "output" else range(len(program.inputs)) if part in given else ()
        if int(number) < len(values):
            marks[values[int(number)]] = f"{place}: {result.failure.symptom}"
    if (where := result.divergence) is not None and where.call < len(program.calls):
        marks.update(dict.fromkeys(_results(case, where.call)[:1], "values first differ here"))
    return marks


def _results(case: Case, call: int) -> range:
    first = case.program.firsts()[call]
    return range(first, first + len(case.program.calls[call].results))

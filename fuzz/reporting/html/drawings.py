"""The drawings of a page: a program as a graph, where in a tensor a difference lies, and how a campaign went on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from shakeout.fuzz.reporting.course import Course
from shakeout.fuzz.reporting.html.layout import LINE, Drawing
from shakeout.fuzz.reporting.html.vega import FAINT, INK, MONO, from_vega, from_vega_lite
from shakeout.fuzz.reporting.html.visible import visible
from shakeout.oracles.extent import Cell, Extent

__all__ = ["Classes", "course_chart", "extent_map", "program_graph"]

#: Shades of a difference, from small to large; each has its digit too.
SHADES = 5

#: Of what has no size, because one of the two values is no number or infinite.
UNSIZED = "N"

#: Pixels of a cell.
_CELL = 22

#: How lines of several targets are told apart, beside their colours.
_DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [5, 1], [1, 3])


# --- the program ------------------------------------------------------------------------------------------------------


def program_graph(drawn: Drawing, title: str, description: str) -> Markup:
    """A program: round boxes are what it is given, square ones calls; what stands out has a thick frame."""
    boxes = [
        {
            "x": box.x - box.width / 2,
            "y": box.y - box.height / 2,
            "w": box.width,
            "h": box.height,
            "r": 3 if box.kind == "call" else 14,
            "fill": "var(--marked)" if box.loud else "var(--box)",
            "stroke": "var(--alarm)" if box.loud else FAINT,
            "thick": 3 if box.loud else 1,
            "dash": [5, 3] if box.kind == "parameter" else [],
        }
        for box in drawn.boxes
    ]
    texts = [
        {
            "x": box.x,
            "y": box.y + LINE * (number - (len(box.lines) - 1) / 2),
            "text": line,
            "weight": "bold" if (box.kind == "call" and number == 0) or number in box.loud else "normal",
        }
        for box in drawn.boxes
        for number, line in enumerate(box.lines)
    ]
    points = [{"line": number, "x": x, "y": y} for number, line in enumerate(drawn.lines) for x, y in line]
    ends = [{"x": line[-1][0], "y": line[-1][1] - 4} for line in drawn.lines]
    line = _mark("line", "way", "x", "y", stroke={"value": FAINT}, strokeWidth={"value": 1.5})
    marks = [
        {
            "type": "group",
            "from": {"facet": {"data": "points", "name": "way", "groupby": "line"}},
            "marks": [line],
        },
        _mark("symbol", "ends", "x", "y", shape={"value": "triangle-down"}, size={"value": 64}, fill={"value": FAINT}),
        _mark(
            "rect",
            "boxes",
            *("x", "y", "fill", "stroke"),
            width={"field": "w"},
            height={"field": "h"},
            cornerRadius={"field": "r"},
            strokeWidth={"field": "thick"},
            strokeDash={"field": "dash"},
        ),
        _mark(
            "text",
            "texts",
            *("x", "y", "text"),
            fontWeight={"field": "weight"},
            align={"value": "center"},
            baseline={"value": "middle"},
            font={"value": MONO},
            fontSize={"value": 12},
            fill={"value": INK},
            limit={"value": 0},
        ),
    ]
    named = {"boxes": boxes, "texts": texts, "points": points, "ends": ends}
    data = [{"name": name, "values": rows} for name, rows in named.items()]
    spec = {"width": drawn.width, "height": drawn.height, "padding": 4, "data": data, "marks": marks}
    return from_vega(spec, title, description)


def _mark(kind: str, data: str, *same: str, **channels: Mapping[str, Any]) -> dict[str, Any]:
    encoded = {name: {"field": name} for name in same} | channels
    return {"type": kind, "from": {"data": data}, "encode": {"enter": encoded}}


# --- the difference ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Classes:
    """How large the differences of one tensor are, in classes that are equally wide in powers of ten.

    Attributes:
        cells: of the tensor.
        least, most: of all differences that have a size; 0 where none has.
    """

    cells: tuple[Cell, ...]
    least: float
    most: float

    @classmethod
    def of(cls, cells: tuple[Cell, ...]) -> Classes:
        """Those of the cells of one tensor."""
        sized = [cell.apart for cell in cells if cell.apart]
        return cls(cells, min(sized, default=0.0), max(sized, default=0.0))

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the classes that occur, in order."""
        return tuple(sorted({self.of_one(cell.apart) for cell in self.cells}))

    def of_one(self, apart: float | None) -> str:
        """The class of one difference: ``1`` for small to ``5`` for large ones, or ``N``."""
        if apart is None:
            return UNSIZED
        if self.least == self.most:
            return str(SHADES) if apart else "1"
        # The quotient of the two may be no number of double precision.
        share = (math.log(max(apart, self.least)) - math.log(self.least)) / self._wide
        return str(min(1 + int(share * SHADES), SHADES))

    def meaning(self, name: str) -> str:
        """A class in words."""
        if name == UNSIZED:
            return "NaN or infinite on one side"
        if self.least == self.most:
            return f"{self.most:.3g}" if name == str(SHADES) else "bits only"
        ends = (math.log(self.least) + self._wide * (int(name) - step) / SHADES for step in (1, 0))
        low, high = (min(math.exp(end), self.most) for end in ends)
        return f"{low:.2g} to {high:.2g}"

    @property
    def _wide(self) -> float:
        return math.log(self.most) - math.log(self.least)


def extent_map(extent: Extent, title: str, description: str) -> Markup:
    """The wrong cells of a tensor: the darker and the higher the digit, the larger the difference."""
    (down, across), (high, wide) = extent.grid, extent.block
    sized = Classes.of(extent.cells)
    rows = [
        {
            "row": cell.row * high,
            "column": cell.column * wide,
            "class": name,
            "said": f"{_elements(cell, extent)}: {_said(cell, extent)}",
        }
        for cell in extent.cells
        for name in [sized.of_one(cell.apart)]
    ]

    def fill(prefix: str) -> dict[str, Any]:
        scale = {"domain": list(sized.present), "range": [f"var(--{prefix}-{name})" for name in sized.present]}
        return {"field": "class", "type": "nominal", "scale": scale, "legend": None}

    axis = {"ticks": False, "domain": False, "labelAngle": 0}
    # Labels stand in a row, and one that is longer than a cell leaves no room for the next one.
    every = -(-(8 * len(str(wide * across)) + 4) // _CELL)
    gaps = {"paddingInner": 0.08, "paddingOuter": 0.04}
    per = "" if wide == 1 else f", {wide} to a cell"
    lines = "" if high == 1 else f", {high} to a cell"
    where = {
        "x": {
            "field": "column",
            "type": "ordinal",
            "scale": {
                "domain": [number * wide for number in range(across)],
                "paddingInner": 0.08,
                "paddingOuter": 0.04,
            },
            "axis": {
                **axis,
                "title": f"column{per}",
                "orient": "top",
                "values": [number * wide for number in range(0, across, every)],
            },
        },
        "y": {
            "field": "row",
            "type": "ordinal",
            "scale": {"domain": [number * high for number in range(down)], **gaps},
            "axis": {**axis, "title": f"row{lines}"},
        },
    }
    spec = {
        "width": {"step": _CELL},
        "height": {"step": _CELL},
        "data": {"values": rows},
        "encoding": where,
        "view": {"fill": "var(--right)", "stroke": FAINT},
        "layer": [
            {
                "mark": "rect",
                "encoding": {"fill": fill("heat"), "description": {"field": "said"}},
            },
            {
                "mark": {"type": "text", "font": MONO, "fontSize": 12, "aria": False},
                "encoding": {"text": {"field": "class"}, "fill": fill("on-heat")},
            },
        ],
        "resolve": {"scale": {"fill": "independent"}},
    }
    return from_vega_lite(spec, title, description)


def _elements(cell: Cell, extent: Extent) -> str:
    """The elements of a cell, in words."""
    pairs = zip(("row", "column"), (cell.row, cell.column), extent.block, extent.matrix, strict=True)
    parts = []
    for name, place, size, limit in pairs:
        first, last = place * size, min(place * size + size, limit) - 1
        parts.append(f"{name} {first}" if first == last else f"{name}s {first} to {last}")
    return ", ".join(parts)


def _said(cell: Cell, extent: Extent) -> str:
    size = "NaN or infinite on one side" if cell.apart is None else f"off by {cell.apart:g}"
    if extent.block == (1, 1):
        return size
    return f"{cell.wrong} wrong, {size if cell.apart is None else f'off by up to {cell.apart:g}'}"


# --- the campaign -----------------------------------------------------------------------------------------------------


def course_chart(course: Course, title: str, description: str, *, width: int) -> Markup:
    """What was compared in a minute, by target, and below it what was reached and how many bugs, over the time of work.

    Sources of coverage count different things, so each has a panel of its own.
    """
    hours = course.seconds > 3 * 3600
    unit, scale = ("hours", 3600) if hours else ("minutes", 60)
    rows = [
        {"at": span.began / scale, "rate": rate, "target": visible(target)}
        for target in course.targets
        for span, rate in zip(course.spans, course.rates(target), strict=True)
    ]
    targets = [visible(target) for target in course.targets]
    time = {"field": "at", "type": "quantitative", "title": f"{unit} of work", "axis": {"tickCount": width // 70}}
    named = {"field": "target", "type": "nominal"}
    legend = {
        "title": None,
        "orient": "top",
        "columns": 1 if width < 400 else 2,
        "symbolSize": 500,
        "columnPadding": 60,
    }
    line = {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "aria": False}
    rate = {
        "width": width,
        "height": 150,
        "data": {"values": rows},
        "mark": line,
        "encoding": {
            "x": {**time, "title": None},
            "y": {"field": "rate", "type": "quantitative", "title": "compared a minute", "axis": {"tickCount": 4}},
            "stroke": {
                **named,
                "scale": {"domain": targets, "range": [f"var(--line-{n % 6 + 1})" for n in range(len(targets))]},
                "legend": legend,
            },
            "strokeDash": {
                **named,
                "scale": {"domain": targets, "range": [_DASHES[n % len(_DASHES)] for n in range(len(targets))]},
                "legend": legend,
            },
        },
    }
    starts = [span.began / scale for span in course.spans]
    sums = [
        *(_sum(starts, course.coverage(one), visible(one), "var(--line-1)", width) for one in course.sources),
        _sum(starts, course.bugs(), "bugs", "var(--alarm)", width),
    ]
    for panel in sums:
        panel["encoding"]["x"] = {**time, "title": time["title"] if panel is sums[-1] else None}
    again = {
        "data": {"values": [{"at": seconds / scale} for seconds in course.resumed]},
        "mark": {"type": "rule", "strokeDash": [3, 3], "stroke": FAINT, "aria": False},
        "encoding": {"x": time},
    }
    panels = [{"width": one["width"], "height": one["height"], "layer": [_bare(one), again]} for one in (rate, *sums)]
    return from_vega_lite({"vconcat": panels, "spacing": 12}, title, description)


def _sum(starts: Sequence[float], counts: Iterable[int], title: str, stroke: str, width: int) -> dict[str, Any]:
    """A panel of what has come together by then."""
    line = {"type": "line", "interpolate": "step-after", "strokeWidth": 2, "aria": False, "stroke": stroke}
    values = [{"at": at, "count": count} for at, count in zip(starts, counts, strict=True)]
    few = range(int(values[-1]["count"]) + 1)  # of few, a tick for each: there is no half of one
    ticks = {"values": list(few)} if len(few) < 5 else {"tickCount": 3}
    count = {"field": "count", "type": "quantitative", "title": title}
    return {
        "width": width,
        "height": 60,
        "data": {"values": values},
        "mark": line,
        "encoding": {"y": {**count, "axis": {**ticks, "format": "~s"}}},
    }


def _bare(panel: Mapping[str, Any]) -> dict[str, Any]:
    """A panel as a layer, which has no size of its own."""
    return {name: value for name, value in panel.items() if name not in ("width", "height")}

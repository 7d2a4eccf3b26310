"""How a campaign went on: its log as numbers over the time of work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shakeout.fuzz.ground.events import LOG
from shakeout.fuzz.reporting.course import LEAST, SPANS, Course, course


def logged(directory: Path, *events: tuple[float, str, dict[str, Any]], rest: str = "") -> Course:
    lines = [json.dumps({"time": when, "event": kind, **more}) for when, kind, more in events]
    (directory / LOG).write_text("\n".join([*lines, rest]))
    return course(directory)


def done(when: float, target: str = "a", status: str = "compared") -> tuple[float, str, dict[str, Any]]:
    return when, "CaseDone", {"target": target, "status": status}


def test_cases_and_bugs_are_counted_span_by_span(tmp_path: Path) -> None:
    found = logged(
        tmp_path,
        (1000.0, "Started", {}),
        done(1001.0),
        done(1004.0),
        done(1004.5, status="unsupported"),
        (1006.0, "BugOpened", {}),
        done(1007.0, "b"),
        (1007.5, "Finished", {}),
    )
    assert (found.seconds, found.step, found.targets, found.resumed) == (7.5, LEAST, ("a", "b"), ())
    assert [span.began for span in found.spans] == [0.0, 5.0]
    assert [dict(span.finished) for span in found.spans] == [{"a": 3}, {"b": 1}]
    assert list(found.rates("a")) == [24.0, 0.0]
    assert list(found.rates("b")) == [0.0, 24.0]  # the last span is half as long
    assert list(found.bugs()) == [0, 1]


def test_coverage_is_summed_up_by_source_and_what_is_no_number_is_none(tmp_path: Path) -> None:
    def reached(when: float, told: Any) -> tuple[float, str, dict[str, Any]]:
        return when, "CaseDone", {"target": "a", "status": "compared", "reached": told}

    found = logged(
        tmp_path,
        (1000.0, "Started", {}),
        reached(1001.0, 70),
        reached(1002.0, {"python": 5, "space": 2, "native code": 1}),
        reached(1006.0, {"python": 3, "space": "many", "worse": -1}),
        reached(1007.0, None),
        reached(1007.0, 0),
    )
    assert found.sources == ("native code", "python", "space")
    assert [list(found.coverage(one)) for one in found.sources] == [[71, 71], [5, 8], [2, 2]]


def test_pauses_are_no_work(tmp_path: Path) -> None:
    found = logged(
        tmp_path,
        (1000.0, "Started", {}),
        done(1002.0),
        (9000.0, "Started", {}),
        done(9002.0),
        done(8000.0),  # the clock was set back
        done(9004.0),
    )
    assert (found.seconds, found.resumed) == (6.0, (2.0,))
    assert [span.compared["a"] for span in found.spans] == [3, 1]


def test_a_long_one_has_longer_spans_and_loses_nothing(tmp_path: Path) -> None:
    found = logged(tmp_path, (1.0, "Started", {}), *(done(1.0 + 7 * number) for number in range(1000)))
    assert SPANS / 2 <= len(found.spans) <= SPANS
    assert found.step == 160.0
    assert sum(span.compared["a"] for span in found.spans) == 1000
    assert [span.began for span in found.spans] == [160.0 * number for number in range(len(found.spans))]


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    events = [(1000.0, "Started", {}), done(float("nan")), done(1e300), done(1003.0), ("soon", "CaseDone", {})]
    found = logged(tmp_path, *events, rest='{"time": 1004.0, "event": "CaseDo')
    assert found.seconds == 3.0
    assert [span.compared["a"] for span in found.spans] == [1]


def test_without_a_log_there_is_nothing(tmp_path: Path) -> None:
    assert course(tmp_path) == Course(0.0, LEAST, (), ())
    assert logged(tmp_path, done(1000.0)).spans == ()

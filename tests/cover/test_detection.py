"""A fault that a campaign does not find has the owner that it ought to have."""

import os
from typing import Any

import pytest
import torch
from tests.benchmarks import detection
from tests.faults import FAULTS, planted

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.fuzz.running.execute import execute, repro

FAULT = next(fault for fault in FAULTS if fault.target == "aot_eager" and not fault.missed)


def row(**lists: list[str]) -> dict[str, Any]:
    return {"campaign": FAULT.target, "index": 0, **lists}


def test_owners() -> None:
    name = [FAULT.name]
    assert detection.owner(FAULT, []) == "generator"
    assert detection.owner(FAULT, [{**row(detected=name), "campaign": "tvm"}]) == "generator"
    assert detection.owner(FAULT, [row(reached=name), row()]) == "values"
    assert detection.owner(FAULT, [row(reached=name, triggered=name)]) == "not tried"
    tried = row(reached=name, triggered=name, tried=name, detected=[])
    assert detection.owner(FAULT, [tried]) == "oracles"
    assert detection.owner(FAULT, [tried, row(reached=name, triggered=name, tried=name, detected=name)]) == "detected"
    assert FAULT.name in detection.owners([tried])


def test_a_fault_is_detected_where_it_is_triggered_and_nowhere_else() -> None:
    assert detection.trials(FAULT.case(), [FAULT]) == {"tried": [FAULT.name], "detected": [FAULT.name]}

    other = capture(lambda x: x, lambda: [torch.ones(1)], setting=Setting(FAULT.target, ()))
    assert detection.trials(other, [FAULT]) == {"tried": [FAULT.name], "detected": []}


def test_a_crash_of_a_child_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def heard(target: str, index: int, tried: dict[str, int]) -> dict[str, Any]:
        if index == 2:
            os._exit(3)
        return {"campaign": target, "index": index}

    monkeypatch.setattr(detection, "heard", heard)
    known = [{"campaign": "eager", "index": 0, "tried": ["fault"]}]
    rows = [row for batch in detection.campaign("eager", 5, known, workers=2) for row in batch]
    assert [one["index"] for one in rows] == [1, 2, 3, 4], "what has a row already does not run again"
    assert [one.get("status") for one in rows] == [None, "process died", None, None]


def test_no_batch_begins_when_the_time_is_over() -> None:
    assert not list(detection.campaign("eager", 5, [], seconds=0.0))


@pytest.mark.parametrize(("place", "told"), [(place, place == "whole numbers") for place in detection.PLACES])
def test_how_small_an_error_of_one_element_is_seen(place: str, told: bool) -> None:
    one = detection.products(place, 100)
    rows = {error: detection.measure(detection.lone(place, error), one) for error in (1e-1, 1e-5, 1e-6)}
    assert all(row["triggered"] for row in rows.values())
    assert [row["shakeout"] for row in rows.values()] == [True, True, told], "the last one is a rounding error"
    assert [row["fixed 1e-2/1e-3"] for row in rows.values()] == [place != "input", False, False]
    lines = detection.seen([{"place": place, "elements": 100, "error": error, **row} for error, row in rows.items()])
    assert lines.splitlines()[1].split()[-4] == "seen"


def test_the_script_shows_what_only_the_derived_tolerance_tells() -> None:
    one = detection.products("output", 10)
    with planted(detection.lone("output", 1e-5)):
        result = execute(one)
    assert result.failure is not None
    assert result.failure.symptom == "imprecise value"
    assert result.vendor is not None
    assert not result.vendor.reportable, "within the default tolerances: nobody would want to hear of it"
    text = repro(one, result)
    apart = abs(result.failure.evidence["found"] - result.failure.evidence["expected"])
    namespace: dict[str, Any] = {}
    exec(text[text.index("TOLERANCES =") :].splitlines()[0], namespace)
    assert 0 < namespace["TOLERANCES"]["float32"][1] < apart

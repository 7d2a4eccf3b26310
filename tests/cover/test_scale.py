"""The benchmark of scale counts what lies in its window, and measures no cell twice."""

import json
import sys
import time
from pathlib import Path

import pytest
from tests.benchmarks import scale


def test_a_row_counts_what_was_compared_in_the_window(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    now = time.time()
    done = {"step": scale.LAST_STEP, "done": True}
    events = [{"time": now - 100, "event": "Warming", **done, "done": False}]
    events += [{"time": now - 90, "event": "Warming", **done}]
    for second in range(10, 71):
        status = "compared" if second % 2 == 0 else "unsupported"
        events.append({"time": now - 90 + second, "event": "CaseDone", "status": status, "phases": {"run": 0.5}})
    events.append({"time": now - 20, "event": "FindingSeen"})
    log.write_text("".join(json.dumps(event) + "\n" for event in events) + '{"cut off')
    course = scale.Course(log)
    course.read()
    assert course.began is not None
    looks = [
        scale.Look(
            course.began + second,
            {"supervisor": second / 100, "workers": second * 1.0, "confirming": second * 0.9},
            5,
            1 << 30,
        )
        for second in range(80)
    ]
    cell = scale.Cell("inductor", 2, 60.0, 10.0, True, ())
    row = scale._row(cell, course, looks, course.began - 7)
    assert row["first_compared_after"] == pytest.approx(10, abs=0.1)
    assert row["start_seconds"] == pytest.approx(7, abs=0.1)
    assert row["compared_by_minute"] == [25, 6]
    # From twenty seconds after the start to sixty: every second second, of two workers.
    assert row["window"] == pytest.approx(40, abs=2)
    assert row["per_worker_minute"] == pytest.approx(15, abs=1)
    assert row["per_worker_cpu_minute"] == pytest.approx(60 * row["compared"] / (1.01 * row["window"]), abs=0.1)
    assert row["busy"] == pytest.approx(1.91 / 2, abs=0.01)
    line = scale._line(row, {"per_worker_minute": row["per_worker_minute"] / 2, "per_worker_cpu_minute": 59.4})
    assert "compared per worker-minute, 200 % of one worker's" in line
    assert "per CPU minute without confirming, 50 % of one worker's" in line
    assert row["supervisor_ms_per_case"] == pytest.approx(20, abs=1)
    assert (row["findings"], row["memory"], row["processes"]) == (1, 1 << 30, 5)


def test_what_has_its_row_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    arguments = ["scale.py", "--targets", "machine", "--workers", "1", "2", "--seconds", "0.2", "--rows", str(rows)]
    monkeypatch.setattr(sys, "argv", arguments)
    scale.main()
    first = rows.read_text()
    assert [json.loads(line)["workers"] for line in first.splitlines()] == [1, 2]
    capsys.readouterr()
    scale.main()
    assert rows.read_text() == first
    assert "..." not in capsys.readouterr().out
    # A row of another commit is no row of this one's.
    rows.write_text(first.replace(json.loads(first.splitlines()[0])["commit"], "another"))
    monkeypatch.setattr(scale, "run_machine", lambda cell, cores: {**scale._head(cell), "broken": "not run"})
    scale.main()
    assert len(rows.read_text().splitlines()) == 4
    rows.write_text(first)
    monkeypatch.setattr(sys, "argv", [*arguments, "--targets", "kernel", "--seconds-total", "1"])
    scale.main()
    assert rows.read_text() == first
    assert capsys.readouterr().out.count("left out") == 2


def test_what_many_workers_reach_and_where_the_supervisor_is_full() -> None:
    def row(workers: int, rate: float, supervisor: float) -> dict[str, object]:
        share = {"per_worker_minute": rate, "per_worker_cpu_minute": rate, "supervisor_share": supervisor}
        return {"target": "tvm", "workers": workers, **share}

    one = row(1, 100.0, 0.02)
    said = scale.told([one, row(16, 90.0, 0.2), row(30, 81.0, 0.5)])
    assert said.endswith(
        "by the clock 16 workers 90%, 30 workers 81%: reached 80%; the supervisor is full with 60 workers"
    )
    assert "30 workers 79%: NOT 80%" in scale.told([one, row(30, 79.0, 0.5)])
    assert scale.told([one]) == scale.told([row(16, 90.0, 0.2)]) == ""
    assert set(scale.EXTRA) <= set(scale.FULL["targets"])

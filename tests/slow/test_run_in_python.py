"""``shakeout.run``: a campaign from Python, silent, with what it found as values."""

from pathlib import Path

import pytest

import shakeout


def test_what_does_not_fit_is_told_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--minutes: expected a positive number, found -1"):
        shakeout.run("planted", minutes=-1, directory=tmp_path / "run")
    with pytest.raises(ValueError, match="unknown target 'nowhere'"):
        shakeout.run("nowhere", directory=tmp_path / "run")
    with pytest.raises(ValueError, match="fault takes"):
        shakeout.run("planted", knobs={"fault": "none at all"}, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_campaign_gives_its_bugs_with_their_cases(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = shakeout.run(
        "planted", knobs={"fault": "exception"}, cases=8, workers=2, operators=1, directory=tmp_path / "run"
    )
    assert capfd.readouterr() == ("", "")
    assert found.ended == "cases"
    assert found.totals["planted"].generated >= 8
    (bug,) = found.bugs
    assert found.new == (bug,)
    assert bug.case is not None
    assert bug.result is not None
    assert bug.result.failure.symptom == "RuntimeError"
    assert bug.case.setting.knob("fault") == "exception"
    assert (found.directory, found.report.parent) == (tmp_path / "run", tmp_path / "run")
    assert "1 new bug" in found.summary
    again = shakeout.run(
        "planted", knobs={"fault": "exception"}, cases=8, workers=2, operators=1, directory=tmp_path / "run"
    )
    assert [one.id for one in again.bugs] == [bug.id]
    assert not again.new

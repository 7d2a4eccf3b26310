"""What was tried on the cases that ship: written into their files by a machine, and read back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shakeout.corpus import known, regressions
from shakeout.corpus.case import Setting
from shakeout.corpus.codec import MalformedCase
from shakeout.corpus.evidence import Evidence
from shakeout.fuzz.bisect import trials
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.minimise import executors
from shakeout.fuzz.reporting import shipped

EVIDENCE = Evidence({"torch": "2.13.0"}, "5 of 5", True, "short", ("stage aot_eager; confidence 1.00",))
BUGS: tuple[shipped.Bug, ...] = (*known.load_all(), *regressions.load_all())


def test_evidence_is_written_before_the_case_and_read_back(tmp_path: Path) -> None:
    for folder, load in ((known.DIRECTORY, known.load), (regressions.DIRECTORY, regressions.load)):
        path = tmp_path / "bug.json"
        original = json.loads(sorted(folder.glob("*.json"))[0].read_text())
        path.write_text(json.dumps({key: value for key, value in original.items() if key != "evidence"}))
        assert load(path).evidence is None
        case = load(path).case
        shipped.write(path, case, EVIDENCE)
        assert load(path).evidence == EVIDENCE
        shipped.write(path, case, EVIDENCE)
        assert list(json.loads(path.read_text()))[-2:] == ["evidence", "case"]
        assert load(path).case.id == case.id
        plain = replace(case, setting=Setting(case.setting.target))
        shipped.write(path, plain, EVIDENCE)
        assert load(path).case.id == plain.id


@pytest.mark.parametrize(
    "broken", [[], {}, {**EVIDENCE.to_json(), "script": "no"}, {**EVIDENCE.to_json(), "packages": 3}]
)
def test_broken_evidence_is_told(tmp_path: Path, broken: object) -> None:
    path = tmp_path / "bug.json"
    original = json.loads(sorted(regressions.DIRECTORY.glob("*.json"))[0].read_text())
    path.write_text(json.dumps({**original, "evidence": broken}))
    with pytest.raises(MalformedCase, match=r"bug\.json"):
        regressions.load(path)


def test_a_name_that_does_not_ship_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert shipped.main(["no-such-bug"]) == Exit.USAGE
    assert "no-such-bug" in capsys.readouterr().err


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.id)
def test_what_ships_is_minimal_was_bisected_and_has_a_script(bug: shipped.Bug) -> None:
    assert bug.evidence is not None, "python -m shakeout.fuzz.reporting.shipped looks at it"
    assert bug.evidence.minimal
    assert bug.evidence.script != "none"
    assert bug.evidence.bisection


@pytest.mark.long
def test_a_case_is_looked_at(tmp_path: Path) -> None:
    bug = next(bug for bug in BUGS if bug.id == "polygamma-in-place-is-taken-for-custom")
    setting = bug.case.setting
    with (
        executors.CandidatePool(tmp_path / "candidates", setting, 2) as candidates,
        trials.TrialPool(tmp_path / "parts", setting, 2) as parts,
    ):
        case, evidence = shipped.looked_at(bug.case, candidates, parts)
    assert case.id == bug.case.id
    assert evidence.minimal
    assert evidence.reliability == "5 of 5"
    assert evidence.script == "short"
    assert any(line.startswith("stage aot_eager") for line in evidence.bisection)

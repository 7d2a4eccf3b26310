"""Stored cases as tests: what is collected of which folder, and a real pytest that replays them in two processes."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shakeout.corpus import regressions
from shakeout.corpus.codec import MalformedCase
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign.selftest import case
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.finding_folder import MINIMISED, write_finding
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.plugin import stored
from shakeout.fuzz.triage.replay_bugs import Item
from shakeout.oracles.verdict import Outcome, Verdict

WRONG = Result("", "planted", "compared", (Verdict("value", Outcome.FAIL, "wrong value", "2 expected,\n\x1b[31m3"),))


def finding(folder: Path, fault: str = "wrong value", result: Result = WRONG) -> Path:
    write_finding(folder, case=case(fault).text, script="", result=result.to_json(), environment={})
    return folder / "case.json"


def regression(path: Path, status: str, fault: str = "no fault") -> Path:
    """One whose status is known for the installed torch."""
    from importlib.metadata import version

    words = dict.fromkeys(("found", "explanation", "reference", "searched", "culprit"), "")
    failure = {"oracle": "value", "symptom": "wrong value"}
    release = {f"torch {version('torch').partition('+')[0]}": status}
    told = {"title": "a planted one", "judgement": "real", "failure": failure, "status": release}
    path.write_text(json.dumps({**words, **told, "case": json.loads(case(fault).text)}))
    return path


# --- what is collected ------------------------------------------------------------------------------------------------


def test_a_finding_is_known_to_fail_as_it_did(tmp_path: Path) -> None:
    one = stored.load(finding(tmp_path / "SH-0001"))
    assert one.fails
    assert one.strict
    assert one.name == "planted-add_+mul-SH-0001"
    assert one.item.failure == Failure("planted", "value", "wrong value")
    assert "\x1b" not in one.reason
    assert "\n" not in one.reason
    assert "remove" in one.reason


def test_the_smallest_case_of_a_finding_stands_for_it_however_it_fails(tmp_path: Path) -> None:
    finding(tmp_path / "SH-0001")
    (tmp_path / "SH-0001" / MINIMISED).write_text(case("abort").text)
    assert stored.contents(tmp_path / "SH-0001") == ([], [tmp_path / "SH-0001" / MINIMISED])
    one = stored.load(tmp_path / "SH-0001" / MINIMISED)
    assert one.item.case == case("abort")
    assert one.item.failure is None


def test_a_case_alone_has_to_pass(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text(case("no fault").text)
    one = stored.load(path)
    assert not one.fails
    assert one.name == f"planted-add_+mul-{case('no fault').id[:8]}"


@pytest.mark.parametrize(("status", "fails"), [("fails", True), ("fixed", False)])
def test_a_regression_does_what_is_written_down_for_the_installed_version(
    tmp_path: Path, status: str, fails: bool
) -> None:
    assert stored.load(regression(tmp_path / "one.json", status)).fails is fails


def test_a_regression_that_nobody_tried_here_does_what_it_did_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "describe", lambda: {"packages": {"torch": "9.0"}})
    names = ("flip-of-a-scalar", "all-over-no-dimension")
    assert [stored.load(regressions.DIRECTORY / f"{name}.json").fails for name in names] == [False, True]


def test_what_a_campaign_knows_of_its_bugs_decides(tmp_path: Path) -> None:
    ids = []
    with Database.create(tmp_path / NAME) as database:
        for state, name in (("confirmed", "one"), ("flaky", "two"), ("confirmed", "three"), ("known", "four")):
            bug, _ = database.add_finding(
                signature=name,
                title=f"{name} is wrong",
                target="planted",
                oracle="value",
                symptom="wrong value",
                job=1,
                case_id=case("wrong value").id,
                case_json=case("wrong value").text,
                result=WRONG.to_json(),
                state=state,
            )
            ids.append(bug.id)
            finding(tmp_path / bug.id)
        database.add_replay(ids[2], "fixed", "", {})
    finding(tmp_path / "SH-ffff")  # of a bug that is another one by now
    folders, files = stored.contents(tmp_path)
    assert (sorted(path.name for path in folders), files) == (sorted(ids[:3]), [])
    known, flaky, fixed = (stored.load(tmp_path / name / "case.json") for name in ids[:3])
    assert (known.fails, known.strict, flaky.strict) == (True, True, False)
    assert not fixed.fails
    assert f"shakeout replay --all {tmp_path}" in known.reason


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    assert not stored.holds(tmp_path)
    (tmp_path / "inner" / "a.json").write_text(case("no fault").text)
    assert stored.holds(tmp_path)


@pytest.mark.parametrize("name", ["case.json", "result.json", "sequence.jsonl"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    path = finding(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    with pytest.raises(MalformedCase, match=f"{name}: not a regular file"):
        stored.load(path)


def test_what_runs_before_a_case_is_read_as_carefully_as_the_case(tmp_path: Path) -> None:
    path = finding(tmp_path)
    hostile = case("no fault").text.replace("torch.mul", "os.system")
    (tmp_path / "sequence.jsonl").write_text(f"{hostile}\n{case('wrong value').text}\n")
    with pytest.raises(MalformedCase, match=r"os\.system is not an operator"):
        stored.load(path)


def test_what_a_user_wrote_is_imported_by_workers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_of_the_plugin.py").write_text("import shakeout\nraise SystemExit('imported')\n")
    monkeypatch.chdir(tmp_path)
    item = Item("bug", "x", "", replace(case("no fault"), setting=case("no fault").on("mine_of_the_plugin:f").setting))
    assert stored.unable(item) == ""


# --- pytest itself ----------------------------------------------------------------------------------------------------

#: Stands above the folder of cases, so it is imported.
ABOVE = """
import sys
def pytest_sessionfinish():
    if "torch" in sys.modules:
        print("TORCH WAS IMPORTED")
"""


def pytest_of(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    root = tmp_path_factory.mktemp("plugin")
    cases = root / "cases"
    cases.mkdir()
    (root / "conftest.py").write_text(ABOVE)
    (cases / "conftest.py").write_text("raise SystemExit('a conftest.py among the cases was imported')")
    (cases / "passes.json").write_text(case("no fault").text)
    (cases / "differs.json").write_text(case("wrong value").text)
    finding(cases / "SH-0001")
    finding(cases / "SH-0002", "no fault")
    finding(cases / "SH-0003", "abort")
    hang = replace(WRONG, verdicts=(Verdict("hang", Outcome.FAIL, "hang", "no answer", "run"),))
    finding(cases / "SH-0004", "hang", hang)
    (cases / "nowhere.json").write_text(case("no fault").text.replace('"planted"', '"nowhere"'))
    (cases / "broken.json").write_text("[[[")
    (cases / "hostile.json").write_text(case("no fault").text.replace("torch.mul", "os.system"))
    arguments = ("--shakeout-cases", "cases", "--shakeout-time-limit", "2", "--continue-on-collection-errors")
    done = pytest_of(root, *arguments, "-n", "2")
    (cases / "conftest.py").unlink()  # one in a folder that is named as an argument belongs to pytest
    return done, root


def outcome(said: str, file: str) -> str:
    found = re.findall(rf"^(\w+) (?:\[1\] )?cases/{file}\b", said, re.MULTILINE)
    return found[0] if found else ""


def test_each_case_is_a_test_that_takes_nothing_down(
    ran: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, _ = ran
    wanted = {
        "passes.json": "PASSED",
        "differs.json": "FAILED",
        "SH-0001": "XFAIL",
        "SH-0002": "FAILED",  # fixed
        "SH-0003": "FAILED",  # fails otherwise
        "SH-0004": "XFAIL",
        "nowhere.json": "SKIPPED",
        "broken.json": "ERROR",
        "hostile.json": "ERROR",
    }
    assert {file: outcome(done.stdout, file) for file in wanted} == wanted, done.stdout + done.stderr
    assert done.returncode == 1
    assert "TORCH WAS IMPORTED" not in done.stdout


def test_reports_are_short_and_say_what_to_do(ran: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    said = ran[0].stdout
    assert "Traceback" not in said
    assert ".py:" not in said.partition("short test summary")[0].replace("conftest.py:", "")
    assert "broken.json: not JSON" in said
    assert "os.system is not an operator of torch" in said
    assert "SKIPPED [1] cases/nowhere.json: unknown target 'nowhere'" in said
    assert "[XPASS(strict)] known: SH-0002" in said
    assert "remove cases/SH-0002/result.json; from then on it has to pass" in said
    assert "crash: SIGABRT" in said
    assert "it was known to fail otherwise: planted | value | wrong value" in said
    assert "value: wrong value. output 0[1, 2]: expected 10.0, found 11.0" in said
    assert "replay: shakeout replay cases/differs.json" in said


def test_cases_are_chosen_like_other_tests(ran: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    root = ran[1]
    listed = pytest_of(root, "--shakeout-cases", "cases", "--collect-only", "-q", "-k", "SH-0001 or SH-0003")
    assert re.findall(r"^cases/(\S+)", listed.stdout, re.MULTILINE) == [
        f"SH-000{n}/case.json::planted-add_+mul-SH-000{n}" for n in (1, 3)
    ]
    one = "cases/SH-0003/case.json::planted-add_+mul-SH-0003"
    listed = pytest_of(root, "--shakeout-cases", "cases", "--collect-only", "-q", one)
    assert re.findall(r"^cases/\S+", listed.stdout, re.MULTILINE) == [one]


def test_nothing_to_replay_is_not_green(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "test_one.py").write_text("def test_one(): pass\n")
    done = pytest_of(tmp_path, "--shakeout-cases", "none")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "holds neither a campaign nor the file of a case" in done.stdout
    done = pytest_of(tmp_path, "--shakeout-cases", "misspelt")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "misspelt is no directory" in done.stderr


def test_without_the_option_nothing_of_ours_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "import sys\n\ndef test_one():\n    print('OURS', *(m for m in sys.modules if m.startswith('shakeout')))\n"
    )
    done = pytest_of(tmp_path, "-s")
    (line,) = [line for line in done.stdout.splitlines() if "OURS" in line]
    assert set(line.partition("OURS ")[2].split()) == {
        "shakeout",
        "shakeout.fuzz",
        "shakeout.fuzz.plugin",
        "shakeout.fuzz.plugin.hooks",
    }

"""The command line: every mistake is one clear line with its own exit status, and looking is quick."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus.database import NAME, Database
from shakeout.fuzz import cli
from shakeout.fuzz.ground.exits import Exit

COMMANDS = ["run", "resume", "status", "bugs", "replay", "targets", "operators", "selftest", "doctor"]


def run(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    try:
        status = cli.main(arguments)
    except SystemExit as error:
        status = int(error.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def campaign(directory: Path) -> Path:
    directory.mkdir(parents=True)
    Database.create(directory / NAME).close()
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(capsys: pytest.CaptureFixture, command: str) -> None:
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"example:\n  shakeout {command}" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "invalid choice"),
        (["run", "--minutes", "five"], "invalid float value"),
        (["run", "--minutes", "0"], "--minutes: expected a positive number, found 0"),
        (["run", "--workers", "-1"], "--workers: expected a positive whole number"),
        (["run", "--memory-limit", "1"], "--memory-limit"),
        (["run", "--target", "inducter"], "unknown target 'inducter'; there are eager, aot_eager, inductor"),
        (["run", "--knob", "simdlen"], "--knob: expected NAME=VALUE"),
        (["run", "--knob", "cpp.simdlem=1"], "did you mean cpp.simdlen?"),
        (["run", "--knob", "cpp.simdlen=7"], "cpp.simdlen takes None, 1, 256; found 7"),
        (["run", "--config", "none.toml"], "none.toml: cannot be read"),
        (["bugs", "shew", "SH-1"], "expected nothing, 'show ID', 'set ID STATUS', 'merge"),
        (["bugs", "--note", "fixed"], "--note goes with 'set ID STATUS'"),
        (["bugs", "show", "SH-1", "--target", "tvm"], "--target, --state, --status and --text with the list"),
        (["replay", "nothing"], "no file, no bug's id"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture, arguments: list[str], words: str) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == Exit.USAGE
    assert words in err


def test_a_missing_package_is_told_with_the_line_that_installs_it(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shakeout.targets.packages.module_available", lambda name: False)
    status, _, err = run(capsys, "run", "--target", "aot_eager")
    assert status == Exit.USAGE
    assert "target aot_eager cannot run here: torch is not installed: pip install" in err


def test_without_a_campaign(capsys: pytest.CaptureFixture) -> None:
    for command in ("status", "bugs", "operators", "resume"):
        status, _, err = run(capsys, command)
        assert status == Exit.DIRECTORY
        assert "shakeout run" in err


def test_a_directory_that_is_no_campaign(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    status, _, err = run(capsys, "status", str(tmp_path))
    assert status == Exit.DIRECTORY
    assert "not a campaign's directory" in err


@pytest.mark.parametrize("command", ["status", "operators", "resume"])
def test_a_damaged_database(capsys: pytest.CaptureFixture, command: str) -> None:
    directory = campaign(Path("runs/broken"))
    (directory / "campaign.toml").write_text("")
    (directory / NAME).write_bytes(b"this is no database, and long enough to be looked at" * 40)
    status, _, err = run(capsys, command, str(directory))
    assert status == Exit.DIRECTORY
    assert NAME in err


@pytest.mark.parametrize("command", ["status", "resume"])
def test_a_campaign_of_a_newer_version(capsys: pytest.CaptureFixture, command: str) -> None:
    directory = campaign(Path("runs/newer"))
    (directory / "campaign.toml").write_text("")
    with sqlite3.connect(directory / NAME) as connection:
        connection.execute("PRAGMA user_version=99")
    status, _, err = run(capsys, command, str(directory))
    assert status == Exit.DIRECTORY
    assert "newer" in err


def test_a_place_that_cannot_be_written(capsys: pytest.CaptureFixture) -> None:
    # A file stands where the directory would be; that stops root as well.
    Path("file").write_text("")
    status, _, err = run(capsys, "run", "--directory", "file/campaign", "--plain")
    assert status == Exit.DIRECTORY
    assert "file" in err


def test_an_unknown_bug(capsys: pytest.CaptureFixture) -> None:
    campaign(Path("runs/one"))
    status, _, err = run(capsys, "bugs", "show", "SH-0000")
    assert status == Exit.USAGE
    assert "SH-0000" in err


def bugs(capsys: pytest.CaptureFixture, *arguments: str) -> list[dict[str, Any]]:
    status, out, _ = run(capsys, "bugs", *arguments, "--json")
    assert status == Exit.OK
    found = json.loads(out)
    return found if isinstance(found, list) else [found]


@pytest.fixture
def two_bugs() -> list[str]:
    directory = campaign(Path("runs/one"))
    with Database.open(directory / NAME) as database:
        rest = {"oracle": "value", "case_json": "{}", "result": {}}
        first, _ = database.add_finding(
            signature="a", title="NaN lost", target="tvm", symptom="NaN lost", job=1, case_id="a", **rest
        )
        second, _ = database.add_finding(
            signature="b", title="wrong value", target="openvino", symptom="values", job=2, case_id="b", **rest
        )
    return [first.id, second.id]


def test_what_is_said_of_a_bug_is_kept(capsys: pytest.CaptureFixture, two_bugs: list[str]) -> None:
    first, second = two_bugs
    status, out, _ = run(capsys, "bugs", "set", first, "reported", "--note", "https://example.org/1")
    assert status == Exit.OK
    assert f"{first}   new" in out
    assert "[reported: https://example.org/1]" in out
    assert bugs(capsys, "set", first, "duplicate-of", second)[0]["duplicate_of"] == second
    _, out, _ = run(capsys, "bugs", "show", first)
    assert [line.split(": ", 1)[1] for line in out.splitlines() if line.startswith("  said ")] == [
        "reported: https://example.org/1",
        f"duplicate of {second}",
    ]
    assert f"  copies    {first}" in run(capsys, "bugs", "show", second)[1]
    # It can be taken back, and the history tells that it was said.
    assert bugs(capsys, "set", first, "open")[0]["status"] == "open"
    assert [one["status"] for one in bugs(capsys, "show", first)[0]["history"]] == ["reported", "duplicate-of", "open"]
    assert "copies" not in run(capsys, "bugs", "show", second)[1]


def test_what_to_do_next_works_wherever_the_campaign_is(capsys: pytest.CaptureFixture, two_bugs: list[str]) -> None:
    for directory, bugs_of, triage in (
        (Path("runs/one"), "", ""),
        (Path("elsewhere/a run"), " --directory 'elsewhere/a run'", " 'elsewhere/a run'"),
    ):
        if not directory.exists():
            directory.parent.mkdir()
            shutil.copytree("runs/one", directory)
        with Database.open(directory / NAME) as database:
            row = {"symptom": "values", "job": 3, "case_id": "c", "oracle": "value", "case_json": "{}", "result": {}}
            database.add_finding(signature="c", title="values", target="tvm", state="confirmed", **row)
        advice = run(capsys, "status", str(directory))[1].splitlines()[-1]
        assert advice.startswith(f"see `shakeout bugs --top 10{bugs_of}`"), advice
        for command in re.findall(r"`shakeout ([^`]*)`", advice):
            assert triage in command
            if command.startswith("bugs"):
                assert run(capsys, *shlex.split(command))[0] == Exit.OK
    assert run(capsys, "bugs", "elsewhere")[2].rstrip().endswith("; of a campaign elsewhere: --directory elsewhere")


def test_bugs_are_filtered(capsys: pytest.CaptureFixture, two_bugs: list[str]) -> None:
    first, second = two_bugs
    run(capsys, "bugs", "set", second, "wontfix")
    for arguments, wanted in {
        (): two_bugs,
        ("--target", "tvm"): [first],
        ("--target", "tvm", "--target", "openvino"): two_bugs,
        ("--state", "confirmed"): [],
        ("--status", "open"): [first],
        ("--status", "wontfix", "--target", "openvino"): [second],
        ("--text", "nan"): [first],
    }.items():
        assert [bug["id"] for bug in bugs(capsys, *arguments)] == wanted, arguments
    assert "no such bugs in" in run(capsys, "bugs", "--text", "nothing")[1]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (["0", "fixed"], "'fixed' is no status; choose one of open, reported, invalid, wontfix, duplicate-of"),
        (["0", "duplicate-of"], "duplicate-of takes the id of the other bug"),
        (["0", "reported", "1"], "only duplicate-of does"),
        (["0", "duplicate-of", "0"], "itself"),
        (["1", "duplicate-of", "0"], "counts as its duplicate already"),
        (["0", "duplicate-of", "SH-0000"], "no bug begins with"),
        (["0"], "expected nothing, 'show ID', 'set ID STATUS', 'merge"),
    ],
)
def test_what_cannot_be_said_of_a_bug(
    capsys: pytest.CaptureFixture, two_bugs: list[str], what: list[str], words: str
) -> None:
    ids = {"0": two_bugs[0], "1": two_bugs[1]}
    run(capsys, "bugs", "set", two_bugs[0], "duplicate-of", two_bugs[1])
    status, _, err = run(capsys, "bugs", "set", *(ids.get(word, word) for word in what))
    assert status == Exit.USAGE
    assert words in err
    assert len(bugs(capsys, "show", two_bugs[0])[0]["history"]) == 1


def test_an_empty_campaign_can_be_looked_at(capsys: pytest.CaptureFixture) -> None:
    campaign(Path("runs/one"))
    assert run(capsys, "bugs")[:2] == (0, "no bugs in runs/one\n")
    assert json.loads(run(capsys, "bugs", "--json")[1]) == []
    assert json.loads(run(capsys, "status", "--json")[1])["directory"] == "runs/one"
    assert "0 operators" in run(capsys, "operators")[1]
    assert "0 cases compared" in run(capsys, "status")[1]


def test_a_hostile_case_is_refused(capsys: pytest.CaptureFixture) -> None:
    Path("case.json").write_text('{"format": 1, "program": "__import__(\'os\').system(\'true\')"}')
    status, _, err = run(capsys, "replay", "case.json")
    assert status == Exit.USAGE
    assert "case.json: case.program: expected dict" in err


FILES = {
    "model.onnx": bytes(range(256)) * 64,
    "latin.json": b'{"title": "\xe9"}',
    "deep.json": b"[" * 200_000,
    "deeper.json": b'{"case":' * 100_000,
    "empty.json": b"",
    "huge.json": b" " * (17 << 20),
    "known.json": b'{"case": []}',
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["replay", "minimise", "bisect", "report"])
def test_what_is_no_case_is_told_in_one_line(capsys: pytest.CaptureFixture, command: str, name: str) -> None:
    Path(name).write_bytes(FILES[name])
    status, out, err = run(capsys, command, name)
    assert (status, out) == (Exit.USAGE, "")
    assert err.startswith(f"shakeout: {name}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["minimise", "bisect", "report"])
def test_what_lies_in_a_findings_folder_may_be_anything(capsys: pytest.CaptureFixture, command: str) -> None:
    Path("SH-1").mkdir()
    for name in ("case.json", "result.json", "bisection.json"):
        Path("SH-1", name).write_bytes(b"[" * 200_000)
    status, _, err = run(capsys, command, "SH-1")
    assert status == Exit.USAGE
    assert err == "shakeout: SH-1/case.json: not a case: it is nested too deep\n"


@pytest.mark.parametrize("data", [b"\xff\x00" * 99, b"a = " + b"[" * 50_000], ids=["binary", "deep"])
def test_a_configuration_that_is_none_is_told_in_one_line(capsys: pytest.CaptureFixture, data: bytes) -> None:
    Path("campaign.toml").write_bytes(data)
    status, _, err = run(capsys, "run", "--config", "campaign.toml")
    assert status == Exit.USAGE
    assert err.startswith("shakeout: campaign.toml: not TOML: ")
    assert err.count("\n") == 1


def test_the_targets_are_listed(capsys: pytest.CaptureFixture) -> None:
    names = {one["name"] for one in json.loads(run(capsys, "targets", "--json")[1])}
    assert {"eager", "aot_eager", "inductor"} <= names
    assert "cpp.simdlen" in run(capsys, "targets", "--knobs")[1]


def test_the_doctor_looks_at_this_machine(capsys: pytest.CaptureFixture) -> None:
    _, out, _ = run(capsys, "doctor", "--json")
    states = {check["name"]: check["state"] for check in json.loads(out)}
    assert states["python"] == states["torch"] == "ok"
    assert "C++ compiler" in states


def test_our_own_defects_are_marked(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(directory: Path) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("shakeout.fuzz.commands.doctor.checks", broken)
    status, _, err = run(capsys, "doctor")
    assert status == Exit.INTERNAL
    assert err.startswith("SHAKEOUT-INTERNAL RuntimeError: a defect")
    log = Path(err.strip().rpartition(" ")[2])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m shakeout targets --knobs | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=os.environ)
    assert "Traceback" not in done.stderr

"""Bisecting over environments: fake ones, whose interpreters answer as a release would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.fuzz.bisect import environments
from shakeout.fuzz.bisect.environments import Environment, NotAnEnvironment, Script, searched, verdict_of
from shakeout.fuzz.bisect.facts import Releases
from shakeout.fuzz.bisect.kept import within
from shakeout.fuzz.bisect.releases import compare_releases
from shakeout.fuzz.bisect.stored import chosen
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.progress import Stop

ANSWERS = {
    "good": "print('torch 1'); print('no difference'); sys.exit(0)",
    "bad": "print('torch 1'); print('output 0: differs'); sys.exit(1)",
    "skip": "sys.exit(125)",
    "infra": "sys.exit(70)",
    "broken": "raise AttributeError('no such operator')",
}


@pytest.fixture
def environment(tmp_path: Path) -> Callable[[str, str], Path]:
    """Makes a directory whose interpreter gives an answer, whatever script it is given; a probe succeeds."""

    def make(name: str, answer: str) -> Path:
        python = tmp_path / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        probe = "sys.exit(1)" if answer == "absent" else "sys.exit(0)"
        said = ANSWERS.get(answer, "")
        python.write_text(f"#!{sys.executable}\nimport sys\nif '-c' in sys.argv: {probe}\n{said}\n")
        python.chmod(0o755)
        return tmp_path / name

    return make


def script(tmp_path: Path) -> Script:
    path = tmp_path / "repro.py"
    path.write_text("")
    return Script(path)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("good bad", Releases((("1", "good"), ("2", "bad")), "2", (), "1")),
        ("good good bad bad", Releases((("1", "good"), ("2", "good"), ("3", "bad"), ("4", "bad")), "3", (), "2")),
        ("bad bad bad", Releases((("1", "bad"), ("3", "bad")), "1")),
        ("good good", Releases((("1", "good"), ("2", "good")))),
        ("good bad bad good", Releases((("1", "good"), ("2", "bad"), ("3", "bad"), ("4", "good")), "2", (), "1", "4")),
        ("good skip bad", Releases((("1", "good"), ("2", "skip"), ("3", "bad")), None, ("2", "3"), "1")),
        ("good broken bad", Releases((("1", "good"), ("2", "skip"), ("3", "bad")), None, ("2", "3"), "1")),
        ("absent bad", Releases((("1", "skip"), ("2", "bad")), None, ("1", "2"))),
        ("bad skip good", Releases((("1", "bad"), ("2", "skip"), ("3", "good")), "1")),
        ("infra infra", Releases((("1", "infra"), ("2", "infra")))),
    ],
)
def test_lists_of_environments(
    tmp_path: Path, environment: Callable[[str, str], Path], answers: str, expected: Releases
) -> None:
    chosen = [
        environments.existing(environment(str(number), answer)) for number, answer in enumerate(answers.split(), 1)
    ]
    makers = [partial(Environment, one.name, one.python) for one in chosen]
    found, _ = searched(makers, [one.name for one in chosen], script(tmp_path))
    told = (found.steps, found.first_bad, found.suspects, found.last_good, found.first_fixed)
    assert told == (
        expected.steps,
        expected.first_bad,
        expected.suspects,
        expected.last_good,
        expected.first_fixed,
    )
    assert "newest release NOT checked" in str(found)


@pytest.mark.parametrize(
    ("status", "said", "verdict"),
    [
        (0, "torch 2.13.0\nno difference\n", "good"),
        (1, "torch 2.13.0\noutput 0: 1 of 3 elements differ\n", "bad"),
        (1, "the process died with status -11\n", "bad"),
        (1, "torch 2.13.0\n", "skip"),
        (1, "", "skip"),
        (125, "", "skip"),
        (-9, "", "infra"),
        (None, "", "infra"),
    ],
)
def test_what_a_status_says(status: int | None, said: str, verdict: str) -> None:
    assert verdict_of(status, said) == verdict


@pytest.mark.parametrize("text", ["torch", "torch>=2", "", "--index-url=x", "torch==2.12.0,-r file", "torch==2 -e."])
def test_releases_must_be_pinned(text: str) -> None:
    with pytest.raises(NotAnEnvironment, match="expected releases"):
        environments.requirements(text)


def test_what_cannot_be_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    found = environments.installed("no-such-distribution==1.0", stop=lambda: False)
    assert found.python is None
    assert "could not be installed: ERROR: No matching distribution" in found.problem
    assert not list((tmp_path / "environments").glob("*/bin"))


def test_the_command_over_environments_and_what_it_keeps(
    tmp_path: Path, environment: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "SH-0000"
    folder.mkdir()
    case = capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("aot_eager"))
    (folder / "case.json").write_text(case.text)
    older, newer = environment("older", "good"), environment("newer", "bad")
    flags = ["--env", str(older), "--env", str(newer)]
    assert main(["bisect", str(folder), *flags, "--plain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "first bad newer, older is good" in said
    assert "newest release NOT checked" in said
    assert main(["bisect", str(folder), *flags, "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["target"] == "aot_eager"
    kept = within(folder).read()
    assert kept is not None
    assert kept.releases is not None
    assert kept.releases.first_bad == "newer"


def test_whoever_compares_is_told_and_answered_and_nothing_is_printed(
    tmp_path: Path, environment: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.json"
    path.write_text(capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("aot_eager")).text)
    job = chosen(path)
    environments = [environment("older", "good"), environment("newer", "bad")]
    told: list[events.Event] = []
    done = compare_releases(job, directories=environments, versions="", newest=False, stop=Stop(), tell=told.append)
    assert done.found.first_bad == "newer"
    assert done.notes == ()
    assert done.bisection == job.kept.read()
    assert done.bisection.releases == done.found
    assert {event.doing.partition(" ")[0] for event in told if isinstance(event, events.Comparing)} >= {"running"}
    assert capsys.readouterr() == ("", "")


@pytest.mark.long
def test_the_newest_release_is_the_one_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("aot_eager"))
    path = tmp_path / "case.json"
    path.write_text(case.text)
    monkeypatch.setattr(environments, "newest", lambda package: torch.__version__.partition("+")[0])
    assert main(["bisect", str(path), "--newest", "--plain"]) == Exit.OK
    assert f"newest release torch=={torch.__version__.partition('+')[0]}: good" in capsys.readouterr().out
    monkeypatch.setattr(environments, "newest", lambda package: None)
    assert main(["bisect", str(path), "--newest", "--plain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "pip finds no release of torch" in said
    assert "newest release NOT checked" in said


def test_what_is_no_environment_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "case.json"
    path.write_text(capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("aot_eager")).text)
    assert main(["bisect", str(path), "--env", str(tmp_path)]) == Exit.USAGE
    assert "expected a virtual environment" in capsys.readouterr().err

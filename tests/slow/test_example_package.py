"""A package that pip installs brings a target, an oracle and a vocabulary, which have all that ours have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.packages import EXAMPLE

from shakeout.corpus import codec
from shakeout.corpus.case import Setting
from shakeout.fuzz.campaign.selftest import case as small

ROOT = Path(__file__).resolve().parents[2]

#: A case of the example's own vocabulary, and one in which its fast sine is wrong.
MAKE = """
import dataclasses, sys, torch
from pathlib import Path
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.program import Call, Name, Ref
def network(x):
    return torch.sin(torch.square(x))
case = capture(network, lambda: [torch.tensor([3.0, 2.0])], setting=Setting("example", (("fast_math", True),)))
Path("wrong").mkdir()
Path("wrong/case.json").write_text(case.text)
case = capture(torch.square, lambda: [torch.tensor([3.0, 2.0])], setting=Setting("example"))
[call] = case.program.calls
axpy = Call("example.axpy", (Name("example.HALF"), Ref(0), Ref(0)), (), call.results)
case = dataclasses.replace(case, program=dataclasses.replace(case.program, calls=(axpy,), vocabulary="example"))
Path("own.json").write_text(case.text)
"""

CONFORMS = """
import shakeout
from example_stack.oracle import SIGNED_ZERO
from shakeout.fuzz.running.case_file import read_case
from pathlib import Path
shakeout.testing.check_target("example")
shakeout.testing.check_oracle(SIGNED_ZERO)
shakeout.testing.check_vocabulary("example", [read_case(Path("own.json"), None)])
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which pip installed the example; all else in it is this one's."""
    venv = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    found = venv / "bin" / "python"
    project = tmp_path_factory.mktemp("project") / "example"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))  # building leaves files there
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", str(project)]
    purelib = subprocess.run(
        [found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    borrowed = [str(ROOT / "src"), *(path for path in sys.path if path.endswith("site-packages"))]
    borrowed += [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    Path(purelib.stdout.strip(), "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)) + "\n")
    subprocess.run([sys.executable, "-m", "pip", "--python", found, *install], check=True)
    return found


@pytest.fixture(scope="module")
def place(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where its user works."""
    folder = tmp_path_factory.mktemp("place")
    subprocess.run([python, "-c", MAKE], cwd=folder, check=True)
    return folder


def shakeout(python: Path, place: Path, *arguments: str, status: int = 0) -> str:
    """What a command prints."""
    command: Sequence[str | Path] = [python, "-m", "shakeout", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def test_it_is_listed_and_conforms(python: Path, place: Path) -> None:
    assert "the compiler of example-stack" in shakeout(python, place, "targets", "--knobs")
    subprocess.run([python, "-c", CONFORMS], cwd=place, check=True)


def test_a_campaign_runs_on_it(python: Path, place: Path) -> None:
    text = shakeout(python, place, "run", "--target", "example", "--cases", "20", "--plain", "--directory", "campaign")
    assert "0 new bugs" in text
    status = json.loads(shakeout(python, place, "status", "campaign", "--json"))
    row = status["totals"]["example"]
    # Two settings on each program, as it wishes.
    assert row["generated"] > 20
    assert row["compared"] > 20
    # Its oracle has judged each case: a verdict of it that had thrown would be unknown.
    assert (row["failed"], row["infra"]) == (0, 0)
    assert "example-stack 1.2.3" in (place / "campaign" / "report.md").read_text()


def test_bisect_names_its_pass_and_the_report_goes_to_its_owner(python: Path, place: Path) -> None:
    text = shakeout(python, place, "bisect", "wrong", "--plain")
    assert "culprit   optimisation level level=2" in text
    assert "culprit   pass fast_sine (number 3 of 3); cured without it" in text
    report = shakeout(python, place, "report", "wrong")
    assert "It is for example-stack, whose form Shakeout does not know." in report
    assert "return compiler.compile(network, fast_math=True)" in report
    assert "shakeout" not in report[report.index("```python") : report.index("The program is")]
    assert "- Culprit: pass fast_sine" in report
    assert "example-stack 1.2.3" in report
    assert "The script shows it here (exit status 1)" in report


def test_a_case_of_its_vocabulary_can_be_run(python: Path, place: Path) -> None:
    assert "no difference" in shakeout(python, place, "replay", "own.json")


def test_elsewhere_its_cases_are_told_to_lack_it(tmp_path: Path) -> None:
    case = tmp_path / "case.json"
    case.write_text(
        codec.encode(small("wrong value"))
        .replace('"planted"', '"example"')
        .replace('"knobs":{"fault":"wrong value"}', '"knobs":{}')
    )
    assert codec.decode(case.read_text()).setting == Setting("example")
    text = shakeout(Path(sys.executable), tmp_path, "replay", str(case), status=2)
    assert text.startswith("shakeout: unknown target 'example'; there are eager, aot_eager, inductor")

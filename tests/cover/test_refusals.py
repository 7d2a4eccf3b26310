"""What a target refuses is a finding where somebody asks for it, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shakeout.corpus import codec
from shakeout.corpus.case import REFUSALS, Case, Setting
from shakeout.corpus.intake.capturing import capture
from shakeout.fuzz.cli import _parser
from shakeout.fuzz.commands.campaigns import _config
from shakeout.fuzz.ground.refusals import counted, refused
from shakeout.fuzz.intake.checking import check_case
from shakeout.fuzz.intake.importing import import_file
from shakeout.fuzz.running.execute import execute, repro
from shakeout.oracles.vendor import unusual
from shakeout.targets.registry import names, source, target
from shakeout.targets.target import UnknownKnob, check_knobs


def resized(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y.resize_(2)
    return y


@pytest.fixture(scope="module")
def case() -> Case:
    return capture(resized, (torch.arange(4.0),), setting=Setting("aot_eager")).case


def test_a_graph_break_is_a_finding_where_refusals_are(case: Case, tmp_path: Path) -> None:
    plain = execute(case)
    assert refused(plain)
    assert plain.failure is None
    asked = Case(case.program, case.input_sets, counted(case.setting))
    assert asked.id != case.id
    assert codec.decode(asked.text) == asked
    found = execute(asked)
    assert not refused(found)
    assert found.failure is not None
    assert (found.failure.oracle, found.failure.symptom) == ("exception", "Unsupported")
    assert "resize_" in found.failure.message
    assert "knobs" not in unusual(asked)
    script = tmp_path / "repro.py"
    script.write_text(repro(asked, found))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "Unsupported" in done.stdout


def test_what_is_taken_is_judged_as_ever() -> None:
    case = capture(torch.sin, (torch.ones(2),), setting=counted(Setting("aot_eager"))).case
    assert execute(case).outcome == "pass"


def test_every_target_has_it_and_none_is_told(case: Case) -> None:
    for name in names():
        plain, asked = Setting(name), counted(Setting(name))
        assert asked.told() == plain
        check_knobs(target(name), asked)
    with pytest.raises(UnknownKnob, match="refusals takes False, True"):
        check_knobs(target("export"), Setting("export", ((REFUSALS, 3),)))
    assert source(counted(Setting("inductor"))).startswith(source(Setting("inductor")).rstrip())
    one = Case(case.program, case.input_sets, counted(case.setting))
    assert one.on("export").setting == counted(Setting("export"))
    assert case.on("export").setting == Setting("export")


def test_a_campaign_pins_it() -> None:
    options = _parser().parse_args(["run", "--refusals", "--target", "aot_eager", "--knob", "dynamic=True"])
    assert dict(_config(options).knobs) == {"dynamic": True, REFUSALS: True}


@pytest.mark.long
def test_an_imported_case_keeps_it_and_check_says_what_cannot_run(tmp_path: Path) -> None:
    file = tmp_path / "bug.py"
    file.write_text(
        "import torch\n\ndef resized(x):\n    y = x.clone()\n    y.resize_(2)\n    return y\n\n"
        'torch.compile(resized, backend="aot_eager")(torch.arange(4.0))\n'
    )
    for refusals in (False, True):
        out = tmp_path / str(refusals)
        found = import_file(file, output=out, seconds=120, memory=8 << 30, refusals=refusals)
        (checked,) = check_case(found.cases[0].case, ["aot_eager"], 120)
        assert (checked.status, checked.refused) == (("differs", False) if refusals else ("cannot run", True))

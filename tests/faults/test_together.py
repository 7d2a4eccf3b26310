"""Faults that are planted together show each as it does alone, and in every process of a campaign."""

import os
import subprocess
import sys

import pytest
from tests.faults import Fault
from tests.faults.together import environment, sets, together

from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import target

SETS = [
    (name, number, faults)
    for name in ("aot_eager", "export", "inductor", "onnxruntime", "tvm")
    for number, faults in enumerate(sets(name))
]

#: Targets that run a dozen cases in seconds.
QUICK = ("aot_eager", "export")


def tier(name: str, number: int) -> list[pytest.MarkDecorator]:
    """The first set of a quick target is fast, that of one compiler long, and all the others come before a release."""
    if number > 0 or name not in (*QUICK, "inductor"):
        return [pytest.mark.exhaustive]
    return [] if name in QUICK else [pytest.mark.long]


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(faults, id=f"{name} {number}", marks=tier(name, number))
        for name, number, faults in SETS
        if len(faults) > 1
    ],
)
def test_each_of_several_faults_shows(faults: tuple[Fault, ...]) -> None:
    if missing := target(faults[0].target).unavailable():
        pytest.skip(missing)
    with together(faults) as canaries:
        target(faults[0].target).warm()  # a campaign does not use what it cannot warm
        for fault in faults:
            assert execute(fault.case(), explain=False).failure is not None, fault.name
            assert canaries[fault.name].reached, fault.name
    assert execute(faults[0].case(), explain=False).outcome is Outcome.PASS, "something is still patched"


def test_no_two_of_a_set_replace_one_operator() -> None:
    (mul,) = ({fault.name for fault in faults if "product of" in fault.name} for faults in sets("aot_eager")[:1])
    assert mul == {"product of all wrong: always"}
    assert sum(len(faults) for name, _, faults in SETS if name == "aot_eager") >= 60


def test_processes_are_told_by_their_environment() -> None:
    faults = sets("export")[0]
    text = "import torch; print(torch.export.ExportedProgram.module.__module__)"
    told = subprocess.run(
        [sys.executable, "-P", "-c", text], env={**os.environ, **environment(faults)}, capture_output=True, text=True
    )
    assert told.stdout.strip() == "tests.faults.graphs", told.stderr

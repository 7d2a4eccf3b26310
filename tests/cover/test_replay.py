"""Replaying one case: one answer, the oracles', whichever command is asked."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.cli import main
from shakeout.fuzz.commands.minimise import minimise_command
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.running import fresh
from shakeout.fuzz.running.execute import execute

MODULE = "shakeout_test_replay"
TEXT = """import torch

import shakeout


def total(x):
    return x.sum(0)


@shakeout.kernel(reference=total, examples=[(torch.ones(3, 4),)])
def widened(x):
    return x.double().sum(0).to(x.dtype)
"""


@pytest.fixture(autouse=True)
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / f"{MODULE}.py").write_text(TEXT)
    monkeypatch.setenv("SHAKEOUT_ALLOW", MODULE)
    monkeypatch.chdir(tmp_path)
    sys.path.append(str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop(MODULE, None)


def rounded() -> Case:
    """Sums that cancel: the kernel keeps more digits than its reference."""
    given, result = TensorType("float32", (64, 720)), TensorType("float32", (720,))
    program = Program((Input(given),), (Call(f"{MODULE}:widened", (Ref(0),), (), (result,)),), (1,), "kernel")
    storage = Storage("float32", given.numel, Values("uniform", 3, -1000, 1000))
    view = View(0, "float32", given.shape, (720, 1))
    return Case(program, (InputSet((storage,), (view,)),), Setting(f"{MODULE}:widened"))


def test_what_rounding_explains_is_told_with_amounts_and_is_no_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = rounded()
    (verdict,) = [one for one in execute(case, explain=False).verdicts if one.symptom == "unstable"]
    assert verdict.outcome == "unknown"
    evidence = verdict.evidence
    assert 0 < evidence["unstable"] == evidence["explained"] <= evidence["total"] == 720
    assert 0 < evidence["apart"] < 0.1
    assert evidence["apart"] == pytest.approx(abs(evidence["expected"] - evidence["found"]))
    assert evidence["off"] == pytest.approx(abs(evidence["expected"] - evidence["double"]))
    assert evidence["moved"] > 0
    file = tmp_path / "case.json"
    file.write_text(case.text)
    capfd.readouterr()
    assert main(["replay", str(file)]) == Exit.OK
    said = capfd.readouterr().out
    assert f"value: no failure, unstable. {verdict.message}" in said
    assert "rounding explains it: by at most" in said
    assert "passed: exception, storage, metadata, gradient, mutation" in said
    arguments = {"seconds": 60.0, "tries": 60, "workers": 1, "memory": 2 << 30, "plain": True}
    assert minimise_command(file, console=Console(width=200), **arguments) == Exit.OK  # type: ignore[arg-type]
    assert verdict.message in capfd.readouterr().out


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (None, Exit.OK, "no difference"),
        ("wrong value", Exit.FOUND, "value: wrong value. output 0"),
        ("abort", Exit.FOUND, "crash: the process died of SIGABRT, while the target ran"),
    ],
)
def test_each_end_of_a_replay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], fault: str | None, status: Exit, words: str
) -> None:
    file = tmp_path / "case.json"
    case = selftest.case(fault or "wrong value")
    file.write_text(case.text if fault else case.on("eager").text)
    assert main(["replay", str(file)]) == status
    assert words in capfd.readouterr().out


def test_a_fresh_process_explains_a_failure_if_it_is_asked_to(tmp_path: Path) -> None:
    case = selftest.case("wrong value")
    with (tmp_path / "said").open("wb") as said:
        plain, explained = (
            fresh.ran(case, 120.0, explain=explain, output=said.fileno(), errors=said.fileno())
            for explain in (False, True)
        )
    assert (plain.status, explained.status) == (0, 0)
    assert plain.result is not None
    assert explained.result is not None
    assert plain.result.failure == explained.result.failure is not None
    assert plain.result.divergence is None
    assert explained.result.divergence is not None
    died = fresh.ran(selftest.case("abort"), 120.0)
    assert (died.status, died.phase, died.result) == (-signal.SIGABRT, "run", None)


def test_a_hang_has_an_end_and_what_the_reference_rejects_cannot_run() -> None:
    hang = fresh.answer(selftest.case("hang"), 8.0)
    assert hang.status == fresh.DIFFERS
    assert hang.lines[0].startswith("hang: no answer within 8 s")
    assert fresh.answer(selftest.case("hang"), 8.0, lambda: True).status == fresh.CANNOT_RUN
    type_ = TensorType("float32", (3,))
    case = rounded().on("eager")
    program = Program(case.program.inputs, (Call("torch.neg", (Ref(0), 7), (), (type_,)),), (1,))
    refused = fresh.answer(Case(program, case.input_sets, case.setting), 60.0)
    assert refused.status == fresh.CANNOT_RUN
    assert refused.lines[0].startswith("invalid: TypeError")

"""A case as a script: what runs, and what its exit status says."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.fuzz.running.execute import repro


def case(function: Callable, *inputs: torch.Tensor, target: str = "eager", mode: Mode = "inference", **knobs) -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    return capture(function, make, setting=Setting(target, tuple(sorted(knobs.items())), mode))


def run(text: str, path: Path) -> tuple[int, str]:
    path.write_text(text)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def increment(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = x.add_(1)
    return x * 2, y.T


def test_source_is_what_a_person_would_write() -> None:
    def network(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        z = x[::2, None] @ y.mT
        z[..., 0] = 3
        values, places = torch.max(z, dim=-1)
        return values, places, z.to(torch.float64)

    text = script.network(case(network, torch.ones(4, 3), torch.ones(2, 3)).program)
    assert text.splitlines()[:7] == [
        "def program(x0, x1):",
        "    v2 = x0[::2, None]",
        "    v3 = x1.mT",
        "    v4 = v2.matmul(v3)",
        "    v4[..., 0] = 3",
        "    v5, v6 = torch.max(v4, dim=-1)",
        "    v7 = v4.to(torch.float64)",
    ]


def test_a_single_result_of_a_sequence_and_a_position_without_tensor() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        (only,) = torch.split(x, 4)
        return only

    assert "v1, = torch.split(x0, 4" in script.network(case(network, torch.ones(4)).program)


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_exit_status_without_difference(tmp_path: Path, mode: Mode) -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=mode == "training")
    status, output = run(repro(case(lambda x: x * x, x, mode=mode)), tmp_path / "repro.py")
    assert (status, "no difference" in output) == (0, True), output


def test_exit_status_with_difference(tmp_path: Path) -> None:
    status, output = run(
        repro(case(increment, torch.ones(2, 3), target="planted", fault="wrong value")), tmp_path / "r.py"
    )
    assert status == 1, output
    assert "output 0: 1 of 6 elements differ, first at [1, 2]: 4.0 expected, 5.0 found" in output


def test_exit_status_of_an_exception(tmp_path: Path) -> None:
    status, output = run(
        repro(case(increment, torch.ones(2, 3), target="planted", fault="exception")), tmp_path / "r.py"
    )
    assert status == 1, output
    assert "the target raises RuntimeError: planted fault" in output


@pytest.mark.parametrize(
    ("fault", "limit", "words"),
    [("abort", 60, "died with status -6"), ("hang", 6, "no answer within 6 s")],  # torch alone takes seconds to load
)
def test_a_crash_and_a_hang_are_results(tmp_path: Path, fault: str, limit: float, words: str) -> None:
    text = repro(case(increment, torch.ones(2, 3), target="planted", fault=fault), limit=limit)
    status, output = run(text, tmp_path / "repro.py")
    assert status == 1, output
    assert words in output


def test_a_declined_program_cannot_run(tmp_path: Path) -> None:
    # The number of results depends on the rank of the data, which graph capture does not know.
    text = repro(case(lambda x: torch.linalg.lstsq(x, x)[0], torch.eye(3), target="aot_eager"))
    status, output = run(text, tmp_path / "repro.py")
    assert status == 125, output
    assert "declined: Unsupported" in output


def test_a_script_needs_nothing_but_torch(tmp_path: Path) -> None:
    text = repro(case(increment, torch.ones(2, 3)))
    assert "shakeout" not in text.lower()


def test_what_makes_a_tensor_says_on_which_device() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        return x + torch.eye(3) + x.new_ones(3)

    made = case(network, torch.ones(3, 3))
    elsewhere = replace(made, setting=replace(made.setting, device="cuda"))
    assert "torch.eye(3)" in script.body(made)
    assert 'torch.eye(3, device="cuda")' in script.body(elsewhere)
    assert "x0.new_ones(3)" in script.body(elsewhere)

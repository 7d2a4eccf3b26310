"""The check of a target: one that works shows nothing, and one that fails with everything is not taken for buggy."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shakeout.fuzz.campaign import sanity as module
from shakeout.fuzz.campaign.sanity import case, check
from shakeout.fuzz.campaign.selftest import NO_FAULT
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.workers.pool import WorkerPool
from shakeout.targets.registry import compilers


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_its_networks_are_right_under_eager(mode: str) -> None:
    made = case("eager", "cpu", mode)  # type: ignore[arg-type]
    result = execute(made)
    assert result.status == "compared"
    assert result.failure is None
    assert any(view.requires_grad for view in made.input_sets[0].views) == (mode == "training")


def test_a_target_that_fails_with_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pool = WorkerPool(tmp_path, ["planted", "aot_eager"], 2)
    try:
        pool.start(complete=False)
        pool.warm(["aot_eager"])
        assert check(pool, "aot_eager", device="cpu", memory=2 << 30) == ""
        assert check(pool, "planted", device="cpu", memory=2 << 30) == ""
        for fault, said in (("wrong value", "expected"), ("abort", "SIGABRT"), (NO_FAULT, "")):
            knobs = () if fault == NO_FAULT else (("fault", fault),)

            def planted(target: str, device: str, mode: str, knobs: tuple[tuple[str, str], ...] = knobs) -> object:
                made = case(target, device, mode)  # type: ignore[arg-type]
                return replace(made, setting=replace(made.setting, knobs=knobs))

            monkeypatch.setattr(module, "case", planted)
            text = check(pool, "planted", device="cpu", memory=2 << 30)
            assert said in text
            assert bool(text) == (fault != NO_FAULT)
    finally:
        pool.stop()


def test_what_is_warm_has_asked_for_no_gradient() -> None:
    """Where torch was built for an accelerator, nobody forked from there might be able to."""
    names = sorted({*compilers(), "save_on_cpu", "disk_store", "planted"} - {"inductor"})
    text = f"""
import torch
from shakeout.targets.registry import target

def never(*arguments, **options):
    raise AssertionError("a gradient was asked for")

torch.autograd.graph._engine_run_backward = torch.autograd._engine_run_backward = never
x = torch.ones(1, requires_grad=True)
try:
    x.sum().backward()
except AssertionError:
    pass
else:
    raise SystemExit("gradients go another way in this torch")
for name in {names!r}:
    print(name, flush=True)
    target(name).warm()
"""
    done = subprocess.run([sys.executable, "-c", text], check=False, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout.split()[-1:], done.stderr)
    assert done.stdout.split() == names

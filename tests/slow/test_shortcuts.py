"""Shortcuts change how fast Inductor's kernels are compiled, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

from shakeout.fuzz.protocol import Job
from shakeout.fuzz.supervisor import Answer, Crew, Limits
from shakeout.targets.shortcuts import SHORTCUTS

ROOT = Path(__file__).parents[2]


def results(directory: Path, shortcuts: tuple[str, ...]) -> dict[int, tuple[str, ...]]:
    """What two workers make of six programs; a server of theirs is killed after the second."""
    directory.mkdir()
    recipe = {"style": "network", "operators": 6, "mode": "inference"}
    waiting = [Job(index=n, target="inductor", seed=n, recipe=recipe) for n in range(6)]
    crew = Crew(directory, ["inductor"], 2, shortcuts=shortcuts)
    found: list[Answer] = []
    try:
        crew.start()
        assert (crew.size > 2) == ("joint" in shortcuts)
        while len(found) < 6:
            found += crew.step(lambda: waiting.pop() if waiting else None, lambda job: Limits(300.0, 8 << 30))
            if shortcuts and len(found) >= 2:
                subprocess.run(["pkill", "-9", "-P", str(os.getpid()), "-f", "shakeout.targets.joint"])
    finally:
        crew.stop()
    assert not [answer.loss for answer in found if answer.loss is not None]
    return {
        answer.job.index: tuple(answer.message["result"][key] for key in ("status", "outcome", "signature", "case"))
        for answer in found
    }


def test_every_case_ends_as_with_the_stock_toolchain_though_the_server_dies(tmp_path: Path) -> None:
    stock = results(tmp_path / "stock", ())
    assert results(tmp_path / "joint", tuple(SHORTCUTS)) == stock
    assert [status for status, *_ in stock.values()].count("compared") >= 3


def test_every_output_has_the_same_bits(tmp_path: Path) -> None:
    script = ROOT / "tests" / "benchmarks" / "inductor.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check", "8"], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.dumps(done.stdout).count("8 networks, 0 differ")

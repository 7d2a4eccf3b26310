"""Real campaigns whose cases libFuzzer decides: a fault behind branches, a crash that ends its process, its corpus."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from shakeout.corpus import codec

pytestmark = pytest.mark.timeout(400)

#: cumsum that is wrong behind the first four elements of two dimensions, and aborts for some of four and more.
KERNEL = """
    import os

    import torch

    import shakeout


    @shakeout.kernel(reference=torch.cumsum)
    def scan(x, dim):
        found = torch.cumsum(x, dim)
        if x.dim() == 2:
            if x.shape[dim] > 4:
                found = found.clone()
                found.narrow(dim, 4, 1).add_(1)
        if x.dim() > 3:
            if x.shape[dim] > 2:
                os.abort()
        return found
"""


def shakeout(tmp_path: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "shakeout", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=os.environ)
    return done.returncode, done.stdout + done.stderr


def test_libfuzzer_finds_what_lies_behind_branches_and_survives_what_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("atheris")
    (tmp_path / "mine.py").write_text(textwrap.dedent(KERNEL).lstrip())
    flags = ("--engine", "atheris", "--target", "mine:scan", "--operators", "1", "--plain", "--directory", "run")
    status, said = shakeout(tmp_path, "run", *flags, "--cases", "400", "--workers", "1")
    assert status == 1, said
    results = [json.loads(path.read_text()) for path in (tmp_path / "run").glob("SH-*/result.json")]
    symptoms = {one["oracle"] for result in results for one in result["verdicts"] if one["outcome"] == "fail"}
    assert symptoms >= {"value", "crash"}, said
    assert "libFuzzer on mine:scan" in said
    corpus = [path.read_bytes() for path in (tmp_path / "run" / "atheris" / "mine-scan").iterdir()]
    # What it keeps are cases that any command reads, and what grew of bytes.
    cases = [unit for unit in corpus if unit.startswith(b"{")]
    assert len(cases) >= 2, said
    monkeypatch.setenv("SHAKEOUT_ALLOW", "mine")
    monkeypatch.chdir(tmp_path)
    assert {codec.decode(unit.decode()).setting.target for unit in cases} == {"mine:scan"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--engine", "atheris", "--target", "eager"), "no Python is known; name some with --instrument MODULE"),
        (("--instrument", "mine"), "--instrument is for --engine atheris"),
        (("--engine", "atheris", "--instrument", "a b"), "--instrument: expected names of modules"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_starts(tmp_path: Path, flags: tuple[str, ...], words: str) -> None:
    if "atheris" in flags:
        pytest.importorskip("atheris")
    status, said = shakeout(tmp_path, "run", *flags)
    assert (status, words in said) == (2, True), said


def test_without_the_extra_the_engine_says_what_to_install(tmp_path: Path) -> None:
    hidden = (
        "import sys; from shakeout.fuzz.cli import main; from shakeout.targets import packages; "
        "there = packages.installed; packages.installed = lambda name: name != 'atheris' and there(name); "
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", hidden, "run", "--engine", "atheris", "--target", "aot_eager"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "pip install 'shakeout[atheris]'" in done.stdout + done.stderr

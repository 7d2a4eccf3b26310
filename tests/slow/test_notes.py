"""A real campaign of a right kernel that lays its results out in its own way: notes by default, findings on demand."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.caches import with_operators

from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.reporting.notes import noted
from shakeout.oracles.metadata import STRIDES

pytestmark = pytest.mark.timeout(600)

#: Right, and column by column, where eager's softmax is row-major.
KERNELS = """
    import torch

    import shakeout


    def softmax(x, dim, dtype=None):
        y = torch.softmax(x, dim, dtype=dtype)
        return y if y.dim() < 2 else y.mT.contiguous().mT


    quiet = shakeout.kernel(reference=torch.softmax)(softmax)
    asked = shakeout.kernel(reference=torch.softmax, strides=True)(softmax)
"""


@pytest.fixture
def shakeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    (tmp_path / "notable.py").write_text(textwrap.dedent(KERNELS).lstrip())
    environment = {**os.environ, "SHAKEOUT_CACHE": str(with_operators(tmp_path / "cache")), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "shakeout", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        return done.returncode, done.stdout + done.stderr

    return run


def campaign(shakeout: Callable[..., tuple[int, str]], name: str) -> tuple[int, str]:
    settings = ["--operators", "3", "--cases", "8", "--workers", "1", "--seed", "5", "--minutes", "5", "--plain"]
    return shakeout("run", "--target", f"notable:{name}", *settings, "--directory", f"runs/{name}")


def test_other_strides_are_noted_and_no_finding(tmp_path: Path, shakeout: Callable[..., tuple[int, str]]) -> None:
    status, told = campaign(shakeout, "quiet")
    assert status == 0, told
    with Database.read(tmp_path / "runs/quiet" / NAME) as database:
        (found,) = noted(database)
        assert database.bugs() == []
        totals = database.totals()
    assert (found.target, found.note) == ("notable:quiet", STRIDES)
    assert 0 < found.count <= found.compared == totals["notable:quiet"].compared
    line = (
        f"notable:quiet: other strides than its reference in {found.count} of {found.compared} cases; "
        "strides=True on @shakeout.kernel makes them findings"
    )
    assert f"note     {line}" in told
    assert f"## Notes\n\n- {line}\n" in (tmp_path / "runs/quiet/report.md").read_text()
    status, told = shakeout("status", "runs/quiet", "--json")
    assert json.loads(told)["notes"][0]["count"] == found.count
    assert f"note: {line}" in shakeout("status", "runs/quiet")[1].replace("\n", " ")


def test_where_they_are_asked_for_they_are_findings_that_name_the_switch(
    tmp_path: Path, shakeout: Callable[..., tuple[int, str]]
) -> None:
    status, told = campaign(shakeout, "asked")
    assert status == 1, told
    assert "note " not in told
    with Database.read(tmp_path / "runs/asked" / NAME) as database:
        assert noted(database) == ()
        bugs = [bug for bug in database.bugs() if bug.symptom == "wrong strides"]
    assert bugs
    shown = shakeout("bugs", "show", bugs[0].id, "--directory", "runs/asked")[1]
    assert "asked for by strides=True of @shakeout.kernel" in shown
    assert "asked for by strides=True of @shakeout.kernel" in (tmp_path / "runs/asked/report.md").read_text()

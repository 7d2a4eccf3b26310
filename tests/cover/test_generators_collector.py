"""A collecting process is watched."""

from pathlib import Path

import pytest

from shakeout.generators.vocabularies.collector import run_module

TEXT = """
import os, sys, time
print("an operator that prints")
print('["first", 0, 2]', flush=True)
print('["second", 1, 2]', flush=True)
print("the reason", file=sys.stderr, flush=True)
{end}
"""


@pytest.mark.parametrize(("end", "status"), [("", 0), ("sys.exit(3)", 3), ("os.abort()", -6), ("time.sleep(600)", -9)])
def test_how_it_ended_and_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, status: int) -> None:
    (tmp_path / "collecting.py").write_text(TEXT.format(end=end))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    told = []
    found, last, said = run_module(
        "collecting", [], tmp_path, lambda name, done, total: told.append((name, done, total)), patience=2
    )
    assert (found, last) == (status, "second")
    assert told == [("first", 0, 2), ("second", 1, 2)]
    assert "the reason" in said

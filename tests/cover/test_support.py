"""What targets take: measured one operator at a time, shipped, and what the generator makes of it."""

import json
from pathlib import Path

import pytest

from shakeout.corpus import support
from shakeout.corpus.rows import LedgerRow
from shakeout.corpus.support import Support
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.running import compose as composing


def test_a_measured_table_is_read_back(tmp_path: Path) -> None:
    rows = [
        LedgerRow("mine", "torch.add", generated=5, valid=5, executed=4, compared=4, unsupported=1),
        LedgerRow("mine", "torch.sort", generated=3, valid=3, unsupported=3),
        LedgerRow("mine", "torch.fft.fft", generated=2, valid=2, executed=2, compared=0),
        LedgerRow("mine", "torch.neg", generated=1),  # the reference rejected it: nothing is known
        LedgerRow("other", "torch.sub", generated=1, valid=1, unsupported=1),
    ]
    text = support.measured("mine", rows, {"torch": "2.13.0"})
    assert json.loads(text)["versions"] == {"torch": "2.13.0"}
    (tmp_path / "mine.json").write_text(text)
    table = support.load("mine", tmp_path)
    assert table == {
        "torch.add": Support(4, 1, 0),
        "torch.sort": Support(0, 3, 0),
        "torch.fft.fft": Support(0, 0, 2),
    }
    assert [operator for operator, row in table.items() if row.declined] == ["torch.sort"]
    assert support.load("unknown", tmp_path) == {}
    assert support.load("../mine", tmp_path / "deeper") == {}


def test_shipped_tables_are_well_formed() -> None:
    for path in support.DIRECTORY.glob("*.json"):
        table = support.load(path.stem)
        assert len(table) > (200 if path.stem.startswith("onnx.") else 500), path
        assert all(min(row.compared, row.unsupported, row.failed) >= 0 for row in table.values()), path
        assert len(support.declined(path.stem)) < len(table), path


def test_the_generator_leans_towards_what_is_taken_and_explores(monkeypatch: pytest.MonkeyPatch) -> None:
    composing.prepare(lambda text: None)
    everything = frozenset(composing._loaded[0].operators)
    taken = {"torch.sin", "torch.cos", "torch.neg"}
    monkeypatch.setattr(composing, "declined", lambda target, directory: everything - taken)
    explored = 0
    for seed in range(60):
        job = Grow(number=seed, target="eager", seed=seed, recipe={"style": "network", "operators": 4})
        operators = set(composing.compose(job).case.program.operators())
        explored += bool(operators & everything - taken)
    assert 2 <= explored <= 25

"""ONNX models from end to end: a campaign, and a user's model from the file to the optimiser that is to blame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402

from shakeout.corpus.database import NAME, Database  # noqa: E402
from shakeout.fuzz.cli import main  # noqa: E402
from shakeout.fuzz.reporting.counted import counted  # noqa: E402

pytestmark = pytest.mark.long


def test_a_campaign_on_models_compares_many_and_finds_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "cache"))
    words = "run --vocabulary onnx --target onnxruntime --cases 60 --workers 2 --operators 4 --directory d --exit-zero"
    assert main([*words.split(), "--plain"]) == 0
    with Database.read(Path("d") / NAME) as database:
        row = counted(database).totals["onnx.onnxruntime"]
    assert row.compared > 100
    assert row.compared > 2 * row.unsupported
    assert not row.infra
    # Models are not grown of torch's operators, which take minutes to collect.
    assert not list(Path("cache").glob("torch-*"))


def test_a_model_that_an_optimiser_breaks_is_imported_minimised_and_bisected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    value: Any = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Transpose", ["a"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "r"], ["m"]),
        helper.make_node("Abs", ["m"], ["y"]),
    ]
    inputs = [value("a", TensorProto.FLOAT, [2, 3]), value("c", TensorProto.FLOAT, [2])]
    graph = helper.make_graph(nodes, "graph", inputs, [value("y", TensorProto.FLOAT, [3])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    Path("model.onnx").write_bytes(model.SerializeToString())
    if main(["check", "model.onnx", "--target", "onnxruntime"]) == 0:
        pytest.skip("this ONNX Runtime multiplies a transposed matrix by a vector right")
    assert "onnx.onnxruntime differs: value" in capsys.readouterr().out
    assert main(["import", "model.onnx"]) == 0
    (case,) = Path("imported").glob("*/case.json")
    assert main(["minimise", str(case)]) in (0, 1)
    least = json.loads((case.parent / "case.min.json").read_text(encoding="utf-8"))
    operators = [call["operator"] for call in least["program"]["calls"]]
    assert operators == ["onnx.v13.Transpose", "onnx.v13.MatMul"]
    assert main(["bisect", str(case.parent / "case.min.json")]) in (0, 1)
    kept = (case.parent / "case.min.bisection.json").read_text(encoding="utf-8")
    assert "MatmulTransposeFusion" in kept, capsys.readouterr().out

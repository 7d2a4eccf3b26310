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


def hostile(name: str) -> bytes:
    """A model that is none, as the file that somebody has."""
    value: Any = helper.make_tensor_value_info
    nodes, held = (
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 2])],
    )
    if name == "outside":
        held = [TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)]
        held[0].external_data.add(key="location", value="../secret.bin")
    elif name == "cyclic":
        nodes.append(helper.make_node("Neg", ["y"], ["w"]))
        held = []
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])], held
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    if name == "deep":  # a graph in a node in a graph, beyond what any reader follows
        data = b""
        for _ in range(3000):
            for field in (6, 5, 1):  # of AttributeProto, NodeProto, GraphProto
                data = bytes([field << 3 | 2]) + _varint(len(data)) + data
        return bytes([7 << 3 | 2]) + _varint(len(data)) + data
    return data[: len(data) // 2] if name == "truncated" else data


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["import"], "deep"),
        (["check"], "outside"),
        (["check", "--target", "inductor"], "cyclic"),
        pytest.param(["import"], "cyclic", marks=pytest.mark.exhaustive),
        pytest.param(["import", "--target", "inductor"], "outside", marks=pytest.mark.exhaustive),
        pytest.param(["check"], "deep", marks=pytest.mark.exhaustive),
        pytest.param(["check"], "truncated", marks=pytest.mark.exhaustive),
        (["replay"], "deep"),
        (["minimise"], "truncated"),
        (["bisect"], "cyclic"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else one,
)
def test_a_hostile_model_costs_a_command_a_line_and_status_2(
    command: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(8))
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    Path("m.onnx").write_bytes(hostile(name))
    assert main([command[0], "m.onnx", *command[1:]]) == 2
    said = "".join(capfd.readouterr())
    assert "m.onnx" in said or "secret.bin" in said
    assert "Traceback" not in said
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["m.onnx", "models", "secret.bin"]

"""ONNX models of users: read node by node, with their weights, or refused in a line; nothing outside is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from shakeout.corpus import blobs, codec, script  # noqa: E402
from shakeout.corpus.case import Setting  # noqa: E402
from shakeout.corpus.intake import onnx_program as reading  # noqa: E402
from shakeout.corpus.intake.onnx_program import Read, read_inputs, read_program  # noqa: E402
from shakeout.corpus.intake.refusal import NotCaptured  # noqa: E402
from shakeout.fuzz.cli import main  # noqa: E402
from shakeout.fuzz.running import runs  # noqa: E402

info = helper.make_tensor_value_info
FLOAT = TensorProto.FLOAT


def saved(path: Path, nodes: Any, inputs: Any, outputs: Any, held: Any = (), **more: Any) -> Path:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(held))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *more.pop("opsets", [])], **more)
    model.ir_version = 8
    path.write_bytes(model.SerializeToString())
    return path


def network(path: Path) -> Path:
    weights = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["two"], value_float=2.0),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Mul", ["a", "two"], ["b"]),
        helper.make_node("Split", ["b"], ["c", "d"], axis=1),
        helper.make_node("Clip", ["c", "", "two"], ["y"]),
    ]
    outputs = [info("y", FLOAT, None), info("d", FLOAT, None)]
    return saved(path, nodes, [info("x", FLOAT, ["batch", 300])], outputs, [numpy_helper.from_array(weights, "w")])


def read(path: Path, inputs: Any = None) -> Read:
    return read_program(path, inputs, Setting("onnx.onnxruntime"), path.parent)


def test_a_model_becomes_the_program_that_it_is_with_its_weights_as_blobs(tmp_path: Path) -> None:
    path = network(tmp_path / "model.onnx")
    given = torch.linspace(-1, 1, 900).reshape(3, 300)
    found = read(path, {"x": given})
    program = found.case.program
    assert program.operators() == ("onnx.v13.MatMul", "onnx.v14.Mul", "onnx.v13.Split", "onnx.v13.Clip")
    assert [one.role for one in program.inputs] == ["input", "parameter", "parameter"]
    assert len(blobs.held(found.case)) == 2  # what is fed, and the weights; the constant stands in the text
    stored = codec.decode(found.case.text, (str(tmp_path / blobs.FOLDER),))
    assert stored.id == found.case.id
    seen = runs.observe(script.load(stored))
    wanted = onnx.reference.ReferenceEvaluator(onnx.load(path)).run(None, {"x": given.numpy()})
    assert all(torch.equal(a, torch.from_numpy(b)) for a, b in zip(seen.calls[0]["output"], wanted, strict=True))


def test_sizes_with_a_name_are_drawn_and_told(tmp_path: Path) -> None:
    found = read(network(tmp_path / "model.onnx"))
    assert found.case.program.inputs[0].type.shape == (2, 300)
    assert any("the size batch is 2 here" in note for note in found.notes)


def test_functions_are_put_in_the_place_of_their_calls(tmp_path: Path) -> None:
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    path = saved(
        tmp_path / "model.onnx",
        [helper.make_node("Twice", ["x"], ["y"], domain="own")],
        [info("x", FLOAT, [2])],
        [info("y", FLOAT, [2])],
        opsets=[helper.make_opsetid("own", 1)],
        functions=[twice],
    )
    assert read(path).case.program.operators() == ("onnx.v14.Add",)


def lying_elsewhere(path: Path, location: str, length: int = 16) -> Path:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    return saved(path, nodes, [info("x", FLOAT, [4])], [info("y", FLOAT, [4])], [weight])


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    found = read(lying_elsewhere(tmp_path / "model.onnx", "weights.bin"), {"x": torch.ones(4)})
    assert torch.equal(runs.observe(script.load(found.case)).calls[0]["output"][0], torch.tensor([1.0, 2, 3, 4]))


NODES = {
    "cyclic": [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])],
    "of no operator": [helper.make_node("NoSuch", ["x"], ["b"])],
    "of a domain that nobody knows": [helper.make_node("Gelu", ["x"], ["b"], domain="com.example")],
    "with chance": [helper.make_node("RandomNormalLike", ["x"], ["b"])],
    "of other shapes": [helper.make_node("Reshape", ["x", "s"], ["b"])],
    "too large": [helper.make_node("Expand", ["x", "l"], ["b"])],
}
SAYS = {
    "cyclic": "no valid ONNX model: Nodes in a graph must be topologically sorted",
    "of no operator": "No Op registered for NoSuch",
    "of a domain that nobody knows": "operators of the domain 'com.example' are not read",
    "with chance": "no program may have this operator",
    "of other shapes": "ONNX's reference does not run it: cannot reshape",
    "too large": "would need too much memory",
}


@pytest.mark.parametrize("name", NODES)
def test_a_graph_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    held = [numpy_helper.from_array(np.array([7, 7]), "s"), numpy_helper.from_array(np.array([1 << 20] * 2), "l")]
    domains = [helper.make_opsetid("com.example", 1)]
    path = saved(
        tmp_path / "m.onnx", NODES[name], [info("x", FLOAT, [1])], [info("b", FLOAT, None)], held, opsets=domains
    )
    with pytest.raises(NotCaptured, match=SAYS[name]):
        read(path)


@pytest.mark.parametrize("place", ["../secret.bin", "link.bin", "/etc/passwd", "nothing.bin", "short.bin"])
def test_nothing_outside_of_the_models_directory_is_read(place: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "short.bin").write_bytes(bytes(3))
    with pytest.raises(NotCaptured, match=r"not beside the model|no such file|behind the end"):
        read(lying_elsewhere(folder / "model.onnx", place))


def test_sizes_that_no_machine_holds_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    neg = [helper.make_node("Neg", ["x"], ["y"])]
    path = saved(tmp_path / "m.onnx", neg, [info("x", FLOAT, [1 << 40, 1 << 20])], [info("y", FLOAT, None)])
    with pytest.raises(NotCaptured, match="are not run here"):
        read(path)
    weight = TensorProto(name="x", data_type=FLOAT, dims=[1 << 40])
    with pytest.raises(NotCaptured, match=f"{reading.ELEMENTS} elements at most"):
        read(saved(tmp_path / "m.onnx", neg, [], [info("y", FLOAT, None)], [weight]))


def test_inputs_are_arrays_of_the_names_and_types_of_the_model(tmp_path: Path) -> None:
    path = network(tmp_path / "model.onnx")
    for given, says in (
        ({"z": torch.ones(3)}, "the model has the inputs x, found z"),
        ({"x": torch.ones(2, 3)}, "takes float32"),
        ({"x": torch.ones(2, 300, dtype=torch.float64)}, "takes float32"),
    ):
        with pytest.raises(NotCaptured, match=says):
            read(path, given)
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("objects.npz", "text.npz"):
        with pytest.raises(NotCaptured, match=r"is no \.npz file of arrays"):
            read_inputs(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello" * 9], ids=["empty", "text"])
def test_a_file_that_holds_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(NotCaptured, match=r"model\.onnx is no ONNX model"):
        read(tmp_path / "model.onnx")


def test_the_command_refuses_a_truncated_model_with_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = network(Path("model.onnx"))
    path.write_bytes(path.read_bytes()[:2000])
    assert main(["import", "model.onnx"]) == 2
    said = capsys.readouterr().err
    assert "model.onnx is no ONNX model" in said
    assert "Traceback" not in said
    assert not Path("imported").exists()


def test_inputs_go_with_a_model_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "script.py"
    path.write_text("")
    assert main(["import", str(path), "--inputs", str(path)]) == 2
    assert "--inputs goes with a model" in capsys.readouterr().err

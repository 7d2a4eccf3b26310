"""ONNX models of users: read node by node, with their weights, or refused in a line; nothing outside is read."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from shakeout.corpus import blobs, codec, script  # noqa: E402
from shakeout.corpus.case import Setting  # noqa: E402
from shakeout.corpus.intake.onnx_program import Read, read_inputs, read_program  # noqa: E402
from shakeout.corpus.intake.refusal import NotCaptured  # noqa: E402
from shakeout.corpus.vocabularies import onnx as words  # noqa: E402
from shakeout.corpus.vocabularies.onnx_defined import MAX_ELEMENTS  # noqa: E402
from shakeout.fuzz.cli import main  # noqa: E402
from shakeout.fuzz.commands.intake import read_for  # noqa: E402
from shakeout.fuzz.intake import checking  # noqa: E402
from shakeout.fuzz.intake.compiled import Candidates  # noqa: E402
from shakeout.fuzz.intake.sessions import take_program  # noqa: E402
from shakeout.fuzz.intake.told import Request  # noqa: E402
from shakeout.fuzz.running import runs  # noqa: E402
from shakeout.generators.validity import validated  # noqa: E402
from shakeout.targets.target import UnknownTarget  # noqa: E402

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


def weight_elsewhere(location: str, length: int = 16) -> TensorProto:
    weight = TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    return weight


def lying_elsewhere(path: Path, location: str, length: int = 16) -> Path:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    return saved(path, nodes, [info("x", FLOAT, [4])], [info("y", FLOAT, [4])], [weight_elsewhere(location, length)])


def test_weights_beside_the_model_are_read(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    found = read(lying_elsewhere(tmp_path / "model.onnx", "weights.bin"), {"x": torch.ones(4)})
    assert torch.equal(runs.observe(script.load(found.case)).calls[0]["output"][0], torch.tensor([1.0, 2, 3, 4]))


def test_what_a_real_model_computes_is_no_proposal(tmp_path: Path) -> None:
    # Pooling in loops of Python, and more elements than a model is grown with: a minimiser's candidates have them too.
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a"], kernel_shape=[2, 2], strides=[16, 32]),
        helper.make_node("ReduceMax", ["a"], ["m"], keepdims=1),
        helper.make_node("Expand", ["m", "sizes"], ["b"]),
        helper.make_node("LSTM", ["t", "w", "r"], ["", "h"], hidden_size=2),
    ]
    held = [numpy_helper.from_array(np.array([1 << 10, 1, 32, 64]), "sizes")]
    held += [numpy_helper.from_array(np.ones((1, 8, 2), np.float32), name) for name in "wr"]
    given = [info("x", FLOAT, [1, 1, 32, 64]), info("t", FLOAT, [3, 1, 2])]
    outputs = [info(name, FLOAT, None) for name in ("b", "h")]
    case = read(saved(tmp_path / "m.onnx", nodes, given, outputs, held)).case
    assert case.program.types()[case.program.returns[0]].shape == (1 << 10, 1, 32, 64)  # type: ignore[union-attr]
    assert case.program.calls[-1].results[0] is None
    assert validated(case).program == case.program


def test_a_case_names_attributes_and_element_types_of_onnx_and_no_domain(tmp_path: Path) -> None:
    text = read(network(tmp_path / "m.onnx")).case.text
    assert '"kwargs":{"axis":1}' in text
    with pytest.raises(codec.MalformedCase, match="'domain' is no attribute"):
        codec.decode(text.replace('"kwargs":{"axis":1}', '"kwargs":{"axis":1,"domain":"com.microsoft"}'))
    with pytest.raises(codec.MalformedCase, match="ONNX has no tensors of complex64"):
        codec.decode(text.replace('"dtype":"float32"', '"dtype":"complex64"'))


NODES = {
    "cyclic": [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])],
    "of no operator": [helper.make_node("NoSuch", ["x"], ["b"])],
    "of a domain that nobody knows": [helper.make_node("Gelu", ["x"], ["b"], domain="com.example")],
    "with chance": [helper.make_node("RandomNormalLike", ["x"], ["b"])],
    "with a sequence": [
        helper.make_node("SplitToSequence", ["x"], ["q"]),
        helper.make_node("ConcatFromSequence", ["q"], ["b"], axis=0),
    ],
    "of other shapes": [helper.make_node("Reshape", ["x", "s"], ["b"])],
    "too large": [helper.make_node("Expand", ["x", "l"], ["b"])],
}
SAYS = {
    "cyclic": "no valid ONNX model: Nodes in a graph must be topologically sorted",
    "of no operator": "No Op registered for NoSuch",
    "of a domain that nobody knows": "operators of the domain 'com.example' are not read",
    "with chance": "no program may have this operator",
    "with a sequence": "SplitToSequence.*no program may have this operator",
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


def calling(levels: int, *, again: bool = False) -> tuple[list[Any], list[Any]]:
    """Nodes and functions of a model each level of which calls the next one twice, or the first once more."""
    names = [f"F{level}" for level in range(levels)]
    last = helper.make_node("F0", ["t"], ["b"], domain="own") if again else helper.make_node("Neg", ["t"], ["b"])
    functions = []
    for level, name in enumerate(names):
        inner = [helper.make_node("Abs", ["a"], ["t"]), last]
        if level + 1 < levels:
            inner = [helper.make_node(names[level + 1], [a], [b], domain="own") for a, b in ("at", "tb")]
        domains = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", name, ["a"], ["b"], inner, domains))
    return [helper.make_node("F0", ["x"], ["b"], domain="own")], functions


@pytest.mark.parametrize(
    ("levels", "again", "says"), [(40, False, "more than 65536 nodes"), (3, True, "the function 'F0' calls itself")]
)
def test_functions_that_never_end_are_not_put_anywhere(levels: int, again: bool, says: str, tmp_path: Path) -> None:
    nodes, functions = calling(levels, again=again)
    value = [info("x", FLOAT, [2])], [info("b", FLOAT, [2])]
    domains = [helper.make_opsetid("own", 1)]
    with pytest.raises(NotCaptured, match=says):
        read(saved(tmp_path / "m.onnx", nodes, *value, opsets=domains, functions=functions))


def test_what_ends_the_process_of_shape_inference_is_refused_before_it(tmp_path: Path) -> None:
    node = helper.make_node("GatherND", ["x", "i"], ["b"], batch_dims=-100)
    value = [info("x", FLOAT, [2, 2, 2]), info("i", TensorProto.INT64, [2, 1])], [info("b", FLOAT, [2])]
    with pytest.raises(NotCaptured, match=r"batch_dims=-100, expected a number from 0 on"):
        read(saved(tmp_path / "m.onnx", [node], *value))
    body = helper.make_graph([node], "body", [], [info("b", FLOAT, None)])
    branch = helper.make_node("If", ["c"], ["b"], then_branch=body, else_branch=body)
    value[0].append(info("c", TensorProto.BOOL, []))
    with pytest.raises(NotCaptured, match=r"batch_dims=-100"):
        read(saved(tmp_path / "m.onnx", [branch], *value))
    told = helper.make_node("GatherND", ["x", "i"], ["b"])
    told.attribute.add(name="batch_dims", ref_attr_name="n", type=2)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", ["x", "i"], ["b"], [told], domains, ["n"])
    call = helper.make_node("F", ["x", "i"], ["b"], domain="own", n=-100)
    with pytest.raises(NotCaptured, match="has its batch_dims from a call of a function"):
        read(saved(tmp_path / "m.onnx", [call], *value, opsets=domains[1:], functions=[function]))
    with pytest.raises(ValueError, match="negative number of batch dimensions"):
        words.resolve("onnx.v13.GatherND")(torch.ones(2, 2, 2), torch.zeros(2, 1, dtype=torch.int64), batch_dims=-2)


def test_names_in_a_model_say_nothing_to_a_terminal(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["x", "s"], ["b"], name="a\n\x1b[2Jb")
    held = [numpy_helper.from_array(np.array([7, 7]), "s")]
    with pytest.raises(NotCaptured) as seen:
        read(saved(tmp_path / "m.onnx", [node], [info("x", FLOAT, [1])], [info("b", FLOAT, None)], held))
    assert str(seen.value).isprintable()
    assert r"node a\n\x1b[2Jb (Reshape)" in str(seen.value)


@pytest.mark.parametrize("place", ["../secret.bin", "link.bin", "/etc/passwd", "nothing.bin", "short.bin"])
def test_nothing_outside_of_the_models_directory_is_read(place: str, tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "short.bin").write_bytes(bytes(3))
    with pytest.raises(NotCaptured, match=r"not beside the model|no such file|behind the end"):
        read(lying_elsewhere(folder / "model.onnx", place))


@pytest.mark.parametrize("place", ["weights.bin", "m/weights.bin"])
def test_nothing_outside_is_read_for_a_constant_of_a_function(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where onnx itself would look
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    folder = tmp_path / "models"
    folder.mkdir()
    constant = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", FLOAT, [1], [0.0]))
    constant.attribute[0].t.CopyFrom(weight_elsewhere(place))
    nodes = [constant, helper.make_node("Add", ["a", "c"], ["b"])]
    plus = helper.make_function("own", "Plus", ["a"], ["b"], nodes, [helper.make_opsetid("", 17)])
    call = [helper.make_node("Plus", ["x"], ["y"], domain="own")]
    value = [info("x", FLOAT, [4])], [info("y", FLOAT, [4])]
    domains = [helper.make_opsetid("own", 1)]
    with pytest.raises(NotCaptured, match="no such file"):
        read(saved(folder / "m.onnx", call, *value, opsets=domains, functions=[plus]))


@pytest.mark.parametrize(
    ("place", "length"), [("a\0b", 16), ("a" * 5000, 16), ("", 16), ("w.bin", 12), ("w.bin", 1 << 40)]
)
def test_a_place_of_weights_that_is_none_is_refused(place: str, length: int, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(16))
    with pytest.raises(NotCaptured, match=r"the tensor 'w' (lies|is said)"):
        read(lying_elsewhere(tmp_path / "model.onnx", place, length))


def test_sizes_that_no_machine_holds_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    neg = [helper.make_node("Neg", ["x"], ["y"])]
    path = saved(tmp_path / "m.onnx", neg, [info("x", FLOAT, [1 << 40, 1 << 20])], [info("y", FLOAT, None)])
    with pytest.raises(NotCaptured, match=f"{MAX_ELEMENTS} elements at most"):
        read(path)
    for sizes in ([f"size{place}" for place in range(60)], [1 << 26, "one", "another"], [0, 1 << 62, 1 << 62]):
        with pytest.raises(NotCaptured, match=f"{MAX_ELEMENTS} elements at most"):
            read(saved(tmp_path / "m.onnx", neg, [info("x", FLOAT, sizes)], [info("y", FLOAT, None)]))
    weight = TensorProto(name="x", data_type=FLOAT, dims=[1 << 40])
    with pytest.raises(NotCaptured, match=f"{MAX_ELEMENTS} elements at most"):
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
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez_compressed(tmp_path / "damaged.npz", x=np.zeros(1000))
    content = (tmp_path / "damaged.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(content[:60] + bytes(b ^ 255 for b in content[60:90]) + content[90:])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 45,)})
    with zipfile.ZipFile(tmp_path / "endless.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    for name in ("objects.npz", "text.npz", "array.npy", "damaged.npz", "endless.npz", "missing.npz"):
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


def test_a_model_becomes_a_program_of_torch_for_targets_of_such_on_the_inputs_that_are_given(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["x", "y"], ["z"])]
    path = saved(tmp_path / "m.onnx", nodes, [info("x", FLOAT, [2]), info("y", FLOAT, [2])], [info("z", FLOAT, [2])])
    np.savez(tmp_path / "in.npz", y=np.float32([1, 2]), x=np.float32([3, 5]))
    request = Request(str(path), "", "inductor", "", str(tmp_path), "", inputs=str(tmp_path / "in.npz"))
    candidates = Candidates(request)
    take_program(candidates, path)
    case = codec.decode(candidates.found[0].case)
    assert case.program.vocabulary == "torch"
    assert torch.equal(runs.observe(script.load(case)).calls[0]["output"][0], torch.tensor([2.0, 3]))
    np.savez(tmp_path / "in.npz", x=np.float32([3, 5]))
    take_program(candidates, path)
    assert "the model has the inputs x, y, found x" in candidates.refused[0].reason
    assert read_for("m.onnx", ["inductor", "export"]) == "inductor"
    assert {read_for("m.onnx", []), read_for("m.onnx", ["onnxruntime"]), read_for("m.py", ["inductor"])} == {""}


def test_a_model_is_asked_of_the_targets_that_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = read(network(tmp_path / "m.onnx")).case
    assert checking.chosen(case, ["onnxruntime", "onnx.onnxruntime"]) == ("onnx.onnxruntime",)
    with pytest.raises(UnknownTarget, match="no target 'inductor' takes programs"):
        checking.chosen(case, ["inductor"])
    monkeypatch.setattr(checking, "of_vocabulary", lambda vocabulary: ())  # a machine that has onnx alone
    with pytest.raises(UnknownTarget, match="none of the targets of ONNX models is installed"):
        checking.chosen(case, [])


def test_other_files_are_read_without_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"")
    text = (
        "import sys; sys.modules['onnx'] = None\n"
        "from shakeout.targets import packages; packages.installed = lambda module: module != 'onnx'\n"
        "from pathlib import Path; from shakeout.fuzz.intake import files\n"
        "try: files.read(Path('m.onnx'), '', None)\n"
        "except files.CannotRead as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True)
    assert "m.onnx is read with ONNX's own package: onnx not installed: pip install onnx" in done.stdout, done.stderr


def test_inputs_go_with_a_model_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "script.py"
    path.write_text("")
    assert main(["import", str(path), "--inputs", str(path)]) == 2
    assert "--inputs goes with a model" in capsys.readouterr().err

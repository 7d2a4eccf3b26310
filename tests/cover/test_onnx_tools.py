"""ONNX's own tools as targets: what they make of a model is held against what the evaluator gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous  # noqa: E402
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType  # noqa: E402
from shakeout.fuzz.running.execute import execute, repro  # noqa: E402
from shakeout.targets import onnx_tools_staged, staged  # noqa: E402

F234, F432 = TensorType("float32", (2, 3, 4)), TensorType("float32", (4, 3, 2))


def case(program: Program, target: str, *knobs: tuple[str, Any]) -> Case:
    storages = tuple(Storage(one.type.dtype, one.type.numel, Values("uniform", 1, -1, 1)) for one in program.inputs)
    views = tuple(
        View(number, one.type.dtype, one.type.shape, contiguous(one.type.shape))
        for number, one in enumerate(program.inputs)
    )
    return Case(program, (InputSet(storages, views),), Setting(target, tuple(sorted(knobs))))


NETWORK = Program(
    (Input(F234),),
    (
        Call("onnx.v21.Transpose", (Ref(0),), (("perm", (2, 1, 0)),), (F432,)),
        Call("onnx.v21.Shape", (Ref(1),), (), (TensorType("int64", (3,)),)),
        Call("onnx.v21.Reshape", (Ref(0), Ref(2)), (), (F432,)),
        Call("onnx.v13.Softmax", (Ref(3),), (("axis", -1),), (F432,)),
    ),
    (4, 1),
    "onnx",
)


@pytest.mark.parametrize(
    ("target", "knobs"),
    [
        ("onnx.checker", ()),
        ("onnx.checker", (("shapes", "symbolic"), ("data_prop", False))),
        ("onnx.checker", (("through_file", True),)),
        ("onnx.converter", ()),
        ("onnx.converter", (("version", 18), ("text", True))),
    ],
    ids=str,
)
def test_a_right_model_passes(target: str, knobs: Any) -> None:
    result = execute(case(NETWORK, target, *knobs))
    assert (result.status, result.failure) == ("compared", None)


def test_an_operator_that_an_older_set_lacks_is_declined() -> None:
    gelu = Program((Input(F234),), (Call("onnx.v20.Gelu", (Ref(0),), (), (F234,)),), (1,), "onnx")
    result = execute(case(gelu, "onnx.converter", ("version", 18)))
    assert result.status == "unsupported"
    assert result.stage == "convert_version"


@pytest.mark.parametrize("lie", ["size", "type", "rank"])
def test_what_is_inferred_wrong_is_a_finding(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = onnx.shape_inference.infer_shapes

    def wrong(model: Any, **more: Any) -> Any:
        found = right(model, **more)
        told = (*found.graph.value_info, *found.graph.output)
        kind = next(one for one in told if one.name == "v1").type.tensor_type
        if lie == "size":
            kind.shape.dim[1].dim_value = 7
        elif lie == "type":
            kind.elem_type = onnx.TensorProto.DOUBLE
        else:
            del kind.shape.dim[2]
        return found

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", wrong)
    result = execute(case(NETWORK, "onnx.checker"))
    assert result.status == "failed"
    assert result.failure is not None
    assert "shape inference says" in result.failure.message
    assert "of Transpose" in result.failure.message
    assert result.stage == "infer_shapes"


def test_a_conversion_that_changes_the_outputs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    right = onnx.version_converter.convert_version

    def wrong(model: Any, version: int) -> Any:
        found = right(model, version)
        next(one for one in found.graph.node if one.op_type == "Softmax").attribute[0].i = 0
        return found

    monkeypatch.setattr(onnx.version_converter, "convert_version", wrong)
    softmax = Call("onnx.v13.Softmax", (Ref(0),), (("axis", -1),), (F432,))
    program = Program((Input(F432),), (softmax,), (1,), "onnx")
    result = execute(case(program, "onnx.converter"))
    assert result.failure is not None
    assert result.failure.symptom == "wrong value"


def test_what_the_converter_does_not_know_it_declines_and_what_breaks_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(staged, "SPENT", {})

    def breaking(text: str) -> Any:
        def convert(model: Any, version: int) -> Any:
            raise RuntimeError(text)

        return convert

    monkeypatch.setattr(
        onnx.version_converter, "convert_version", breaking("x.h:66: Assertion `false` failed: No Adapter")
    )
    with pytest.raises(staged.Declined):
        onnx_tools_staged.converted(None, 18)
    monkeypatch.setattr(onnx.version_converter, "convert_version", breaking("vector::_M_range_check"))
    with pytest.raises(RuntimeError, match="range_check") as seen:
        onnx_tools_staged.converted(None, 18)
    assert not onnx_tools_staged.tools_declined(seen.value)


def test_a_valid_model_that_the_checker_refuses_is_a_finding_with_a_script(tmp_path: Path) -> None:
    square = TensorType("float32", (2, 3, 2, 2))
    call = Call("onnx.v13.MeanVarianceNormalization", (Ref(0),), (), (square,))
    subject = case(Program((Input(square),), (call,), (1,), "onnx"), "onnx.checker")
    result = execute(subject)
    if result.failure is None:
        pytest.skip("this onnx gives the body of MeanVarianceNormalization its default axes")
    assert result.stage == "check_model"
    path = tmp_path / "repro.py"
    path.write_text(repro(subject, result), encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr

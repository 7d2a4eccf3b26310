"""Reports of what goes wrong behind the exporter: the ONNX model alone, which needs neither PyTorch nor Shakeout."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.tiers import some

from shakeout.corpus import known, regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Scalar, Setting
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting import exported
from shakeout.fuzz.reporting.models import behind_model, model_script
from shakeout.oracles.verdict import Outcome, Verdict
from shakeout.targets import numpy_printed, onnx_printed
from shakeout.targets.registry import target

pytestmark = pytest.mark.skipif(
    target("onnxruntime").unavailable() is not None, reason=str(target("onnxruntime").unavailable())
)

SHIPPED = {
    **{bug.id: bug.case for bug in known.load_all()},
    **{bug.id: bug.case for bug in regressions.load_all()},
}
#: What goes wrong in the session: a kernel, its optimiser, and what raises.
BEHIND = (
    "onnxruntime-max-pool-nan",
    "onnxruntime-repeat-interleave-of-zero",
    "onnxruntime-layer-norm-fusion-broadcast-scale",
    "onnxruntime-resize-nearest-off-by-one",
)
ALONE = (
    "import runpy, sys; sys.modules['shakeout'] = sys.modules['torch'] = None; "
    "runpy.run_path(sys.argv[1], run_name='__main__')"
)


def case_of(function: Callable[..., object], *given: torch.Tensor, **knobs: Scalar) -> Case:
    return capture(function, lambda: list(given), setting=Setting("onnxruntime", tuple(sorted(knobs.items()))))


def text_of(case: Case) -> str:
    text = model_script(case)
    assert text is not None
    assert "torch" not in text.replace("PyTorch", "")
    assert "shakeout" not in text
    return text


def run(text: str) -> tuple[int, str]:
    """Exit status and standard output of a script, run in this process."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            exec(compile(text, "<model>", "exec"), {})
    except SystemExit as end:
        return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


def test_a_script_cannot_run_where_a_package_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "repro.py"
    path.write_text(text_of(case_of(lambda x: x.sin(), torch.ones(3))))
    missing = ALONE.replace("sys.modules['torch']", "sys.modules['onnxruntime']")
    done = subprocess.run([sys.executable, "-c", missing, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 125, done.stderr
    assert "onnxruntime" in done.stderr


def test_a_shipped_bug_of_a_kernel_is_shown_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "repro.py"
    path.write_text(text_of(SHIPPED["onnxruntime-max-pool-nan"]))
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(path)], capture_output=True, text=True, check=False, timeout=300
    )
    if (done.returncode, done.stdout.strip()) == (0, "no difference"):
        pytest.skip("fixed in the installed ONNX Runtime")
    assert (done.returncode, done.stderr) == (1, "")
    assert "max_pool1d" in done.stdout
    assert "nan" in done.stdout
    # Attributes at their defaults are left out.
    assert 'helper.make_node("MaxPool", ' in path.read_text()
    assert "storage_order" not in path.read_text()


@pytest.mark.long
@pytest.mark.parametrize("name", some(BEHIND, every=4))
def test_a_report_has_the_model_of_what_goes_wrong_in_the_session(name: str) -> None:
    result = exported.observed(SHIPPED[name])
    assert result is not None
    if result.failure is None:
        pytest.skip("fixed in the installed ONNX Runtime")
    found = exported.export(SHIPPED[name], result)
    assert (found.form, found.shows, found.status) == ("model", True, "exit status 1")
    assert "helper.make_graph" in found.text
    assert found.lines < 60


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (lambda x: (x * 2 + 1).softmax(-1), (torch.arange(6.0).reshape(2, 3),)),
        (lambda x: x.to(torch.bfloat16).to(torch.float32) + 0.1, (torch.tensor([0.1, float("inf"), float("nan")]),)),
        (lambda x: torch.nn.functional.pad(x, (1, 2), value=float("-inf")), (torch.ones(2, dtype=torch.float16),)),
        (lambda x, y: torch.where(x > y, x, y).sum(0), (torch.arange(4), torch.tensor([3, 1, 2, 0]))),
        (lambda x: x.any(), (torch.tensor([False, True]),)),
        (lambda x: torch.cat([x, x[:0]]), (torch.ones(2, 0),)),
        (lambda x: x + 1j, (torch.tensor([1 + 2j]),)),
        (lambda x: torch.nn.functional.avg_pool2d(x, 2, 1, 1), (torch.arange(16.0).reshape(1, 1, 4, 4),)),
        (lambda x: (x, x.neg(), x), (torch.tensor([1.0]),)),
        (lambda x: x.double() / 3, (torch.tensor([0.1]),)),
    ],
)
def test_what_is_right_is_built_again_and_agrees(
    function: Callable[..., object], given: tuple[torch.Tensor, ...]
) -> None:
    assert run(text_of(case_of(function, *given))) == (0, "no difference\n")


def test_graphs_inside_nodes_functions_and_attributes_of_every_kind_are_printed() -> None:
    from onnx import AttributeProto, TensorProto, helper

    value, node, floats = helper.make_tensor_value_info, helper.make_node, TensorProto.FLOAT
    then = helper.make_graph([node("Twice", ["x"], ["t"], domain="own")], "then", [], [value("t", floats, ["n"])])
    other = helper.make_graph(
        [node("Constant", [], ["e"], value=helper.make_tensor("c", floats, [1], [0.1]))],
        "else", [], [value("e", floats, ["n"])],
    )  # fmt: skip
    nodes = [
        node("ReduceSum", ["x"], ["s"], keepdims=0),
        node("Greater", ["s", "zero"], ["p"]),
        node("If", ["p"], ["b"], then_branch=then, else_branch=other),
        node("LeakyRelu", ["b"], ["l"], alpha=0.3),
        node("Pad", ["l", "pads"], ["y"], mode="edge"),
    ]
    constants = [
        helper.make_tensor("zero", floats, [], [0.0]),
        helper.make_tensor("pads", TensorProto.INT64, [2], [0, 1]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", floats, ["n"])], [value("y", floats, ["m"])], constants)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])], opsets[:1])
    model = helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=10)
    for given, right in (([-1.0], [0.1, 0.1]), ([2.0], [4.0, 4.0])):
        text = onnx_printed.printed(model, [torch.tensor(given)], [torch.tensor(right)])
        assert text is not None
        assert run(text) == (0, "no difference\n")
        assert run(text.replace("0.1]", "0.2]").replace("4.0]", "5.0]"))[0] == 1
    model.graph.node[0].attribute.add(name="odd").type = AttributeProto.TYPE_PROTO
    assert onnx_printed.printed(model, [torch.tensor([1.0])], [torch.tensor([2.0, 2.0])]) is None


def test_a_wrong_number_a_wrong_dtype_and_an_error_are_told() -> None:
    text = text_of(case_of(lambda x: x.sin(), torch.ones(3)))
    assert "ONNX's reference evaluator" in text
    status, said = run(text.replace('"Sin"', '"Cos"'))
    assert (status, said.split(":")[0]) == (1, "sin")
    status, said = run(text.replace("expected = [\n    np.array([0.84", "expected = [\n    np.array([9.84"))
    assert (status, "9.84" in said) == (1, True)
    one, comment, rest = text.partition("# What PyTorch gives")
    status, said = run(one + comment + rest.replace("dtype=np.float32", "dtype=np.float64"))
    assert (status, said) == (1, "sin: float32[3] for float64[3]\n")
    status, said = run(text.replace('"Sin"', '"NoSuchOperator"'))
    assert status == 1
    assert "NoSuchOperator" in said


def test_the_session_has_the_options_of_the_setting() -> None:
    knobs: dict[str, Scalar] = {
        "optimization": "BASIC", "disabled": "ConstantFolding", "threads": 2, "execution_mode": "ORT_PARALLEL",
        "prepacking": False,
    }  # fmt: skip
    text = text_of(case_of(lambda x: x.sin(), torch.ones(3), **knobs))
    for line in (
        "options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC",
        "options.intra_op_num_threads = 2",
        "options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL",
        "options.add_session_config_entry('session.disable_prepacking', '1')",
        "disabled_optimizers=['ConstantFolding']",
    ):
        assert line in text, line
    assert run(text)[0] == 0


def test_what_the_model_alone_does_not_show_has_no_such_script(monkeypatch: pytest.MonkeyPatch) -> None:
    ones = torch.ones(3)
    assert model_script(case_of(lambda x: x.sin(), ones, saved="onnx")) is None
    assert model_script(case_of(lambda x: x.sin(), ones, again=True)) is None
    assert model_script(case_of(lambda x: x + 1, torch.ones(3, dtype=torch.bfloat16))) is None
    assert model_script(case_of(lambda x: x.sin(), torch.ones(numpy_printed.NUMBERS))) is None

    case = case_of(lambda x: x.sin().cos().exp(), ones)
    monkeypatch.setattr(onnx_printed, "NODES", 3)
    assert model_script(case) is not None
    monkeypatch.setattr(onnx_printed, "NODES", 2)
    assert model_script(case) is None


def test_only_what_fails_behind_the_model_is_shown_by_it() -> None:
    wrong = Verdict("value", Outcome.FAIL, "wrong value", "1 for 2")
    case = SHIPPED["onnxruntime-max-pool-nan"]

    def result(stage: str, *verdicts: Verdict) -> Result:
        return Result(case.id, "onnxruntime", "compared", verdicts, stage=stage)

    before = ("", "torch.export", "exported program", "torch.onnx", "ONNX model")
    assert not any(behind_model(case, result(stage, wrong)) for stage in before)
    behind = ("InferenceSession", "run", "unoptimised session", "onnxruntime")
    assert all(behind_model(case, result(stage, wrong)) for stage in behind)
    assert not behind_model(case, result("run"))
    assert not behind_model(case, None)
    assert not behind_model(replace(case, input_sets=case.input_sets * 2), result("run", wrong))
    inductor = replace(case, setting=Setting("inductor"))
    assert not behind_model(inductor, result("run", wrong))

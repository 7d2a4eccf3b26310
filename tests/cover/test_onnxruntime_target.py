"""ONNX Runtime as a target: what goes in and comes out, what is declined, and who is blamed."""

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running.execute import Shared, execute, repro
from shakeout.oracles.verdict import Outcome
from shakeout.targets import onnxruntime as subject
from shakeout.targets.onnxruntime import ONNXRUNTIME

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx.helper import make_node as node  # noqa: E402

from shakeout.corpus.onnx_elements import elements  # noqa: E402
from shakeout.targets import onnx_staged  # noqa: E402


def case(function: Callable, *inputs: torch.Tensor, mode: Mode = "inference", **knobs) -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    return capture(function, make, setting=Setting("onnxruntime", tuple(sorted(knobs.items())), mode))


def check(result: Result) -> None:
    assert (result.status, result.outcome) == ("compared", Outcome.PASS), result


def network(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
    hidden = torch.nn.functional.gelu(x @ y + z)
    return torch.softmax(hidden, -1).mT, hidden.sum(0), (x * 2).reshape(-1)[1:]


def test_every_setting_compiles_and_runs() -> None:
    one = case(network, torch.arange(6.0).reshape(2, 3), torch.ones(3, 4) / 2, torch.arange(4.0))
    shared = Shared()
    settings: Sequence[dict] = [{}, *({k.name: value} for k in ONNXRUNTIME.knobs() for value in k.values[1:])]
    settings = [*settings, {"saved": "ort", "optimization": "BASIC", "again": True, "execution_mode": "ORT_PARALLEL"}]
    for knobs in settings:
        setting = Setting("onnxruntime", tuple(sorted(knobs.items())))
        result = execute(replace(one, setting=setting), shared=shared)
        assert (result.status, result.outcome) == ("compared", Outcome.PASS), (knobs, result)
    models = [key for key in shared.kept if key.startswith("ONNX model")]
    assert len(models) == 5  # the default, without the exporter's rewrites, and three versions of the operator set


# --- the names of optimisers: one that is wrong would do nothing, and nobody would be told ---------------------------

FLOAT = onnx.TensorProto.FLOAT
ONES = {"s": [2], "b": [2, 1, 1], "w": [2, 3, 1, 1], "m": [3, 2]}

#: For each rule (it has no line of its own in the log), nodes that it changes, and the shape of ``x``.
RULES: dict[str, tuple[list[Any], list[Any]]] = {
    "EliminateIdentity": ([node("Identity", ["x"], ["a"]), node("Relu", ["a"], ["y"])], [3]),
    "EliminateDropout": ([node("Dropout", ["x"], ["a"]), node("Relu", ["a"], ["y"])], [3]),
    "CastElimination": ([node("Cast", ["x"], ["a"], to=FLOAT), node("Relu", ["a"], ["y"])], [3]),
    "PreShapeNodeElimination": ([node("Cast", ["x"], ["a"], to=11), node("Shape", ["a"], ["y"])], ["n"]),
    "ConvAddFusion": ([node("Conv", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["y"])], [1, 3, 5, 5]),
    "ConvMulFusion": ([node("Conv", ["x", "w"], ["a"]), node("Mul", ["a", "b"], ["y"])], [1, 3, 5, 5]),
    "ConvBNFusion": (
        [node("Conv", ["x", "w"], ["a"]), node("BatchNormalization", ["a", *"ssss"], ["y"])],
        [1, 3, 5, 5],
    ),
    "Pad_Fusion": ([node("Pad", ["x", "pads"], ["a"]), node("Conv", ["a", "w"], ["y"])], [1, 3, 5, 5]),
    "MatMul_BatchNormalization_Fusion": (
        [node("MatMul", ["x", "m"], ["a"]), node("BatchNormalization", ["a", *"ssss"], ["y"])],
        [5, 3],
    ),
    "GemmTransposeFusion": ([node("Transpose", ["x"], ["a"]), node("Gemm", ["a", "m"], ["y"])], [3, 5]),
    "NotWhereFusion": (
        [
            node("Greater", ["x", "one"], ["c"]),
            node("Not", ["c"], ["n"]),
            node("Where", ["n", "x", "one"], ["y"]),
        ],
        [3],
    ),
    "DivMulFusion": ([node("Div", ["one", "x"], ["a"]), node("Mul", ["a", "x"], ["y"])], [3]),
    "FuseReluClip": ([node("Relu", ["x"], ["a"]), node("Clip", ["a", "one", "one"], ["y"])], [3]),
}


def model(nodes: list[Any], shape: Sequence[Any], dtype: int = FLOAT) -> bytes:
    constants = {name: torch.ones(size).numpy() for name, size in ONES.items()} | {"one": torch.tensor(1.0).numpy()}
    constants["pads"] = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]).numpy()
    used = {name for one in nodes for name in one.input}
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info("x", dtype, shape)],
        [onnx.helper.make_empty_tensor_value_info("y")],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return made.SerializeToString()


def test_a_rule_that_is_left_out_changes_nothing(tmp_path: Path) -> None:
    def optimised(text: bytes, **knobs: Any) -> list[str]:
        path = tmp_path / "optimised.onnx"
        onnx_staged.ort_session(text, "EXTENDED", [("optimized_model_filepath", str(path))], **knobs)
        return [one.op_type for one in onnx.load(path).graph.node]

    for name, (nodes, shape) in RULES.items():
        text = model(nodes, shape)
        before = [one.op_type for one in nodes]
        assert optimised(text) != before, f"{name} has nothing to do"
        assert optimised(text, disabled=[name]) == before, name


def test_a_pass_that_is_left_out_does_not_run(capfd: pytest.CaptureFixture) -> None:
    text = model([node("Relu", ["x"], ["y"])], [3])

    def ran(*names: str) -> set[str]:
        onnx_staged.ort_session(text, options=[("log_severity_level", 0)], disabled=names)
        return set(re.findall(r"GraphTransformer (\w+) modified", capfd.readouterr().err))

    passes = set(subject.OPTIMISERS) - set(RULES)
    assert passes <= ran()
    for name in passes:
        assert name not in ran(name)


# --- tensors in and out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", elements(), ids=str)
def test_every_dtype_goes_in_and_comes_out(dtype: torch.dtype) -> None:
    one, none = (torch.arange(n * 2).reshape(n, 2).to(dtype) for n in (3, 0))
    text = model([node("Identity", ["x"], ["y"])], ["n", "m"], elements()[dtype])
    session = onnx_staged.ort_session(text)
    proto = onnx.load_from_string(text)
    for given in (one, one.t(), one[1:], one[:1].expand(4, 2), none):
        for (got,) in (onnx_staged.ort_run(session, [given]), onnx_staged.onnx_reference(proto, [given])):
            assert (got.dtype, got.shape) == (given.dtype, given.shape)
            assert torch.equal(got.view(torch.uint8), given.contiguous().view(torch.uint8))


def test_layouts_zero_sizes_and_scalars() -> None:
    base = torch.arange(24.0).reshape(4, 6)
    views = (base[1:, ::2], torch.ones(1).expand(3), torch.empty(0, 3), torch.tensor(2.0))
    check(execute(case(lambda x, y, z, w: (x + y, z * w, w.neg(), z.sum(0)), *views)))


def test_inputs_that_share_memory() -> None:
    def make() -> list[torch.Tensor]:
        base = torch.arange(6.0)
        return [base[:4], base[2:]]

    check(execute(capture(lambda x, y: (x + y,), make, setting=Setting("onnxruntime"))))


def test_outputs_that_are_inputs_constants_or_each_other() -> None:
    def odd(x: torch.Tensor, unused: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.relu(x)
        return x, y, y, torch.ones(2, dtype=torch.int8), x

    check(execute(case(odd, torch.ones(3), torch.ones(0))))


def test_a_value_that_is_returned_twice_comes_out_twice() -> None:
    # Without the exporter's rewrites both outputs have one name.
    one = case(lambda x: (x.abs(), x + 1), torch.tensor([-1.0, 2.0]))
    twice = replace(one, program=replace(one.program, returns=(1, 2, 1)))
    for knobs in ((), (("export.optimize", False),)):
        check(execute(replace(twice, setting=Setting("onnxruntime", knobs))))


def test_parameters_become_constants() -> None:
    def make() -> list[torch.Tensor]:
        return [torch.arange(6.0).reshape(2, 3), torch.ones(4, 3), torch.arange(4.0)]

    linear = capture(torch.nn.functional.linear, make, make, setting=Setting("onnxruntime"), parameters=(1, 2))
    check(execute(linear))


def test_complex_numbers_travel_as_pairs() -> None:
    x = torch.complex(torch.arange(4.0), torch.ones(4))
    check(execute(case(lambda x: (x * x, torch.view_as_real(x), x.reshape(2, 2)), x)))
    check(execute(case(lambda x: (x + x,), x.to(torch.complex128))))


def test_sizes_may_vary_between_the_calls() -> None:
    one, other = (case(lambda x: (torch.relu(x).sum(0), x.mT), torch.ones(n, 3)) for n in (4, 7))
    result = execute(replace(one, input_sets=(*one.input_sets, *other.input_sets)))
    check(result)
    assert result.seconds["torch.onnx"] > 0


# --- who says no -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "given", "stage"),
    [
        (torch.special.bessel_j0, torch.ones(3), "torch.onnx"),  # no converter
        (torch.nn.functional.softplus, torch.ones(3, dtype=torch.bfloat16), "InferenceSession"),  # no such dtype
        (lambda x: x.add_(1), torch.ones(3), ""),
        (lambda x: x.clone(), torch.ones(3, dtype=torch.complex32), "torch.onnx"),
    ],
)
def test_what_is_not_supported_is_declined(function: Callable, given: torch.Tensor, stage: str) -> None:
    result = execute(case(function, given))
    assert (result.status, result.stage) == ("unsupported", stage), result


def test_training_is_declined() -> None:
    result = execute(case(torch.sin, torch.ones(3, requires_grad=True), mode="training"))
    assert result.status == "unsupported"
    assert "backward" in result.reason


def planted(monkeypatch: pytest.MonkeyPatch, old: str, new: str) -> None:
    real = type(ONNXRUNTIME).source

    def source(self: Any, setting: Setting) -> str:
        text = real(self, setting)
        assert text.count(old) == 1
        return text.replace(old, new)

    monkeypatch.setattr(type(ONNXRUNTIME), "source", source)


def test_an_error_of_the_exporter_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, "KEPT[key] = made.model_proto", 'KEPT[key] = {}["no such operator"]')
    result = execute(case(torch.sin, torch.ones(3)))
    assert (result.status, result.stage) == ("failed", "torch.onnx"), result
    assert "KeyError" in result.signature


def test_an_invalid_model_is_the_exporters_fault_and_a_valid_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        broken = "KEPT[key] = made.model_proto; made.model_proto.graph.node[0].input.append('nowhere')"
        planted(patch, "KEPT[key] = made.model_proto", broken.replace("made.model_proto.g", "KEPT[key].g"))
        result = execute(case(torch.sin, torch.ones(3)))
        assert (result.status, result.stage) == ("failed", "torch.onnx"), result
    planted(monkeypatch, "return ort_session(model, **knobs)", 'return ort_session(b"no model", **knobs)')
    result = execute(case(torch.sin, torch.ones(3)))
    assert (result.status, result.stage) == ("failed", "InferenceSession"), result


def test_a_dtype_that_onnx_lacks_is_told_apart_from_a_promotion_that_was_forgotten() -> None:
    def lacks(operator: str, dtype: int, *further: str) -> bool:
        text = model([node(operator, ["x", *further], ["y"])], [3], dtype)
        with pytest.raises(Exception, match="INVALID_GRAPH") as caught:
            onnx_staged.ort_session(text)
        return onnx_staged.onnx_lacks_type(onnx.load_from_string(text), str(caught.value))

    kinds = onnx.TensorProto
    assert lacks("Acos", kinds.BFLOAT16)
    assert lacks("ReduceMax", kinds.INT16)
    assert not lacks("Acos", kinds.INT32)
    assert not lacks("Less", kinds.BOOL, "x")
    assert not lacks("SoftmaxCrossEntropyLoss", kinds.FLOAT, "one")  # the labels are whole numbers


# --- several settings of one program ---------------------------------------------------------------------------------


def test_settings_of_one_program_share_the_export() -> None:
    one = case(torch.cos, torch.ones(3))
    shared = Shared()
    first = execute(one, shared=shared)
    assert {"torch.export", "torch.onnx", "InferenceSession", "run"} <= set(first.seconds)
    second = execute(replace(one, setting=Setting("onnxruntime", (("optimization", "BASIC"),))), shared=shared)
    check(second)
    assert not {"torch.export", "torch.onnx"} & set(second.seconds)
    assert "InferenceSession" in second.seconds


# --- who is blamed for a value ---------------------------------------------------------------------------------------

COSINE = "[setattr(node, 'op_type', 'Cos') for node in model.graph.node if node.op_type == 'Sin']"
COPIED = "model = type(model).FromString(model.SerializeToString())"


@pytest.mark.parametrize(
    ("old", "new", "stage"),
    [
        ("program = exported(function, given)", "program = exported(torch.cos, given)", "exported program"),
        (
            "KEPT[key] = made.model_proto",
            f"model = KEPT[key] = made.model_proto; {COSINE}",
            "ONNX model",
        ),
        ("session.run_with_iobinding(binding)", "[h.neg_() for h in held]; X", "unoptimised session"),
        ("return ort_session(model, **knobs)", f"{COPIED}; {COSINE}; X", "onnxruntime"),
    ],
)
def test_the_first_wrong_stage_is_named(monkeypatch: pytest.MonkeyPatch, old: str, new: str, stage: str) -> None:
    planted(monkeypatch, old, new.replace("X", old))
    result = execute(case(torch.sin, torch.arange(3.0)))
    assert result.failure is not None
    assert (result.failure.oracle, result.stage) == ("value", stage)


def test_only_what_two_runtimes_say_is_held_against_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = onnx.load_from_string(model([node("Relu", ["x"], ["y"])], [3]))
    proto.graph.output[0].type.tensor_type.elem_type = FLOAT
    ones, twos = torch.ones(3), torch.full((3,), 2.0)
    assert torch.equal(onnx_staged.onnx_agreed(proto, [ones], (), [twos])[0], ones)  # both say so
    for wrong in ([twos * 2], RuntimeError("no such operator")):
        said = lambda *given, wrong=wrong: raises(wrong)  # noqa: E731
        monkeypatch.setattr(onnx_staged, "onnx_reference", said)
        assert torch.equal(onnx_staged.onnx_agreed(proto, [ones], (), [twos])[0], twos)  # nobody knows
        whole = twos.to(torch.int64)
        assert onnx_staged.onnx_agreed(proto, [ones], (), [whole])[0].dtype == torch.float32  # the model says so


def raises(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


# --- the script ------------------------------------------------------------------------------------------------------


def test_the_script_runs_in_a_fresh_process(tmp_path: Path) -> None:
    script = tmp_path / "repro.py"
    script.write_text(repro(case(torch.sin, torch.arange(3.0), saved="onnx", threads=2)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference"), done
    assert f"onnxruntime {onnxruntime.__version__}" in done.stdout


def test_what_is_missing_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ONNXRUNTIME.unavailable() is None
    monkeypatch.setattr("shakeout.targets.packages.module_available", lambda module: module in ("torch", "onnx"))
    assert ONNXRUNTIME.unavailable() == "onnxscript, onnxruntime not installed: pip install onnxscript onnxruntime"


def test_a_broken_install_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "onnxruntime")
    assert "--force-reinstall onnxruntime" in str(ONNXRUNTIME.unavailable())


def test_asking_whether_it_is_there_imports_nothing() -> None:
    code = "import sys; from shakeout.targets.registry import target; print(target('onnxruntime').unavailable())"
    code += "; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["None", "[]"], done


def test_warming_leaves_the_process_as_it_was() -> None:
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.random.get_rng_state()
    ONNXRUNTIME.warm()
    assert (torch.get_num_threads(), torch.get_default_dtype()) == before[:2]
    assert torch.equal(torch.random.get_rng_state(), before[2])
    assert (torch.tensor(1e-40) * 1).item() != 0  # subnormals are still there

"""The onnx vocabulary: what a call means, what is none, and that models which are grown are right and run."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from shakeout.corpus import codec, script  # noqa: E402
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous  # noqa: E402
from shakeout.corpus.program import Call, Input, InvalidProgram, Program, Ref, TensorType  # noqa: E402
from shakeout.corpus.support import refused  # noqa: E402
from shakeout.corpus.vocabularies import onnx as words  # noqa: E402
from shakeout.corpus.vocabularies import onnx_schemas as schemas  # noqa: E402
from shakeout.corpus.vocabularies.admission import NotAdmitted, admit  # noqa: E402
from shakeout.fuzz.gate import errand  # noqa: E402
from shakeout.fuzz.ground.jobs import Grow  # noqa: E402
from shakeout.fuzz.running import runs  # noqa: E402
from shakeout.fuzz.running.compose import compose  # noqa: E402
from shakeout.fuzz.running.execute import Shared, execute, repro  # noqa: E402
from shakeout.generators.vocabularies import onnx_bootstrap  # noqa: E402
from shakeout.generators.vocabularies.collecting import collected  # noqa: E402
from shakeout.generators.vocabularies.onnx import SHIPPED, cache_path, load_onnx  # noqa: E402
from shakeout.generators.vocabularies.probe import Draft, DraftSlot, probe  # noqa: E402
from shakeout.generators.vocabularies.records import Record  # noqa: E402
from shakeout.targets import onnx_models_staged, staged  # noqa: E402
from shakeout.targets.registry import of_vocabulary, within  # noqa: E402
from shakeout.targets.target import UnknownTarget  # noqa: E402
from shakeout.testing import check_vocabulary  # noqa: E402

F23, F34, F24 = TensorType("float32", (2, 3)), TensorType("float32", (3, 4)), TensorType("float32", (2, 4))


def case(program: Program, target: str = "onnx.onnxruntime", values: Values | None = None) -> Case:
    storages = tuple(
        Storage(one.type.dtype, one.type.numel, values or Values("uniform", number, -1, 1))
        for number, one in enumerate(program.inputs)
    )
    views = tuple(
        View(number, one.type.dtype, one.type.shape, contiguous(one.type.shape))
        for number, one in enumerate(program.inputs)
    )
    return Case(program, (InputSet(storages, views),), Setting(target))


def unary(operator: str, **kwargs: Any) -> Program:
    return Program((Input(F23),), (Call(operator, (Ref(0),), tuple(kwargs.items()), (F23,)),), (1,), "onnx")


NETWORK = Program(
    (Input(F23), Input(F34, "parameter")),
    (
        Call("onnx.v13.MatMul", (Ref(0), Ref(1)), (), (F24,)),
        Call("onnx.v13.Softmax", (Ref(2),), (("axis", 1),), (F24,)),
        Call("onnx.v13.Clip", (Ref(3), None, None), (), (F24,)),
    ),
    (4, 0),
    "onnx",
)


def test_the_text_of_a_program_builds_the_model_that_it_is_and_means_what_the_calls_do() -> None:
    stored = codec.decode(case(NETWORK).text)
    assert stored == case(NETWORK)
    namespace = script.load(stored)
    tensors = namespace["CALLS"][0]()
    network = namespace["bind"](tensors)
    onnx.checker.check_model(network.model, full_check=True)
    assert [node.op_type for node in network.model.graph.node] == ["MatMul", "Softmax", "Clip", "Identity"]
    assert [one.name for one in network.model.graph.initializer] == ["p1"]
    found = network(*namespace["arguments"](tensors))
    values = words.evaluate(stored.program, tensors)
    assert all(torch.equal(one, values[number]) for one, number in zip(found, stored.program.returns, strict=True))
    assert torch.allclose(found[0], torch.softmax(tensors[0] @ tensors[1], 1))


@pytest.mark.parametrize(
    ("operator", "args", "kwargs", "says"),
    [
        ("onnx.v14.Add", (torch.ones(2), torch.ones(2, dtype=torch.int32)), {}, "one element type"),
        ("onnx.v14.Add", (torch.ones(2), torch.ones(3)), {}, "Incompatible dimensions"),
        ("onnx.v14.Add", (torch.ones(2),), {}, "takes 2 to 2 inputs"),
        ("onnx.v13.Softmax", (torch.ones(2, 3),), {"axis": 2}, "axis"),
        ("onnx.v13.Softmax", (torch.ones(2, 3),), {"dim": 1}, "no attribute dim"),
        ("onnx.v13.Sqrt", (torch.ones(2, dtype=torch.int64),), {}, "takes no int64"),
        ("onnx.v14.Div", (torch.ones(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)), {}, "divided by zero"),
        ("onnx.v13.Gather", (torch.ones(2), torch.tensor([5])), {}, "index that does not exist"),
        ("onnx.v17.HannWindow", (torch.tensor(4),), {"periodic": 3}, "periodic or not"),
        ("onnx.v13.ArgMax", (torch.tensor(1.0),), {}, "axis that does not exist"),
        ("onnx.v13.Expand", (torch.ones(1), torch.tensor([1 << 20, 1 << 20])), {}, "too much memory"),
    ],
)
def test_what_numpy_takes_and_onnx_forbids_is_no_call(operator: str, args: Any, kwargs: Any, says: str) -> None:
    with pytest.raises(Exception, match=says):
        words.resolve(operator)(*args, **kwargs)


@pytest.mark.parametrize(
    ("operator", "args", "kwargs"),
    [
        ("onnx.v22.MaxPool", (torch.tensor([[[1.0, math.nan, 2.0]]]),), {"kernel_shape": (2,)}),
        ("onnx.v13.Clip", (torch.tensor([math.inf]),), {}),
        ("onnx.v13.ReduceSum", (torch.tensor([2**62, 2**62]),), {}),
        ("onnx.v18.ReduceL2", (torch.tensor([2**20, 1], dtype=torch.int32),), {}),
        ("onnx.v22.LpNormalization", (torch.tensor([1.0, -1.0]),), {"p": 1}),
    ],
)
def test_what_onnx_leaves_open_is_no_proposal_and_runs_in_a_model_that_somebody_has(
    operator: str, args: Any, kwargs: Any
) -> None:
    with pytest.raises(ValueError, match=r"no numbers|without a bound|type holds|absolute values"):
        words.resolve(operator)(*args, **kwargs)
    call = Call(operator, tuple(map(Ref, range(len(args)))), tuple(kwargs.items()), (F23,))
    assert len(words.call(call, args)) == 1


F2, F3, F5, F22 = (TensorType("float32", shape) for shape in ((2,), (3,), (5,), (2, 2)))
POSITION = TensorType("int64", ())
COLUMNS, STACKED = (("axis", 1), ("keepdims", 0)), (("axis", 1), ("new_axis", 1))

#: A sequence is constructed, inserted into and taken apart; split, put together along another axis, and counted.
SEQUENCES = Program(
    (Input(F3), Input(F5), Input(POSITION, "parameter"), Input(F23)),
    (
        Call("onnx.v11.SequenceInsert", ((Ref(0), Ref(1)), Ref(0), Ref(2)), (), (F3, None, F5), "sequence"),
        Call("onnx.v11.SplitToSequence", (Ref(3),), COLUMNS, (F2, F2, F2), "sequence"),
        Call("onnx.v11.ConcatFromSequence", ((Ref(7), Ref(9)),), STACKED, (F22,)),
        Call("onnx.v11.SequenceLength", ((Ref(4), Ref(6)),), (), (POSITION,)),
        Call("onnx.v11.SequenceAt", ((Ref(4), Ref(6)), Ref(2)), (), (F5,)),
    ),
    (4, 6, 8, 10, 11, 12),
    "onnx",
)


def test_a_zero_is_no_other_zero() -> None:
    plain, negative = (unary("onnx.v6.Elu", alpha=zero) for zero in (0.0, -0.0))
    assert "alpha=0.0" in script.network(plain)
    assert "alpha=-0.0" in script.network(negative)
    below = torch.full((2, 3), -1.0)
    found = [words.evaluate(program, [below])[-1] for program in (plain, negative)]
    assert [bool(result.signbit().any()) for result in found] == [True, False]


def test_a_sequence_is_the_tensors_in_it() -> None:
    stored = codec.decode(case(SEQUENCES, values=Values("integers", 1, 1, 2)).text)
    namespace = script.load(stored)
    tensors = namespace["CALLS"][0]()
    model = namespace["bind"](tensors).model
    onnx.checker.check_model(model, full_check=True)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("SequenceConstruct") == 4
    assert {"SequenceInsert", "SplitToSequence", "ConcatFromSequence", "SequenceLength"} <= set(kinds)
    values = words.evaluate(stored.program, tensors)
    assert torch.equal(values[10], torch.stack([tensors[3][:, 0], tensors[3][:, 2]], 1))
    assert values[11] == 2
    result = execute(stored)
    assert (result.status, result.failure) == ("compared", None)


@pytest.mark.parametrize(
    ("operator", "args", "says"),
    [
        ("onnx.v11.SequenceAt", ((torch.ones(2), torch.ones(3)), torch.tensor(2)), "place that does not exist"),
        ("onnx.v11.SequenceAt", (torch.ones(2), torch.tensor(0)), "is sequence of tensors"),
        ("onnx.v11.SequenceLength", ((torch.ones(2), torch.ones(3, dtype=torch.int64)),), "one element type"),
        ("onnx.v11.SplitToSequence", (torch.ones(5), torch.tensor([2, 2])), "do not add up"),
        ("onnx.v11.SequenceErase", ((torch.ones(2),),), "nothing is left"),
        ("onnx.v22.RandomUniformLike", (torch.ones(2),), "draws random numbers"),
        ("onnx.v22.Dropout", (torch.ones(2), torch.tensor(0.5), torch.tensor(True)), "drops at random"),
    ],
)
def test_what_is_no_sequence_or_is_drawn_is_no_call(operator: str, args: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says):
        words.resolve(operator)(*args)


def test_what_the_evaluator_computes_in_loops_is_proposed_small_and_run_at_any_size() -> None:
    image = TensorType("float32", (1, 1, 20, 20))
    pooled = TensorType("float32", (1, 1, 19, 19))
    call = Call("onnx.v22.AveragePool", (Ref(0),), (("kernel_shape", (2, 2)),), (pooled,))
    tensor = torch.arange(400.0).reshape(image.shape)
    with pytest.raises(ValueError, match="too long"):
        words.resolve(call.operator)(tensor, kernel_shape=(2, 2))
    (found,) = words.call(call, [tensor])
    assert torch.equal(found, torch.nn.functional.avg_pool2d(tensor, 2, 1))


@pytest.mark.parametrize(
    ("operators", "number"),
    [
        (["onnx.v13.MatMul", "onnx.v14.Add"], 21),
        (["onnx.v13.MatMul", "onnx.v28.Mod"], 28),
        (["onnx.v1.LpNormalization"], 21),
        (["onnx.v9.Cast", "onnx.v5.Reshape"], 9),
    ],
)
def test_the_operator_set_of_a_model_follows_from_its_operators(operators: list[str], number: int) -> None:
    found = schemas.opset(operators)
    for operator in operators:
        name, version = schemas.identified(operator)
        assert onnx.defs.get_schema(name, found, "").since_version == version
    assert found == number


def test_operators_of_which_no_set_has_all_are_refused() -> None:
    with pytest.raises(InvalidProgram, match=r"onnx.v5.Reshape was changed by operator set 13"):
        schemas.opset(["onnx.v13.Softmax", "onnx.v5.Reshape"])


@pytest.mark.parametrize("name", ["onnx.v14.Nothing", "onnx.v15.Add", "onnx.v11.Loop", "onnx.load", "os.system"])
def test_a_case_may_name_operators_and_nothing_else(name: str) -> None:
    with pytest.raises(NotAdmitted):
        admit(unary(name))


def test_a_case_is_read_without_onnx() -> None:
    code = f"from shakeout.corpus import codec\nimport sys\ncodec.decode({case(NETWORK).text!r})\n"
    code += "assert not {'onnx', 'torch', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_vocabulary_conforms() -> None:
    check_vocabulary("onnx", [case(NETWORK, "onnx.reference"), case(unary("onnx.v13.Neg"), "onnx.reference")])


def test_a_baseline_is_in_double_precision() -> None:
    program = Program(
        (Input(F23),),
        (Call("onnx.v21.Cast", (Ref(0),), (("to", 10),), (TensorType("float16", (2, 3)),)),),
        (1,),
        "onnx",
    )
    wide = words.widened(program)
    assert wide is not None
    assert wide.calls[0].kwargs == (("to", 11),)
    assert {one.dtype for one in wide.types() if one is not None} == {"float64"}
    assert words.widened(unary("onnx.v21.QuantizeLinear")) is None


# --- growth -----------------------------------------------------------------------------------------------------------


def grown(seed: int, operators: int = 6) -> Any:
    return compose(Grow(target="onnx.onnxruntime", seed=seed, number=seed, recipe={"operators": operators}))


@pytest.fixture(scope="module", autouse=True)
def _records() -> None:
    if not (SHIPPED / f"onnx-{onnx.__version__}.json").exists() and not cache_path().exists():
        pytest.skip("records of this onnx were not collected yet")


def test_grown_models_are_valid_and_the_reference_shows_what_it_showed_while_they_grew() -> None:
    placed: set[str] = set()
    sizes = []
    for seed in range(10):
        made = grown(seed)
        program = made.case.program
        assert program.vocabulary == "onnx"
        schemas.opset(program.operators())
        namespace = script.load(made.case)
        onnx.checker.check_model(namespace["bind"](namespace["CALLS"][0]()).model, full_check=True)
        seen = runs.observe(namespace)
        assert seen.error is None, seen.error
        for one, other in zip(seen.calls, made.reference.calls, strict=True):
            for a, b in zip(one["output"], other["output"], strict=True):
                assert a.dtype == b.dtype
                assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        placed |= set(program.operators())
        sizes.append(len(program.calls))
        types = program.types()
        used = {(call.operator, tuple(types[n].dtype for n in call.operands())) for call in program.calls}
        assert not used & refused("onnx.onnxruntime")
    assert max(sizes) == 6
    assert len(placed) > 25


def test_the_same_seed_grows_the_same_case() -> None:
    assert grown(7).case.text == grown(7).case.text


def test_there_are_ways_to_call_nearly_every_operator() -> None:
    known = {schemas.identified(name)[0] for name in load_onnx().operators}
    newest = {schemas.identified(name)[0] for name in schemas.of_set(schemas.SETS[0])}
    assert len(known) >= 180
    assert {"Conv", "Gemm", "MatMul", "LSTM", "Cast", "Reshape", "TopK", "Resize", "QuantizeLinear"} <= known <= newest


def probed_again(record: Record) -> list[Record | None]:
    """The record that its own call gives now, at each dtype that may have been the node case's."""
    slots = [
        DraftSlot(slot.dtype, record.shape(number), slot.spread.literal) for number, slot in enumerate(record.slots)
    ]
    spreads = [slot.spread for slot in record.slots]
    return [
        probe(
            Draft(record.operator, record.args, record.kwargs, tuple(slots), getattr(torch, main)),
            spreads,
            onnx_bootstrap._DTYPES,
        )
        for main in record.dtypes or ("float32",)
    ]


def test_the_records_that_are_shipped_are_what_is_collected_now() -> None:
    # Of the newest set, in which the node cases are written. Every record is looked at by a test that takes longer.
    vocabulary = load_onnx()
    newest = sorted(schemas.of_set(schemas.SETS[0]) & set(vocabulary.operators))
    records = [record for name in newest for record in vocabulary.records(name)]
    assert len(records) > 600
    stale = [record for record in records[::24] if record not in probed_again(record)]
    assert not stale


@pytest.mark.exhaustive
def test_every_record_that_is_shipped_is_what_is_collected_now() -> None:
    path = SHIPPED / f"onnx-{onnx.__version__}.json"
    found = collected(onnx_bootstrap.collect, ())
    assert onnx_bootstrap._text(dict(sorted(found.items()))) == path.read_text(encoding="utf-8")


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knobs", [(), (("optimization", "NONE"),), (("shapes", "symbolic"),)], ids=str)
def test_onnx_runtime_takes_the_model_as_it_is(knobs: Any) -> None:
    asked = case(NETWORK)
    result = execute(replace(asked, setting=Setting("onnx.onnxruntime", knobs)))
    assert (result.status, result.failure) == ("compared", None)


def test_sizes_that_differ_between_calls_are_not_declared() -> None:
    one = case(unary("onnx.v13.Neg"))
    wide = View(0, "float32", (2, 5), (5, 1))
    other = InputSet((Storage("float32", 10, Values("uniform", 3, -1, 1)),), (wide,))
    result = execute(replace(one, input_sets=(*one.input_sets, other)))
    assert (result.status, result.failure) == ("compared", None)


def test_a_model_that_the_runtime_refuses_without_optimisation_as_well_is_declined() -> None:
    double = TensorType("float64", (2, 3))  # of which ONNX Runtime's error function takes none
    result = execute(case(Program((Input(double),), (Call("onnx.v13.Erf", (Ref(0),), (), (double,)),), (1,), "onnx")))
    assert result.status == "unsupported"
    assert "NOT_IMPLEMENTED" in result.reason


def test_what_only_an_optimised_session_refuses_is_a_bug_in_whatever_words(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = RuntimeError("NOT_IMPLEMENTED : Could not find an implementation for FusedGemm(1)")

    def session(model: Any, level: str = "ALL", **knobs: Any) -> str:
        if level != "NONE":
            raise refusal
        return "a session"

    monkeypatch.setattr(onnx_models_staged, "ort_session", session)
    monkeypatch.setattr(staged, "SPENT", {})
    with pytest.raises(RuntimeError) as seen:
        onnx_models_staged.session_of("a model")
    assert not onnx_models_staged.session_declined(seen.value)
    with pytest.raises(staged.Declined) as unsaved:
        onnx_models_staged.session_of("a model", saved="ort")
    assert onnx_models_staged.session_declined(unsaved.value)


def test_an_optimiser_that_breaks_a_product_is_found_and_the_script_shows_it(tmp_path: Any) -> None:
    vector, matrix = TensorType("float32", (2,)), TensorType("float32", (3, 2))
    program = Program(
        (Input(F23), Input(vector)),
        (
            Call("onnx.v13.Transpose", (Ref(0),), (("perm", (1, 0)),), (matrix,)),
            Call("onnx.v13.MatMul", (Ref(2), Ref(1)), (), (TensorType("float32", (3,)),)),
        ),
        (3,),
        "onnx",
    )
    found = execute(case(program), shared=Shared())
    if found.failure is None:
        pytest.skip("this ONNX Runtime multiplies a transposed matrix by a vector right")
    assert found.failure.symptom == "wrong value"
    assert found.stage == "onnx.onnxruntime"  # and not the session without optimisation
    path = tmp_path / "repro.py"
    path.write_text(repro(case(program), found), encoding="utf-8")
    done = subprocess.run([sys.executable, "-I", str(path)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "unoptimised session: no difference" in done.stdout


def test_a_gate_on_models_needs_no_samples_of_torch(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))

    def samples(*targets: str) -> bool:
        return bool(errand._about({"targets": targets}, lambda message: None)["samples"])

    assert samples("onnx.onnxruntime", "onnx.reference")
    assert not samples("onnx.onnxruntime", "inductor")
    assert not samples("somebody.kernels:one")


def test_a_target_is_named_as_its_users_call_it() -> None:
    assert within("onnx", "onnxruntime") == within("onnx", "onnx.onnxruntime") == "onnx.onnxruntime"
    assert within("torch", "onnxruntime") == "onnxruntime"
    assert "onnx.onnxruntime" in of_vocabulary("onnx")
    assert "onnx.reference" not in of_vocabulary("onnx")
    with pytest.raises(UnknownTarget, match="no target 'inductor' takes programs of the vocabulary onnx"):
        within("onnx", "inductor")
    with pytest.raises(UnknownTarget, match="vocabulary 'jax'"):
        within("jax", "eager")

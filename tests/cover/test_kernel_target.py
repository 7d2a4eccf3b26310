"""A user's kernel as a target: its source text, its meaning, its checks, and what a stored case may not do."""

import importlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from shakeout.corpus import codec, script
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Call, Input, InvalidProgram, Program, Ref, TensorType
from shakeout.corpus.user_objects import find
from shakeout.corpus.vocabularies import kernel as words
from shakeout.corpus.vocabularies.torch import UnknownOperator
from shakeout.fuzz.commands.replay import replay_case
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.execute import Shared, execute, repro
from shakeout.oracles.metadata import STRIDES
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import target

MODULE = "shakeout_test_kernels"
TEXT = """
    import torch

    import shakeout


    @shakeout.kernel(reference=torch.relu)
    def my_relu(x):
        if x.dtype == torch.int8:
            raise NotImplementedError("no 8-bit numbers")
        y = torch.relu(x)
        if x.dtype == torch.float64 and x.shape[-1] % 2:
            y = torch.cat([y[..., :-1], 0 * y[..., -1:]], -1)
        return y


    @shakeout.kernel(reference=torch.relu)
    def anywhere(x):
        return torch.relu(x).contiguous()


    @shakeout.kernel(reference=torch.relu, strides=True)
    def row_major(x):
        return torch.relu(x).contiguous()


    @shakeout.kernel(reference=torch.relu)
    def forgetful(x):
        return torch.relu(x.detach())


    def pieces(x, n=2):
        y = x.softmax(-1)
        return y * n, y + n


    @shakeout.kernel(reference=pieces, examples=[(torch.ones(3, 4),)])
    def run(x, n=2):
        y = x.softmax(-1)
        return [y * n, y + n]


    @shakeout.kernel(reference=torch.add)
    @torch.library.custom_op("shakeout_tests::plus", mutates_args=())
    def plus(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


    @plus.register_fake
    def _(x, y):
        return torch.empty_like(x).transpose(-1, -2)
"""


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    directory = tmp_path_factory.mktemp("kernels")
    (directory / f"{MODULE}.py").write_text(textwrap.dedent(TEXT).lstrip())
    sys.path.append(str(directory))
    yield importlib.import_module(MODULE)
    sys.path.remove(str(directory))
    del sys.modules[MODULE]
    find.cache_clear()
    target.cache_clear()


def case(
    name: str,
    *shapes: tuple[int, ...],
    dtype: str = "float32",
    mode: str = "inference",
    results: int | None = None,
    transposed: bool = False,
    role: str = "input",
    **knobs: str,
) -> Case:
    """A program that gives the kernel twice the first input, and then the others."""
    operator = f"{MODULE}:{name}"
    types = [TensorType(dtype, shape) for shape in shapes]
    count = len(shapes)
    doubled = Call("torch.mul", (Ref(0), 2), (), (types[0],))
    given = (Ref(count), *(Ref(i) for i in range(1, count)))
    form = "tensor" if results is None else "sequence"
    called = Call(operator, given, (), (types[0],) * (results or 1), form)
    returns = tuple(range(count + 1, count + 1 + (results or 1)))
    program = Program(tuple(Input(t, role) for t in types), (doubled, called), returns, "kernel")
    storages = tuple(Storage(dtype, t.numel, Values("integers", 3 + i, -3, 3)) for i, t in enumerate(types))
    views = []
    for i, shape in enumerate(shapes):
        strides = contiguous(shape) if not transposed else tuple(reversed(contiguous(tuple(reversed(shape)))))
        views.append(View(i, dtype, shape, strides, 0, mode == "training"))
    return Case(program, (InputSet(storages, tuple(views)),), Setting(operator, tuple(sorted(knobs.items())), mode))


def test_the_text_is_what_a_person_would_write() -> None:
    text = script.network(case("my_relu", (2, 3)).program)
    assert text.splitlines()[:4] == [
        "def program(x0, my_relu=my_relu.reference):",
        "    v1 = torch.mul(x0, 2)",
        "    v2 = my_relu(v1).contiguous()",
        "    return (v2,)",
    ]
    assert f"from {MODULE} import my_relu\n" in repro(case("my_relu", (2, 3)))
    assert f"from {MODULE} import run as run_declared\n" in repro(case("run", (2, 3), results=2))


def test_a_case_of_a_kernel_can_be_stored() -> None:
    one = case("my_relu", (2, 3))
    assert codec.decode(codec.encode(one)) == one


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("role", ["input", "parameter"])
def test_a_right_kernel_is_quiet_and_a_wrong_one_is_not(mode: str, role: str) -> None:
    assert execute(case("my_relu", (2, 3), mode=mode, role=role)).outcome is Outcome.PASS
    assert execute(case("my_relu", (2, 4), dtype="float64", mode=mode, role=role)).outcome is Outcome.PASS
    result = execute(case("my_relu", (2, 3), dtype="float64", mode=mode, role=role))
    assert result.failure is not None, result
    assert result.signature == f"{MODULE}:my_relu | value | wrong value | float64"


def test_what_a_kernel_does_not_support_is_no_failure() -> None:
    result = execute(case("my_relu", (2, 3), dtype="int8"))
    assert (result.status, result.failure) == ("unsupported", None)


def test_a_kernel_without_gradients_is_seen() -> None:
    result = execute(case("forgetful", (2, 3), mode="training"))
    assert result.failure is not None
    assert (result.failure.oracle, result.failure.symptom) == ("gradient", "gradient lost")


def test_strides_are_judged_where_the_kernel_asks_for_it() -> None:
    result = execute(case("row_major", (4, 3), transposed=True))
    assert result.failure is not None
    assert (result.failure.symptom, "strides=True" in result.failure.message) == ("wrong strides", True)
    assert "v2 = row_major(v1)\n" in script.network(case("row_major", (4, 3)).program)
    assert (result.notes, result.doubts) == ([], [])


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_strides_are_a_note_where_the_kernel_does_not_ask_for_them(mode: str) -> None:
    assert "v2 = anywhere(v1).contiguous()" in script.network(case("anywhere", (4, 3)).program)
    result = execute(case("anywhere", (4, 3), transposed=True, mode=mode))
    assert (result.status, result.outcome, result.exact) == ("compared", Outcome.PASS, True)
    assert result.notes == [STRIDES]
    # Stored as text, and read again; what an earlier version stored has none.
    stored = json.loads(json.dumps(result.to_json()))
    assert Result.from_json(stored).notes == [STRIDES]
    for verdict in stored["verdicts"]:
        verdict.pop("notes", None)
    assert Result.from_json(stored).notes == []
    # Dimensions of size one have no stride that matters, and neither has what is empty.
    for shape, transposed in (((4, 3), False), ((4, 1), True), ((0, 3), True)):
        assert execute(case("anywhere", shape, transposed=transposed, mode=mode)).notes == []


def test_a_note_is_told_beside_the_reference_of_growth_as_well() -> None:
    one = case("anywhere", (4, 3), transposed=True)
    grown = replace(runs.observe(script.load(one)), layouts=())
    result = execute(one, shared=Shared(grown=grown))
    assert (result.exact, result.notes) == (True, [STRIDES])


def test_replay_tells_notes_and_ends_with_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{MODULE}.py").write_text(textwrap.dedent(TEXT).lstrip())
    (tmp_path / "case.json").write_text(case("anywhere", (4, 3), transposed=True).text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAKEOUT_ALLOW", MODULE)
    assert replay_case(tmp_path / "case.json") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1] == "no difference"
    assert told[-1] == f"note: {STRIDES}"


def test_several_results() -> None:
    result = execute(case("run", (3, 4), results=2))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)


def test_on_another_target_the_reference_stands_for_the_kernel() -> None:
    result = execute(case("my_relu", (2, 3), dtype="float64").on("aot_eager"))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)


def test_opcheck_is_a_knob_of_custom_operators() -> None:
    (knob,) = target(f"{MODULE}:plus").knobs()
    assert (knob.name, knob.default) == ("opcheck", "off")
    assert execute(case("plus", (3, 3), (3, 3))).outcome is Outcome.PASS
    assert execute(case("plus", (3, 3), (3, 3), opcheck="test_schema")).outcome is Outcome.PASS
    # The registered shape function says that the result is a transposed matrix.
    result = execute(case("plus", (2, 3), (2, 3), opcheck="test_faketensor"))
    assert result.failure is not None
    assert (result.failure.oracle, result.failure.symptom) == ("exception", "MetadataMismatchError")


@pytest.mark.parametrize("opcheck", ["off", "test_schema"])
def test_invariants_are_checked_whatever_else_is(opcheck: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find(f"{MODULE}:plus"), "invariants", (lambda kernel, x, y: "never",))
    result = execute(case("plus", (3, 3), (3, 3), opcheck=opcheck))
    assert result.failure is not None
    assert (result.failure.oracle, result.failure.symptom) == ("exception", "InvariantBroken")


def test_an_operator_without_a_backward_pass_is_unsupported_in_training() -> None:
    assert execute(case("plus", (2, 3), (2, 3), mode="training")).status == "unsupported"


def test_the_script_shows_it_from_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / f"{MODULE}.py").write_text(textwrap.dedent(TEXT).lstrip())
    (tmp_path / "deep").mkdir()
    wrong = case("my_relu", (2, 3), dtype="float64")
    (tmp_path / "deep" / "repro.py").write_text(repro(wrong, execute(wrong)))
    done = subprocess.run([sys.executable, "deep/repro.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "output 0: 1 of 6 elements differ" in done.stdout


def test_the_baseline_is_the_reference_in_double_precision() -> None:
    program = case("run", (3, 4), results=2).program
    assert words.widened(program).calls[1].operator == f"{MODULE}:run"
    values = words.evaluate(program, [torch.ones(3, 4, dtype=torch.float64)])
    assert values[2].dtype == torch.float64


def test_rounding_errors_are_emulated_inside_a_reference() -> None:
    seen: list[tuple[int, ...]] = []

    def after(call: Call, results: list[torch.Tensor]) -> list[torch.Tensor]:
        seen.extend(tuple(result.shape) for result in results)
        return results

    words.evaluate(case("run", (3, 4), results=2).program, [torch.ones(3, 4)], after)
    # torch.mul; the kernel's operand; softmax, mul and add inside of it; its two results.
    assert len(seen) == 7


def test_only_what_is_declared_is_called(tmp_path: Path) -> None:
    for operator in ("os:system", f"{MODULE}:pieces", f"{MODULE}:missing"):
        for find_it in (words.resolve, words.kernel):
            with pytest.raises(UnknownOperator):
                find_it(operator)
    hostile = Program(
        (Input(TensorType("float32", (1,))),),
        (Call("os:system", (f"touch {tmp_path}/proof",), (), (TensorType("float32", (1,)),)),),
        (1,),
        "kernel",
    )
    inputs = InputSet((Storage("float32", 1, Values("integers")),), (View(0, "float32", (1,), (1,)),))
    with pytest.raises((UnknownOperator, InvalidProgram)):
        script.load(Case(hostile, (inputs,), Setting("eager")))
    assert not list(tmp_path.iterdir())


def test_the_torch_vocabulary_knows_no_kernels() -> None:
    from shakeout.corpus.vocabularies import torch as plain

    with pytest.raises(UnknownOperator):
        plain.resolve(f"{MODULE}:my_relu")

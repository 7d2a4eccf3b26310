"""Branches, loops and blocks: what they mean, how they read, and what real compilers make of them."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests import regions
from tests.regions import TWO, block, call, fed
from tests.tiers import some

from shakeout.corpus import codec, script
from shakeout.corpus.case import Case
from shakeout.corpus.program import (
    Call,
    Input,
    InvalidProgram,
    Program,
    Ref,
    Region,
    TensorType,
    everywhere,
    mapped,
    scoped,
)
from shakeout.corpus.short_script import short
from shakeout.corpus.vocabularies import torch as words
from shakeout.corpus.vocabularies.structured import within
from shakeout.fuzz.minimise import nested
from shakeout.fuzz.minimise.order import size
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.execute import execute, repro
from shakeout.fuzz.triage.subprogram import Dissected, occurrences
from shakeout.generators.inputsets import tensors_of
from shakeout.generators.rules.observed import taken
from shakeout.generators.validity import InvalidCandidate, validated
from shakeout.oracles.exactness import candidate, elementary
from shakeout.oracles.metamorphic import derive

PROGRAMS: dict[str, Callable[[], Program]] = {
    "cond": regions.cond,
    "loop": regions.loop,
    "number": lambda: regions.loop(regions.NUMBER),
    "scan": regions.scan,
    "nested": regions.nested,
    "lowered": regions.lowered,
    "switched off": regions.switched_off,
    "custom": regions.custom,
    "lists": regions.listed,
    "mapped": regions.mapped,
    "differentiated": regions.differentiated,
}


def text(program: Program) -> str:
    return script.network(program).partition("\n\n\n")[0]


# --- what it is -------------------------------------------------------------------------------------------------------


def test_operands_are_what_is_given_and_what_is_captured() -> None:
    (branch, _) = regions.cond().calls
    assert branch.operands() == (0, 1, 2, 2, 2)
    moved = mapped(branch, {0: Ref(5), 1: Ref(6), 2: Ref(7)})
    assert moved.operands() == (5, 6, 7, 7, 7)
    assert [region.calls for region in moved.regions] == [region.calls for region in branch.regions]


def test_a_region_captures_values_only() -> None:
    (branch, _) = regions.cond().calls
    with pytest.raises(KeyError):
        mapped(branch, {0: Ref(0), 1: Ref(1), 2: 3.0})


def test_walks_see_every_call_with_the_types_in_its_scope() -> None:
    program = regions.nested()
    assert program.operators() == ("torch.no_grad", "torch.mul", "torch.enable_grad", "torch.sin", "torch.add")
    for one, types in scoped(program):
        assert all(types[number] == TWO for number in one.operands())
    renamed = everywhere(program.calls[0], lambda one: Call("torch.neg", one.args, (), one.results, one.form))
    assert renamed.operator == "torch.neg"
    assert not renamed.regions


@pytest.mark.parametrize(
    ("region", "words"),
    [
        (Region((), (0,), (call("torch.neg", Ref(1)),), (0,)), r"region 0: call 0 \(torch.neg\) uses value 1"),
        (Region((), (0,), (), (1,)), r"region 0: returns value 1"),
        (Region((), (1,), (), (0,)), "uses value 1"),
    ],
)
def test_a_region_knows_its_own_values_only(region: Region, words: str) -> None:
    with pytest.raises(InvalidProgram, match=words):
        Program((Input(TWO),), (Call("torch.no_grad", (), (), (TWO,), "sequence", (region,)),), (1,))


def test_what_is_inside_is_not_seen_outside() -> None:
    inside = block("torch.no_grad", (call("torch.neg", Ref(0)),), captures=(0,), returns=(), results=())
    with pytest.raises(InvalidProgram, match="returns value 1"):
        Program((Input(TWO),), (inside,), (1,))


# --- how it reads -----------------------------------------------------------------------------------------------------


def test_branches_are_functions_that_read_what_they_capture() -> None:
    assert text(regions.cond()) == (
        "def program(x0, x1, x2):\n"
        "    def true_0(t0, t1):\n"
        "        t2 = torch.add(t0, x2)\n"
        "        t3 = torch.mul(t1, 2)\n"
        "        return (t2, t3)\n"
        "    def false_1(t4, t5):\n"
        "        t6 = torch.sub(t4, x2)\n"
        "        t7 = torch.neg(t5)\n"
        "        return (t6, t7)\n"
        "    v3, v4 = torch.cond(x0, true_0, false_1, (x1, x2))\n"
        "    v5 = torch.mul(v3, v4)\n"
        "    return (v5,)"
    )


def test_blocks_stand_as_people_write_them_and_their_results_stay_in_sight() -> None:
    assert text(regions.nested()) == (
        "def program(x0):\n"
        "    with torch.no_grad():\n"
        "        v2 = torch.mul(x0, 2)\n"
        "        with torch.enable_grad():\n"
        "            v1 = torch.sin(v2)\n"
        "    v3 = torch.add(v1, v2)\n"
        "    return (v3,)"
    )


def test_a_block_that_returns_what_it_was_given_assigns_it() -> None:
    twice = block(
        "torch.no_grad", (call("torch.neg", Ref(0)),), captures=(0,), returns=(1, 1, 0), results=(TWO, TWO, TWO)
    )
    program = Program((Input(TWO),), (twice,), (1, 2, 3))
    assert "        v1 = torch.neg(x0)\n        v2 = v1\n        v3 = x0\n" in text(program)
    assert execute(fed(program, "eager")).status == "compared"
    empty = block("torch.no_grad", (), captures=(), returns=(), results=())
    assert "with torch.no_grad():\n        pass" in text(Program((Input(TWO),), (empty,), (0,)))


def test_blocks_around_a_program_are_outside_of_what_is_compiled() -> None:
    source = script.network(regions.switched_off())
    assert "def within(function):" in source
    assert "network.within = within" in source
    assert "dtype=torch.bfloat16" not in source.partition("def within")[0]
    assert short(fed(regions.switched_off(), "inductor"), "def prepare(network): ...") is None


def test_a_custom_operator_is_defined_in_front_of_the_program() -> None:
    network = script.network(regions.custom())
    assert network.startswith(
        "def computed_0(t0: torch.Tensor, t1: torch.Tensor) -> torch.Tensor:\n"
        "    t2 = torch.sin(t0)\n"
        "    t3 = t1.copy_(t2)\n"
        "    t4 = torch.add(t0, t2)\n"
        "    return t4\n\n\n"
        'operator_0 = custom_op("shakeout::operator_'
    )
    assert 'computed_0, mutates_args=("t1",))\noperator_0.register_fake(computed_0)\n\n\ndef program' in network
    assert "    v3 = operator_0(x0, v2)\n" in network
    told = script.network(regions.listed())
    assert "def computed_0(t0: list[torch.Tensor], t3: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:" in told
    assert "    t1, t2 = t0\n" in told
    assert "    v2, v3 = operator_0((x0, x1), x0)\n" in told
    assert words.imports(regions.custom("triton_op")) == ["from torch.library import triton_op"]


@pytest.mark.parametrize(
    ("body", "args", "told"),
    [
        (Region((TWO,), (0,), (), (0,)), ((Ref(0),),), "can capture nothing"),
        (Region((TWO,), (), (), (0,)), ((Ref(0),), (1,)), "by their places"),
        (Region((TWO,), (), (), (0,)), ((Ref(0), 1.0),), "takes a tuple of tensors"),
        (Region((TWO,), (), (), ()), ((Ref(0),),), "returns 0 values from its body as 1 results"),
    ],
)
def test_a_custom_operator_is_closed(body: Region, args: tuple[object, ...], told: str) -> None:
    made = Call("torch.library.custom_op", args, (), (TWO,), "sequence", (body,))  # type: ignore[arg-type]
    with pytest.raises(InvalidProgram, match=told):
        script.network(Program((Input(TWO),), (made,), (1,)))


@pytest.mark.parametrize(
    ("calls", "returns", "told"),
    [
        ((), 0, "returns an operand"),
        ((call("torch.Tensor.mul_", Ref(0), 2), call("torch.neg", Ref(1))), 2, "does not declare as written"),
        ((call("torch.Tensor.view", Ref(0), (3, 2)),), 1, "returns an operand, or a view of one"),
    ],
)
def test_what_pytorch_asks_of_a_custom_operator_is_asked_of_candidates(
    calls: tuple[Call, ...], returns: int, told: str
) -> None:
    made = Call(
        "torch.library.custom_op", ((Ref(0),),), (), (TWO,), "sequence", (Region((TWO,), (), calls, (returns,)),)
    )
    with pytest.raises(InvalidCandidate, match=told):
        validated(fed(Program((Input(TWO),), (made,), (1,)), "eager"))


def test_transforms_are_functions_that_are_called() -> None:
    assert "    v2, v3 = torch.func.vmap(mapped_0)(x0)\n" in text(regions.mapped())
    told = text(regions.differentiated())
    assert "        return t3\n    v2 = torch.func.grad(differentiated_0)(x0)\n" in told


def test_an_operator_that_takes_no_regions_is_told_in_words() -> None:
    odd = Call("torch.add", (), (), (TWO,), "sequence", (Region((), (0,), (), (0,)),))
    with pytest.raises(InvalidProgram, match=r"torch\.add takes no regions"):
        script.network(Program((Input(TWO),), (odd,), (1,)))


# --- what it means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_interpreted_is_what_the_text_computes(name: str) -> None:
    case = fed(PROGRAMS[name](), "eager")
    (shown,) = runs.observe(script.load(case)).calls
    with torch.no_grad(), within(case.program, words.value):
        values = words.evaluate(case.program, tensors_of(case.input_sets[0], training=False))
    for number, output in zip(case.program.returns, shown["output"], strict=True):
        assert torch.equal(values[number], output)


def test_replicas_see_each_call_inside() -> None:
    seen: list[str] = []

    def after(operation: Call, results: list[torch.Tensor]) -> list[torch.Tensor]:
        seen.append(operation.operator)
        return results

    case = fed(regions.loop(), "eager")
    words.evaluate(case.program, tensors_of(case.input_sets[0], training=False), after)
    assert seen.count("torch.add") == 3
    assert seen.count("torch.Tensor.__lt__") == 4
    assert not any("while_loop" in operator for operator in seen)


def test_double_precision_is_not_lowered_by_autocast() -> None:
    case = fed(regions.lowered(), "eager")
    (shown,) = runs.baseline(case).calls
    a, b = tensors_of(case.input_sets[0], training=False)
    assert torch.equal(shown["output"][0], a.double() @ b.double())
    wide = words.widened(regions.switched_off())
    assert wide is not None
    assert dict(wide.around[0].kwargs) == {"enabled": False}


def test_a_write_inside_counts_for_every_operand() -> None:
    write = block("torch.no_grad", (call("torch.Tensor.add_", Ref(0), 1),), captures=(0,), returns=(1,))
    assert words.written(write) == (0,)
    assert words.written(regions.nested().calls[0]) == ()
    assert words.written(regions.custom().calls[1]) == (2,)
    assert words.written(regions.listed().calls[0]) == ()


# --- what compilers make of it ----------------------------------------------------------------------------------------

#: What is right, and compiles quickly.
RIGHT = ("cond", "loop", "scan", "nested", "lowered")


@pytest.mark.parametrize("target", ["eager", "aot_eager", "export"])
@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("name", RIGHT)
def test_targets_agree(name: str, mode: str, target: str) -> None:
    case = fed(PROGRAMS[name](), target, mode, grad=True)  # type: ignore[arg-type]
    assert codec.decode(case.text) == case
    result = execute(case)
    assert result.status == "compared", result.reason
    assert result.outcome == "pass"
    assert not result.trivial


@pytest.mark.parametrize("target", ["aot_eager", "export"])
@pytest.mark.parametrize(
    "program",
    [regions.custom(), regions.listed(), regions.custom("triton_op"), regions.mapped(), regions.differentiated()],
)
def test_targets_take_custom_operators_and_transforms(program: Program, target: str) -> None:
    case = fed(program, target)
    assert codec.decode(case.text) == case
    result = execute(case)
    if target == "export" and "torch.func.grad" in program.operators() and result.status == "failed":
        pytest.skip("torch.export asks for the memory of a tensor that has none, in this torch")
    assert (result.status, str(result.outcome)) == ("compared", "pass"), result.reason


@pytest.mark.parametrize("name", some([*RIGHT, "custom"], every=2))
def test_inductor_agrees(name: str) -> None:
    result = execute(fed(PROGRAMS[name](), "inductor"))
    assert (result.status, str(result.outcome)) == ("compared", "pass")


def ran(case: Case, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "repro.py"
    path.write_text(repro(case, execute(case)))
    return subprocess.run([sys.executable, str(path)], check=False, text=True, capture_output=True)


@pytest.mark.parametrize("name", some(["nested", "loop", "custom"], every=2))
def test_the_printed_script_agrees_as_well(name: str, tmp_path: Path) -> None:
    done = ran(fed(PROGRAMS[name](), "aot_eager"), tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference"), done.stderr


@pytest.mark.long
@pytest.mark.parametrize("target", some(["aot_eager", "inductor"], every=2))
def test_autocast_that_is_switched_off_inside_is_forgotten_by_the_backward_pass(target: str, tmp_path: Path) -> None:
    """pytorch/pytorch#179804; the stored case is what was written by hand."""
    case = fed(regions.switched_off(), target, "training", grad=True)
    result = execute(case)
    if result.failure is None:
        pytest.skip("mended in this torch")
    assert (result.failure.oracle, result.failure.symptom) == ("gradient", "wrong value")
    done = ran(case, tmp_path)
    assert done.returncode == 1
    assert "gradient" in done.stdout


def test_a_loop_that_carries_a_number_is_not_compiled_by_inductor(tmp_path: Path) -> None:
    """pytorch/pytorch#166525."""
    case = fed(regions.loop(regions.NUMBER), "inductor")
    result = execute(case)
    if result.failure is None:
        pytest.skip("mended in this torch")
    assert (result.failure.oracle, result.failure.symptom) == ("exception", "AssertionError")
    assert execute(case.on("aot_eager")).outcome == "pass"
    assert ran(case, tmp_path).returncode == 1


STORED = Path(__file__).parent.parent / "regions"


@pytest.mark.parametrize(
    ("name", "program"),
    [("while_loop_with_a_number", "number"), ("autocast_switched_off_inside", "switched off"), ("branch", "cond")],
)
def test_stored_cases_are_those_that_are_written_here(name: str, program: str) -> None:
    case = codec.decode((STORED / f"{name}.json").read_text())
    assert case.program == PROGRAMS[program]()
    assert case.text == (STORED / f"{name}.json").read_text().rstrip()


# --- what other parts of the house make of it -------------------------------------------------------------------------


def test_nothing_is_claimed_that_is_not_known_of_regions() -> None:
    case = fed(regions.nested(), "aot_eager")
    assert not candidate(case)
    assert not elementary(case)
    assert not any(derive(case, always=True) for _ in range(2))
    around = Program((Input(TWO),), (call("torch.neg", Ref(0)),), (1,), around=regions.switched_off().around)
    assert not candidate(fed(around, "aot_eager"))
    assert [trace.operator for trace in taken(regions.nested())] == ["torch.add"]


def test_a_region_occurs_where_there_is_the_same_one() -> None:
    case = fed(regions.cond(), "inductor")
    assert list(occurrences(Dissected(case), Dissected(case)))
    other = fed(regions.nested(), "inductor")
    assert not list(occurrences(Dissected(other), Dissected(case)))
    negated = everywhere(
        case.program.calls[0],
        lambda one: call("torch.abs", *one.args) if one.operator == "torch.neg" else one,
    )
    changed = Program(case.program.inputs, (negated, case.program.calls[1]), (5,))
    assert not list(occurrences(Dissected(case), Dissected(fed(changed, "inductor"))))


@pytest.mark.parametrize("name", some(PROGRAMS, every=2))
def test_candidates_are_programs_that_run(name: str) -> None:
    """Every pass over regions makes cases that the reference takes, and a smaller one among them."""
    case = fed(PROGRAMS[name](), "eager")
    for one in (nested.around, nested.unwrapped, nested.fewer, nested.moved_out, nested.taken_in, nested.simpler):
        for made in one(case):
            assert codec.decode(made.text).program == made.program
            try:
                valid = validated(made)
            except InvalidCandidate:
                continue
            assert execute(valid).status in ("compared", "invalid")
    assert any(size(made) < size(case) for one in (nested.unwrapped, nested.around) for made in one(case)) or (
        name in ("scan", "mapped")  # whose body has no operands of its own
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_settled_has_the_types_that_it_has(name: str) -> None:
    program = PROGRAMS[name]()
    vague = TensorType("float64", (9,))

    def blurred(one: Call) -> Call:
        results = tuple(None if type_ is None else vague for type_ in one.results)
        return Call(one.operator, one.args, one.kwargs, results, one.form, one.regions)

    calls = tuple(everywhere(one, blurred) for one in program.calls)
    case = fed(program, "eager")
    unknown = Case(
        Program(program.inputs, calls, program.returns, around=program.around), case.input_sets, case.setting
    )
    assert validated(unknown).program == program


def test_a_branch_that_is_not_taken_is_settled_as_well() -> None:
    program = regions.cond()
    taken_only = Region(
        (TWO, TWO), (), (call("torch.mm", Ref(0), Ref(1)), call("torch.neg", Ref(1))), (2, 3)
    )  # whose sizes do not fit
    true = program.calls[0].regions[0]
    branch = Call("torch.cond", program.calls[0].args, (), (TWO, TWO), "sequence", (true, taken_only))
    with pytest.raises(InvalidCandidate):
        validated(fed(Program(program.inputs, (branch,), (3,)), "eager"))

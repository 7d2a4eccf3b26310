"""Mutation and motifs: what they make is valid, follows from seed and parent, and is what the mutator's name says."""

import json
import sys
from types import ModuleType

import pytest
import torch

import shakeout
from shakeout.corpus import codec, user_objects
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.corpus.vocabularies.recurrent import GATES
from shakeout.fuzz.ground.jobs import Grow, Mutate, job_from_json
from shakeout.fuzz.running.compose import Grower, compose, vocabulary_of
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.running.mutated import ENCLOSE, KNOBS
from shakeout.fuzz.steering import steering
from shakeout.generators.choices import SeededChoices
from shakeout.generators.inputsets import input_set
from shakeout.generators.motifs.motifs import MOTIFS
from shakeout.generators.mutation.draft import draft, givens
from shakeout.generators.mutation.mutate import MUTATORS, mutate
from shakeout.generators.validity import REQUIREMENTS, InvalidCandidate, validated

M = TensorType("float32", (4, 6))
#: relu(x @ y.T) * 2 + z, in a chain that every mutator has something to do with.
PARENT = Case(
    Program(
        (Input(M), Input(M), Input(TensorType("float32", (4, 4)))),
        (
            Call("torch.transpose", (Ref(1), 0, 1), (), (TensorType("float32", (6, 4)),)),
            Call("torch.matmul", (Ref(0), Ref(3)), (), (TensorType("float32", (4, 4)),)),
            Call("torch.relu", (Ref(4),), (), (TensorType("float32", (4, 4)),)),
            Call("torch.mul", (Ref(5), 2), (), (TensorType("float32", (4, 4)),)),
            Call("torch.add", (Ref(6), Ref(2)), (), (TensorType("float32", (4, 4)),)),
        ),
        (7,),
    ),
    (
        InputSet(
            (
                Storage("float32", 24, Values("integers", 1, -2, 2)),
                Storage("float32", 29, Values("uniform", 2, -1, 1)),
                Storage("float32", 16, Values("literal", items=tuple(float(i) for i in range(16)))),
            ),
            (
                View(0, "float32", (4, 6), (6, 1)),
                View(1, "float32", (4, 6), (1, 4), 5),
                View(2, "float32", (4, 4), (4, 1)),
            ),
        ),
    ),
    Setting("aot_eager"),
)


def valid(case: Case) -> bool:
    for requirements in REQUIREMENTS[:2]:
        try:
            validated(codec.decode(case.text), requirements)
        except InvalidCandidate:
            continue
        return True
    return False


def test_inputs_are_given_as_they_were() -> None:
    assert input_set(givens(PARENT)) == PARENT.input_sets[0]
    assert draft(PARENT, None).special is False


@pytest.mark.parametrize("name", MUTATORS)
def test_each_mutator_makes_valid_cases_and_the_same_ones_again(name: str) -> None:
    vocabulary, made = vocabulary_of("aot_eager"), []
    partner = compose(Grow(target="aot_eager", seed=3, recipe={"style": "network", "operators": 10})).case
    for seed in range(6):
        one, other = (mutate(SeededChoices(seed), PARENT, [name], vocabulary, partner) for _ in range(2))
        assert one is not None
        assert other is not None
        assert one.case.text == other.case.text
        assert one.case.text != PARENT.text
        assert valid(one.case)
        made += [one] * (one.mutators == (name,))
    assert made, "no case was made by the mutator that was asked for"
    for one in made:
        operators, before = list(one.case.program.operators()), list(PARENT.program.operators())
        match name:
            case "mode":
                assert one.case.setting.mode == "training"
            case "insert" | "splice":
                assert set(before) <= set(operators)
                assert len(operators) > len(before)
            case "layout" | "values":
                assert operators == before
                assert one.case.input_sets[0] != PARENT.input_sets[0]
            case "dtype":
                assert {given.type.dtype for given in one.case.program.inputs} != {"float32"}


def test_what_a_change_breaks_is_repaired() -> None:
    """Another size in one operand of matmul: the rest of the program still stands, and runs."""
    vocabulary = vocabulary_of("aot_eager")
    kept = 0
    for seed in range(8):
        mutant = mutate(SeededChoices(seed), PARENT, ["shape"], vocabulary)
        assert mutant is not None
        kept += sum(name in mutant.case.program.operators() for name in PARENT.program.operators())
    assert kept >= 0.8 * 8 * 5


def test_what_the_reference_showed_while_a_mutant_grew_is_what_it_shows() -> None:
    for seed in range(4):
        made = Grower().compose(Mutate(target="aot_eager", seed=seed, parent=PARENT.text, mutators=("insert",)))
        assert made.reference is not None
        assert execute(made.case).status in ("compared", "unsupported", "undefined")


@pytest.mark.parametrize("mutators", [("delete", "values"), (KNOBS,), (ENCLOSE,), ("mode", KNOBS)])
def test_a_job_that_was_written_down_makes_the_same_case(mutators: tuple[str, ...]) -> None:
    job = Mutate(target="inductor", seed=11, parent=PARENT.text, mutators=mutators)
    read = job_from_json(json.loads(json.dumps(job.to_json())))
    assert read == job
    one, other = Grower().compose(job), Grower().compose(read)
    assert one.case.text == other.case.text
    assert set(one.mutators) & set(mutators)
    assert one.case.setting.target == "inductor"
    if KNOBS in mutators:
        assert one.case.setting.knobs


def test_where_nothing_that_was_asked_for_has_a_place_something_else_is_changed() -> None:
    """TVM takes no regions, and eager has no knobs."""
    for target, mutator in (("tvm", ENCLOSE), ("eager", KNOBS)):
        made = Grower().compose(Mutate(target=target, seed=1, parent=PARENT.text, mutators=(mutator,)))
        assert made.mutators
        assert not {KNOBS, ENCLOSE} & set(made.mutators)
        assert made.case.program != PARENT.program or made.case.input_sets != PARENT.input_sets


def test_a_program_of_a_kernel_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module, name = ModuleType("shakeout_mutated_kernels"), "shakeout_mutated_kernels:my_relu"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    user_objects.allow(name)
    vars(module)["my_relu"] = shakeout.kernel(reference=torch.relu)(torch.relu)
    parent = compose(Grow(target=name, seed=1)).case
    made = [
        Grower().compose(Mutate(target=name, seed=seed, parent=parent.text, mutators=("delete", "replace"))).case
        for seed in range(6)
    ]
    assert all(name in case.program.operators() for case in made)
    assert len({case.text for case in made}) > 1


def test_a_program_with_regions_is_fed_otherwise() -> None:
    parent = next(
        case
        for seed in range(40)
        if (case := compose(Grow(seed=seed, target="aot_eager", recipe={"operators": 4})).case).program.structured()
    )
    mutant = mutate(SeededChoices(0), parent, ["values"], vocabulary_of("aot_eager"))
    assert mutant is not None
    assert mutant.case.program.operators() == parent.program.operators()
    assert valid(mutant.case)


@pytest.mark.parametrize("name", MOTIFS)
def test_each_motif_is_a_valid_program_of_its_operators(name: str) -> None:
    telling = {
        "attention": {"torch.softmax", "torch.nn.functional.scaled_dot_product_attention"},
        "normalisation": {"torch.nn.functional.layer_norm", "torch.mean"},
        "rotary": {"torch.cos"},
        "convolution": {"torch.nn.functional.batch_norm"},
        "gated": {"torch.nn.functional.linear"},
        "recurrent": set(GATES),
    }[name]
    for seed in range(5):
        case = Grower().compose(Grow(target="inductor", seed=seed, recipe={"motif": name})).case
        assert valid(case)
        assert telling & set(case.program.operators())


def test_the_supervisor_knows_the_names() -> None:
    assert set(steering.MUTATORS) == {*MUTATORS, KNOBS, ENCLOSE}
    assert tuple(MOTIFS) == steering.MOTIFS

"""What is drawn on purpose since chance would not: numbers, magnitudes, observers, writes, followers, other calls."""

import functools
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import codec, script, standalone
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.codec import MalformedCase
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.corpus.storage import extreme, ladder_of
from shakeout.corpus.vocabularies import vocabulary as words_of
from shakeout.corpus.vocabularies.torch_traits import family
from shakeout.fuzz.triage.bug_signature import needed
from shakeout.generators import definedness, observers, writes
from shakeout.generators.choices import SeededChoices
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.indices import ignoring
from shakeout.generators.inputsets import input_set, relaid, replay
from shakeout.generators.network import FOLLOWED, grow
from shakeout.generators.numbers import PLAIN, python_number
from shakeout.generators.recipe import Recipe
from shakeout.generators.recorded import mutated
from shakeout.generators.values import DTYPES, Given, InputSampler, row_major
from shakeout.generators.vocabularies import followers
from shakeout.generators.vocabularies.records import Spread
from shakeout.generators.vocabularies.torch import Vocabulary, load_records
from shakeout.oracles.vendor import unusual

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_records()


def growth(seed: int = 0, kind: str = "uniform", **config: object) -> Growth:
    choices = SeededChoices(seed)
    return Growth(choices, InputSampler(choices, kind, 0.0), GrowthConfig(**config))


def given(grown: Growth, shape: tuple[int, ...], items: tuple[float, ...], dtype: str = "float32") -> int:
    return grown.give(Given(dtype, shape, row_major(len(shape)), Values("literal", items=items), dtype))


def run(grown: Growth, operator: str, value: Ref, *args: int | float) -> int:
    """A call of one value; the number of its first result."""
    grown.run(operator, (value, *args), (), (value.index,), ())
    return grown.steps[-1].first


# --- values by magnitude ----------------------------------------------------------------------------------------------


def test_numbers_by_magnitude_are_fixed() -> None:
    # Stored cases name a seed, not values: a change here changes the meaning of every one of them.
    ladder = standalone.magnitudes(torch.float32, (4,), "ladder", 3, -40, 12)
    assert ladder.tolist() == GOLDEN_LADDER
    beside = standalone.magnitudes(torch.float32, (4,), "beside", 3, -2.0, 2.0)
    assert beside.tolist() == GOLDEN_BESIDE
    assert standalone.magnitudes(torch.int64, (4,), "ladder", 3, 20, 40).tolist() == GOLDEN_WHOLE


GOLDEN_LADDER = [-4.155861210719536e-10, 0.1828916370868683, -252.52774047851562, 1.9590633282273728e-10]
GOLDEN_BESIDE = [-0.7999999523162842, 0.0, 1.9999998807907104, 1.6666666269302368]
GOLDEN_WHOLE = [-1048575, 268435457, -33554432, 134217728]


def test_a_ladder_has_every_magnitude_and_both_signs() -> None:
    values = standalone.magnitudes(torch.float64, (2000,), "ladder", 1, -60, 12)
    exponents = {math.frexp(value)[1] - 1 for value in values.tolist()}
    assert exponents == set(range(-60, 13))
    assert 0.4 < (values < 0).double().mean() < 0.6
    whole = standalone.magnitudes(torch.int32, (500,), "ladder", 1, 14, 29).abs()
    assert whole.max() > 2**29
    assert (whole >= 2**14 - 2).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_numbers_beside_fractions_lie_next_to_them(dtype: str) -> None:
    values = standalone.magnitudes(DTYPES[dtype], (600,), "beside", 1, -1.0, 1.0).double()
    assert values.abs().max() <= 1
    least = torch.finfo(DTYPES[dtype]).eps
    one = values[(values - 1).abs() < 4 * least]
    assert {float(value) == 1 for value in one} == {True, False}  # the end of the domain, and the last number before it
    distance = torch.stack([(values * part - (values * part).round()).abs() / part for part in (1, 2, 3, 10)]).amin(0)
    assert distance.max() <= 2 * least


def test_a_ladder_to_the_ends_of_its_dtype_is_special() -> None:
    for name, dtype in DTYPES.items():
        if name == "bool":
            continue
        drawn = {}
        for kind in ("uniform", "special"):
            sampler = InputSampler(SeededChoices(1), kind, 0.0)
            sampler.magnitudes = 1.0
            found = [sampler.values(name, Spread(), 4) for _ in range(20)]
            drawn[kind] = next(values for values in found if values.kind == "ladder")
        wide = dtype.is_floating_point or dtype.is_complex
        assert extreme(Storage(name, 4, drawn["special"])) is wide, name
        assert not extreme(Storage(name, 4, drawn["uniform"])), name
        assert not extreme(Storage(name, 4, ladder_of(drawn["special"], name))), name
    # So a bug with one counts as one of special values.
    case = scaled("ladder")
    assert "special values" not in (*needed(case), *unusual(case))
    (inputs,) = case.input_sets
    wider = replace(inputs.storages[0], values=Values("ladder", 3, -130, 127))
    case = replace(case, input_sets=(replace(inputs, storages=(wider,)),))
    assert "special values" in needed(case)
    assert "special values" in unusual(case)


@pytest.mark.parametrize("kind", ["ladder", "beside"])
def test_every_dtype_holds_values_by_magnitude(kind: str) -> None:
    for name, dtype in DTYPES.items():
        values = standalone.magnitudes(dtype, (3, 5), kind, 2, 0, 3)
        assert (values.dtype, values.shape) == (dtype, (3, 5)), name
        if dtype.is_floating_point:
            assert values.double().isfinite().all(), name


def scaled(kind: str) -> Case:
    program = Program(
        (Input(TensorType("float32", (4,))),), (Call("torch.neg", (Ref(0),), (), (TensorType("float32", (4,)),)),), (1,)
    )
    values = Values(kind, 3, -4, 4)  # type: ignore[arg-type]
    return Case(
        program, (InputSet((Storage("float32", 4, values),), (View(0, "float32", (4,), (1,)),)),), Setting("eager")
    )


@pytest.mark.parametrize("kind", ["ladder", "beside"])
def test_a_case_with_them_is_stored_and_its_script_runs(kind: str, tmp_path: Path) -> None:
    case = scaled(kind)
    assert codec.decode(codec.encode(case)) == case
    data = codec.to_json(case)
    assert data["format"] == 2
    with pytest.raises(MalformedCase, match="values by magnitude"):
        codec.from_json({**data, "format": 1})
    path = tmp_path / "case.py"
    path.write_text(script.standalone(case, "def prepare(network):\n    return network\n", tolerances={}))
    assert subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=100).returncode == 0


# --- numbers and places among the arguments ---------------------------------------------------------------------------


def test_numbers_go_as_far_as_they_may() -> None:
    choices = SeededChoices(1)
    drawn = {reach: [python_number(choices, reach) for _ in range(600)] for reach in ("plain", "ordinary", "any")}
    assert set(drawn["plain"]) == set(PLAIN)
    assert all(math.isfinite(number) for number in drawn["ordinary"])
    for reach in ("ordinary", "any"):
        found = [number for number in drawn[reach] if isinstance(number, float)]
        assert any(0 < abs(number - 1) < 1e-6 for number in found)
        assert any(math.copysign(1, number) < 0 and number == 0 for number in found)
        assert any(torch.tensor(number).bfloat16().item() != number for number in found)
    assert any(math.isnan(number) for number in drawn["any"])
    assert max(number for number in drawn["any"] if math.isfinite(number)) >= 1e14
    assert 2**24 + 1 in [python_number(choices, "any", "int64") for _ in range(600)]


def test_a_number_for_all_dimensions_becomes_one_for_each() -> None:
    found = [mutated(SeededChoices(s), "torch.nn.functional.avg_pool3d", (Ref(0), 2), ())[0][1] for s in range(40)]
    assert any(isinstance(one, tuple) and len(one) == 3 for one in found)


def test_a_place_is_left_out_that_is_likely_there() -> None:
    drawn = Counter(
        ignoring(SeededChoices(seed), "torch.nn.functional.nll_loss", (("reduction", "sum"),), 0.5)
        for seed in range(60)
    )
    assert {dict(kwargs).get("ignore_index") for kwargs in drawn} == {None, 0, 1, 2}
    assert ignoring(SeededChoices(0), "torch.add", (), 1.0) == ()


# --- observers --------------------------------------------------------------------------------------------------------


def test_what_lies_at_a_place_is_looked_at() -> None:
    grown = growth()
    source = given(grown, (2, 3), (1, 5, 2, 4, 0, 3))
    whole = run(grown, "torch.argmax", Ref(source))
    assert observers.observe(grown, whole)
    assert grown.steps[-1].operator == "torch.take"
    assert grown.tensors[-1].item() == 5
    rows = run(grown, "torch.argmax", Ref(source), 1)
    assert observers.observe(grown, rows)
    assert [step.operator for step in grown.steps[-2:]] == ["torch.unsqueeze", "torch.gather"]
    assert grown.tensors[-1].flatten().tolist() == [5, 4]
    places = run(grown, "torch.argsort", Ref(source), 0)
    assert observers.observe(grown, places)
    assert grown.steps[-1].operator == "torch.gather"


def test_what_else_hides_something_is_looked_at() -> None:
    grown = growth()
    zeros = given(grown, (3,), (0.0, -0.0, 1.0))
    assert observers.observe(grown, zeros)
    assert grown.steps[-1].operator in ("torch.signbit", "torch.copysign")
    total = run(grown, "torch.sum", Ref(given(grown, (2,), (1.0, 2.0))))
    assert observers.observe(grown, total)
    assert grown.dtypes[len(grown.tensors) - 1] == "bool"
    tiny = run(grown, "torch.mul", Ref(given(grown, (2,), (1e-9, 2e-9))), 1.5)
    assert observers.observe(grown, tiny)
    assert grown.tensors[-1].abs().max() >= 0.1
    assert not observers.observe(grown, given(grown, (2,), (1.0, 2.0)))


# --- writes -----------------------------------------------------------------------------------------------------------


def test_elements_that_share_a_place_are_given_one_number() -> None:
    wide = torch.ones(1, 3).expand(4, 3)
    kinds = words_of("torch").traits
    assert definedness.before(kinds("torch.Tensor.fill_"), [wide], [wide], (Ref(0), 2), ()) is None
    assert definedness.before(kinds("torch.Tensor.zero_"), [wide], [wide], (Ref(0),), ()) is None
    # Whether all are given one element nobody knows here, and an addition would be done several times.
    for operator, args in (("fill_", (Ref(0), Ref(1))), ("add_", (Ref(0), 1)), ("copy_", (Ref(0), Ref(1)))):
        assert definedness.before(kinds(f"torch.Tensor.{operator}"), [wide], [wide], args, ()) is not None


@pytest.mark.parametrize("kind", dict.fromkeys(writes._KINDS))
def test_hard_writes_mean_the_same_each_time(kind: Callable[[Growth], None]) -> None:
    kept = writing = 0
    for seed in range(12):
        grown = growth(seed)
        if not grown.attempt(functools.partial(kind, grown)):
            assert not grown.steps
            continue
        kept += 1
        writing += any(step.written for step in grown.steps)
        values, inputs = grown.usable(), input_set([one for _, one in grown.inputs])
        shown, _ = replay(grown.steps, inputs, special=False, returns=values, training=False, same_types=True)
        for number, again in zip(values, shown["output"], strict=True):
            assert standalone.compare(f"value {number}", grown.tensors[number], again, {}) == []
    assert kept >= 6
    assert writing == kept or (kind is writes._strided and writing)


def test_small_programs_have_such_writes(vocabulary: Vocabulary) -> None:
    found: Counter[str] = Counter()
    for seed in range(160):
        grown = grow(SeededChoices(seed), Recipe(style="small", mode="inference"), vocabulary)
        found.update({call.operator.rpartition(".")[2] for call in grown.program.calls})
    assert found["as_strided"] >= 2
    assert found["resize_"] >= 1
    assert found["expand"] >= 2


# --- followers --------------------------------------------------------------------------------------------------------


def test_what_people_write_comes_many_times_as_often(vocabulary: Vocabulary) -> None:
    known = vocabulary.followers("torch.matmul", "float32", 2)
    uniform = 1 / len(vocabulary.takers("float32", 2))
    share = Counter(family(taker.operator) for taker in known)
    chance = {name: FOLLOWED * times / len(known) for name, times in share.items()}
    assert chance["add"] > 25 * uniform
    assert max(chance.values()) > 50 * uniform
    # Nothing is known to come behind what nobody knows.
    assert vocabulary.followers("my.kernels:scale", "float32", 2) == ()


def test_the_table_names_families_that_there_are(vocabulary: Vocabulary) -> None:
    families = {family(name) for name in vocabulary.operators}
    table = followers.of_torch()
    assert len(table) > 40
    pairs = [(one, other) for one, row in table.items() for other in row]
    assert sum(other in families for _, other in pairs) > 0.6 * len(pairs)
    assert ("sub", "exp") in pairs


# --- further calls ----------------------------------------------------------------------------------------------------


def test_a_further_call_lies_otherwise_in_memory() -> None:
    plain = Given("float32", (4, 3), row_major(2), Values("uniform", 1, -2, 2), "float32")
    leaf = replace(plain, requires_grad=True, values=Values("uniform", 2, -2, 2))
    seen: Counter[str] = Counter()
    for seed in range(60):
        first = [plain, replace(plain, values=Values("uniform", 3, -2, 2)), leaf, leaf]
        changed = relaid(SeededChoices(seed), first, shared=True)
        assert changed is not None
        one, two = input_set(first), input_set(changed)
        assert [view.shape for view in one.views] == [view.shape for view in two.views]
        seen["strides"] += any(a.strides != b.strides for a, b in zip(one.views, two.views, strict=True))
        seen["shared"] += two.shared()
        seen["gradients"] += any(a.requires_grad != b.requires_grad for a, b in zip(one.views, two.views, strict=True))
        assert not two.shared() or relaid(SeededChoices(seed), first, shared=False) != changed
    assert min(seen.values()) >= 5, seen
    literal = Given("float32", (2,), row_major(1), Values("literal", items=(1.0, 2.0)), "float32")
    assert relaid(SeededChoices(0), [literal], shared=True) is None


def test_a_mode_that_there_is_not_is_not_asked_for() -> None:
    # The kernel gives memory that nobody wrote.
    kind = words_of("torch").traits("torch.grid_sampler_3d")
    image = [torch.ones(1, 1, 2, 2, 2), torch.zeros(1, 1, 1, 1, 3)]
    for mode, reason in ((-1, "a mode that there is not"), (0, None)):
        assert definedness.before(kind, image, [], (Ref(0), Ref(1), mode, 0, True), ()) == reason
        named = (("align_corners", True), ("interpolation_mode", mode), ("padding_mode", 0))
        assert definedness.before(kind, image, [], (Ref(0), Ref(1)), named) == reason

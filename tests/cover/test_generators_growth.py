"""Grown programs: valid, defined, repeatable; and what a proposal that is dropped leaves behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shakeout.corpus import codec, script, standalone
from shakeout.corpus.case import Case, Setting, Values
from shakeout.corpus.program import Ref
from shakeout.generators import inputsets
from shakeout.generators.choices import Choices, SeededChoices
from shakeout.generators.growth import Growth
from shakeout.generators.growth_config import GrowthConfig
from shakeout.generators.inputsets import input_set, tensors_of
from shakeout.generators.network import grow
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.values import Given, InputSampler, row_major
from shakeout.generators.vocabularies.records import Record, Slot, Spread
from shakeout.generators.vocabularies.torch import Vocabulary, load_records

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch has something to say about many programs


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_records()


def case(grown: Grown) -> Case:
    return Case(grown.program, grown.input_sets, Setting("eager", (), grown.mode))


def reference(grown: Grown) -> list[dict]:
    namespace = script.load(case(grown))
    return standalone.run(namespace["bind"], namespace["arguments"], namespace["CALLS"], lambda network: network)


def content(tensor: torch.Tensor | None) -> bytes:
    """Its elements, bit by bit."""
    if tensor is None:
        return b"none"
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().flatten())
    return bytes(flat.view(torch.uint8).tolist())


@pytest.mark.parametrize("style", ["small", "network"])
def test_the_reference_accepts_every_case_and_agrees_with_itself(vocabulary: Vocabulary, style: str) -> None:
    for seed in range(150):
        grown = grow(SeededChoices(seed), Recipe(style=style, index=seed), vocabulary)
        first, second = reference(grown), reference(grown)
        types = grown.program.types()
        for value, output in zip(grown.program.returns, first[0]["output"], strict=True):
            type_ = types[value]
            assert type_ is not None
            assert (type_.dtype, type_.shape) == (str(output.dtype).removeprefix("torch."), tuple(output.shape))
        for one, other in zip(first, second, strict=True):
            for part in ("output", "gradient", "input after the call"):
                assert list(map(content, one[part])) == list(map(content, other[part])), (seed, part)


def test_a_case_survives_storage(vocabulary: Vocabulary) -> None:
    for seed in range(80):
        grown = grow(SeededChoices(seed), Recipe(), vocabulary)
        assert codec.decode(codec.encode(case(grown))) == case(grown)


PROCESS = """
import sys, torch
from shakeout.corpus import codec
from shakeout.corpus.case import Case, Setting
from shakeout.generators.choices import SeededChoices
from shakeout.generators.network import grow
from shakeout.generators.recipe import Recipe
from shakeout.generators.vocabularies.torch import load_records
vocabulary = load_records()
seeds = list(range(60))
for seed in seeds if sys.argv[1] == "up" else seeds[::-1]:
    grown = grow(SeededChoices(seed), Recipe(index=seed), vocabulary)
    print(seed, codec.encode(Case(grown.program, grown.input_sets, Setting("eager", (), grown.mode))))
"""


@pytest.mark.long
def test_the_same_seed_gives_the_same_text_in_every_process_and_order() -> None:
    texts = []
    for order, hash_seed in (("up", "1"), ("down", "2")):
        environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, order], env=environment, capture_output=True, text=True, check=True
        )
        texts.append(sorted(done.stdout.splitlines()))
    assert len(texts[0]) == 60
    assert texts[0] == texts[1]


def test_growing_tells_of_each_call_before_it_runs(vocabulary: Vocabulary) -> None:
    told: list[str] = []
    grown = grow(SeededChoices(4), Recipe(style="network", operators=12), vocabulary, told.append)
    operators = [json.loads(line)["operator"] for line in told]
    assert set(grown.program.operators()) <= set(operators)
    assert all("\n" not in line for line in told)
    # Being watched changes nothing.
    assert grow(SeededChoices(4), Recipe(style="network", operators=12), vocabulary) == grown


def test_a_recipe_is_followed(vocabulary: Vocabulary) -> None:
    for seed in range(25):
        small = grow(SeededChoices(seed), Recipe(style="small", values="integers", mode="inference"), vocabulary)
        assert small.style == "small"
        assert 1 <= len(small.program.calls) <= 8  # a write that is hard to get right takes several
        assert small.mode == "inference"
        assert all(s.values.kind in ("integers", "uniform", "literal") for s in small.input_sets[0].storages)
        few = grow(SeededChoices(seed), Recipe(style="small", operators=2, mode="inference"), vocabulary)
        assert 1 <= len(few.program.calls) <= 3  # what is found is looked up with one call more
    long = grow(SeededChoices(1), Recipe(style="network", operators=60, mode="inference"), vocabulary)
    assert 55 <= len(long.program.calls) <= 60
    avoided = frozenset(name for name in vocabulary.operators if "add" in name)
    grown = grow(SeededChoices(1), Recipe(style="network", operators=40, avoid=avoided), vocabulary)
    assert avoided.isdisjoint(grown.program.operators())
    with pytest.raises(ValueError, match="1 to 1000"):
        Recipe(operators=0)


def test_a_program_has_no_operator_but_those_that_are_asked_for(vocabulary: Vocabulary) -> None:
    # Views, numbers and constants as well, which no record proposes.
    only = frozenset({"torch.mul", "torch.Tensor.add_", "torch.mm", "torch.transpose"})
    seen: set[str] = set()
    for seed in range(60):
        style = ("small", "network")[seed % 2]
        seen |= set(grow(SeededChoices(seed), Recipe(style=style, only=only), vocabulary).program.operators())
    assert seen - {"torch.neg"} == only  # what a program without a call gets


def test_a_program_has_a_call_even_where_every_operator_is_avoided(vocabulary: Vocabulary) -> None:
    for seed in range(60):
        grown = grow(SeededChoices(seed), Recipe(style="small", avoid=frozenset(vocabulary.operators)), vocabulary)
        assert grown.program.calls, seed
        assert grown.program.returns


def test_an_index_visits_every_operator(vocabulary: Vocabulary) -> None:
    met = {
        name
        for index in range(len(vocabulary.operators))
        for name in grow(
            SeededChoices(index), Recipe(style="small", operators=1, index=index), vocabulary
        ).program.operators()
    }
    assert len(met) > 0.8 * len(vocabulary.operators)


class Bytes(Choices):
    """Decisions that nobody would draw: the least, the last, and in turn; the least once they are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def integer(self, low: int, high: int) -> int:
        if low > high:
            raise ValueError(f"no whole number lies between {low} and {high}")
        return low + next(self._data, 0) * 257 % (high - low + 1)


@pytest.mark.parametrize("data", [b"", b"\xff" * 4000, bytes(range(256)) * 20])
def test_any_bytes_give_a_program(vocabulary: Vocabulary, data: bytes) -> None:
    grown = grow(Bytes(data), Recipe(), vocabulary)
    assert grown.program.calls
    reference(grown)


def test_further_inputs_have_other_sizes_or_other_values(vocabulary: Vocabulary) -> None:
    dynamic = repeated = 0
    for seed in range(60):
        grown = grow(SeededChoices(seed), Recipe(style="small", dynamic=True), vocabulary)
        if grown.dynamic:
            dynamic += 1
            shapes = [tuple(view.shape for view in inputs.views) for inputs in grown.input_sets]
            assert len(set(shapes)) == len(shapes)
            reference(grown)
        grown = grow(SeededChoices(seed), Recipe(style="small", repeat=True, dynamic=False), vocabulary)
        if len(grown.input_sets) > 1:
            repeated += 1
            assert [view.shape for view in grown.input_sets[0].views] == [
                view.shape for view in grown.input_sets[1].views
            ]
    assert dynamic > 20
    assert repeated > 30


def test_training_has_gradients_and_spares_its_leaves(vocabulary: Vocabulary) -> None:
    trained = 0
    for seed in range(60):
        grown = grow(SeededChoices(seed), Recipe(mode="training", values="uniform"), vocabulary)
        leaves = [view for view in grown.input_sets[0].views if view.requires_grad]
        assert bool(leaves) == (grown.mode == "training")
        if grown.mode == "training":
            trained += 1
            assert any(gradient is not None for gradient in reference(grown)[0]["gradient"])
    assert trained > 25


# --- one proposal ----------------------------------------------------------------------------------------------------


def growth(**config: float) -> Growth:
    choices = SeededChoices(0)
    return Growth(
        choices, InputSampler(choices, "integers", 0.0), GrowthConfig(resize=0.0, mix=0.0, number=0.0, **config)
    )


def give(grown: Growth, *shape: int, dtype: str = "float32") -> int:
    return grown.give(Given(dtype, shape, row_major(len(shape)), Values("integers", 3, -3, 3), dtype))


def record(operator: str, *shapes: tuple[int, ...], args: tuple = (), mutates: tuple[int, ...] = ()) -> Record:
    sizes = tuple(size for shape in shapes for size in shape)
    slots, at = [], 0
    for shape in shapes:
        slots.append(Slot("T", tuple(range(at, at + len(shape)))))
        at += len(shape)
    arguments = (*(Ref(i) for i in range(len(shapes))), *args)
    return Record(operator, arguments, (), tuple(slots), sizes, (False,) * at, ("float32",), mutates)


def snapshot(grown: Growth) -> tuple:
    return (
        [tensor.tolist() for tensor in grown.tensors],
        list(grown.shapes),
        list(grown.uses),
        {key: list(numbers) for key, numbers in grown.by_type.items() if numbers},
        len(grown.inputs),
        grown.total,
        grown.owned,
    )


@pytest.mark.parametrize(
    ("dropped", "reason"),
    [
        (record("torch.Tensor.log_", (4,), mutates=(0,)), "not finite"),
        (record("torch.Tensor.addbmm_", (4,), (5, 5, 5), (5, 5, 10), mutates=(0,)), "torch rejects it"),
        (record("torch.Tensor.copy_", (4,), (3,), mutates=(0,)), "torch rejects it"),
        (record("torch.add", (4,), (3,)), "torch rejects it"),
        (record("torch.Tensor.tolist", (4,)), None),
    ],
)
def test_a_dropped_proposal_leaves_nothing_behind(dropped: Record, reason: str | None) -> None:
    with torch.no_grad():
        grown = growth(reuse=0.0)
        value = give(grown, 4)
        assert grown.place(record("torch.Tensor.view", (4,), args=((2, 2),)), "float32", (value, 0))
        before = snapshot(grown)
        if reason is None:
            with pytest.raises(ValueError, match="not an operator"):
                grown.place(dropped, "float32", (value, 0))
            return
        assert not grown.place(dropped, "float32", (value, 0))
        assert snapshot(grown) == before
        assert grown.rejected == {reason: 1}


def test_a_write_is_seen_by_every_view() -> None:
    with torch.no_grad():
        grown = growth(reuse=0.0)
        value = give(grown, 4)
        grown.place(record("torch.Tensor.view", (4,), args=((2, 2),)), "float32", (value, 0))
        assert grown.place(record("torch.Tensor.fill_", (2, 2), args=(7,), mutates=(0,)), "float32", (1, 0))
        assert grown.tensors[0].tolist() == [7.0] * 4


def test_an_operand_that_changes_its_own_sizes_is_not_used_again() -> None:
    with torch.no_grad():
        grown = growth(reuse=0.0)
        value = give(grown, 2, 3)
        grown.place(record("torch.Tensor.contiguous", (2, 3)), "float32", (value, 0))
        assert grown.tensors[0] is grown.tensors[1]
        assert grown.place(record("torch.Tensor.t_", (2, 3), mutates=(0,)), "float32", (1, 0))
        assert grown.dead == {0, 1}
        assert grown.shapes == [(2, 3), (2, 3), (3, 2)]


def test_a_leaf_is_not_written_to() -> None:
    with torch.no_grad():
        grown = growth(reuse=0.0)
        leaf = grown.give(
            Given("float32", (4,), row_major(1), Values("integers", 3, -3, 3), "float32", requires_grad=True)
        )
        grown.place(record("torch.Tensor.view", (4,), args=((2, 2),)), "float32", (leaf, 0))
        for value, shape in ((0, (4,)), (1, (2, 2))):
            assert not grown.place(record("torch.Tensor.zero_", shape, mutates=(0,)), "float32", (value, 0))


def test_the_stored_recipe_gives_the_very_tensors(vocabulary: Vocabulary) -> None:
    seen = 0
    for seed in range(60):
        grown = grow(SeededChoices(seed), Recipe(style="small"), vocabulary)
        namespace = script.load(case(grown))
        for number, make in enumerate(namespace["CALLS"]):
            ours = tensors_of(grown.input_sets[number], grown.mode == "training")
            for mine, printed in zip(ours, make(), strict=True):
                assert mine.dtype == printed.dtype
                assert mine.stride() == printed.stride()
                assert mine.storage_offset() == printed.storage_offset()
                assert content(mine) == content(printed)
                seen += mine.numel()
    assert seen > 500


def test_shared_storages_are_listed_once() -> None:
    with torch.no_grad():
        grown = growth()
        give(grown, 8)
        grown.give(Given("float32", (3,), None, Values("integers", 3, -3, 3), "float32", 0, ((2,), 1)))
        give(grown, 2)
        inputs = input_set([given for _, given in grown.inputs])
    assert inputs == grown.input_set()
    assert [view.storage for view in inputs.views] == [0, 0, 1]
    assert inputs.shared()
    one, two, _ = tensors_of(inputs, training=False)
    assert two.tolist() == one[1:7:2].tolist()


def test_written_down_before_it_crashes(tmp_path: Path, vocabulary: Vocabulary) -> None:
    """What a worker does: the last line on disk names the call in flight."""
    path = tmp_path / "call"

    def note(line: str) -> None:
        path.write_text(line)

    recipe = Recipe(style="small", mode="inference", dynamic=False, repeat=False)
    grow(SeededChoices(9), recipe, vocabulary, note)
    assert json.loads(path.read_text())["operator"].startswith("torch.")


def test_a_call_that_writes_unannounced_is_dropped_and_spoils_what_was_seen() -> None:
    # torch.cov of one observation with weights subtracts the mean from its very operand.
    x = torch.tensor([0.5])
    torch.cov(x, fweights=torch.tensor([1]))
    if x.item() == 0.5:
        pytest.skip("this torch leaves the operand alone")
    growth = Growth(SeededChoices(1), InputSampler(SeededChoices(1), "uniform", 0.0), GrowthConfig(resize=0.0))
    record = Record(
        "torch.cov", (Ref(0),), (("fweights", Ref(1)),),
        (Slot("T", (0,)), Slot("int64", (0,), Spread("any", 1, 1))), (1,), (False,), ("float32",),
    )  # fmt: skip
    assert not growth.place(record, "float32")
    assert growth.spoilt
    assert growth.rejected == {"it writes to an operand without saying so": 1}


def test_each_run_is_told_as_a_case_before_it_happens(vocabulary: Vocabulary) -> None:
    kinds = set()
    for seed in range(12):
        lines: list[str] = []
        recipe = Recipe(style="network", mode="training", repeat=True)
        grown = grow(SeededChoices(seed), recipe, vocabulary, lines.append)
        assert grow(SeededChoices(seed), recipe, vocabulary) == grown
        told = [json.loads(line) for line in lines]
        kinds |= {one["operator"] for one in told}
        for one in told:
            made = codec.from_json(one["case"])
            if one["operator"] in ("backward", "other inputs"):
                assert made.setting.mode == "training" or grown.mode == "inference"
            else:
                assert made.program.operators()[-1] == one["operator"]
        if grown.mode == "training" and len(grown.input_sets) > 1:
            # The last one is the whole case.
            assert codec.from_json(told[-1]["case"]) == case(grown)
    assert {"backward", "other inputs"} < kinds


def test_inputs_are_not_written_to_where_that_is_not_wanted(vocabulary: Vocabulary) -> None:
    in_place = 0
    for seed in range(60):
        grown = grow(SeededChoices(seed), Recipe(mode="inference", writes=False), vocabulary)
        in_place += any(call.operator.endswith("_") for call in grown.program.calls)
        for inputs, seen in zip(grown.input_sets, reference(grown), strict=True):
            roles = [given.role for given in grown.program.inputs]
            tensors = zip(tensors_of(inputs, training=False), roles, strict=True)
            given = [tensor for tensor, _ in sorted(tensors, key=lambda pair: pair[1] == "parameter")]
            for one, after in zip(given, seen["input after the call"], strict=True):
                assert content(standalone.memory(one)) == content(after), grown.program.operators()
    assert in_place > 5


def test_a_sparse_gradient_is_none_that_a_case_can_hold() -> None:
    weight = torch.ones(3, 2, dtype=torch.float16, requires_grad=True)
    output = torch.nn.functional.embedding(torch.tensor([0, 2, 2]), weight, sparse=True)
    with pytest.raises(inputsets.Failed, match="no plain tensor"):
        inputsets._backward([output], [weight], special=False)

"""How broad generation is: the figures that the design asks for, on a few thousand programs."""

from collections import Counter

import pytest

from shakeout.corpus.case import contiguous
from shakeout.corpus.vocabularies.torch import traits
from shakeout.generators.choices import SeededChoices
from shakeout.generators.network import grow
from shakeout.generators.recipe import Grown, Recipe
from shakeout.generators.vocabularies.torch import Vocabulary, load_records


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return load_records()


@pytest.fixture(scope="module")
def networks(vocabulary: Vocabulary) -> list[Grown]:
    return [grow(SeededChoices(seed), Recipe(style="network", operators=12), vocabulary) for seed in range(600)]


@pytest.fixture(scope="module")
def small(vocabulary: Vocabulary) -> list[Grown]:
    return [grow(SeededChoices(seed), Recipe(style="small", index=seed), vocabulary) for seed in range(2500)]


def test_networks_place_many_operators_and_feed_most_of_them(networks: list[Grown]) -> None:
    placed = {name for grown in networks for name in grown.program.operators()}
    fed = {name for grown in networks for name in grown.fed}
    assert len(placed) >= 600
    assert len(fed) >= len(placed) / 2
    assert sum(len(grown.program.calls) >= 10 for grown in networks) >= 0.9 * len(networks)


def test_no_operator_dominates(networks: list[Grown]) -> None:
    used = Counter(name for grown in networks for name in grown.program.operators())
    # Indexing is the commonest on purpose: its forms are as many as those of a hundred operators.
    assert used.most_common(1)[0][1] < 0.15 * used.total()


def test_most_proposals_are_accepted(networks: list[Grown]) -> None:
    assert sum(len(g.program.calls) for g in networks) > 0.7 * sum(g.proposed for g in networks)


def test_small_programs_visit_every_operator(small: list[Grown], vocabulary: Vocabulary) -> None:
    met = {name for grown in small for name in grown.program.operators()}
    assert len(met) > 0.9 * len(vocabulary.operators)


def test_nothing_random_or_uninitialised_is_proposed(vocabulary: Vocabulary) -> None:
    for name in vocabulary.operators:
        assert "uninitialised" not in traits(name).hazards
        # Those that may draw numbers have attributes with which they do not.
        assert not traits(name).random or all(record.draws for record in vocabulary.records(name))


AXES = {
    "strided": lambda g: any(v.strides != contiguous(v.shape) for v in g.input_sets[0].views),
    "channels last": lambda g: any(
        len(v.shape) == 4 and v.strides[1] == 1 < min(v.shape[1:]) for v in g.input_sets[0].views
    ),
    "expanded": lambda g: any(0 in v.strides for v in g.input_sets[0].views),
    "offset": lambda g: any(v.offset for v in g.input_sets[0].views),
    "reinterpreted": lambda g: any(v.dtype != g.input_sets[0].storages[v.storage].dtype for v in g.input_sets[0].views),
    "shared": lambda g: g.input_sets[0].shared(),
    "zero-size": lambda g: any(0 in v.shape for v in g.input_sets[0].views),
    "0-d": lambda g: any(not v.shape for v in g.input_sets[0].views),
    "large": lambda g: any(size > 1000 for v in g.input_sets[0].views for size in v.shape),
    "special": lambda g: any(s.values.kind == "special" for s in g.input_sets[0].storages),
    "exact": lambda g: g.exact,
    "training": lambda g: g.mode == "training",
    "parameters": lambda g: any(given.role == "parameter" for given in g.program.inputs),
    "in place": lambda g: any(name.endswith("_") for name in g.program.operators()),
    "assignment": lambda g: "torch.Tensor.__setitem__" in g.program.operators(),
    "constant": lambda g: any(not call.operands() for call in g.program.calls),
    "view": lambda g: "torch.Tensor.view" in g.program.operators(),
    "several outputs": lambda g: len(g.program.returns) > 1,
    "input returned": lambda g: min(g.program.returns) < len(g.program.inputs),
    "dynamic": lambda g: g.dynamic,
    "repeat": lambda g: len(g.input_sets) > 1 and not g.dynamic,
}


@pytest.mark.parametrize("axis", AXES)
def test_small_programs_cross_every_axis(small: list[Grown], axis: str) -> None:
    met = sum(map(AXES[axis], small))
    assert met >= 10, f"{met} of {len(small)}"


def test_every_dtype_is_met(small: list[Grown], networks: list[Grown]) -> None:
    met = {type_.dtype for grown in (*small, *networks) for type_ in grown.program.types() if type_ is not None}
    wanted = (
        "float32 float64 float16 bfloat16 complex64 complex128 bool uint8 int8 int16 int32 int64 uint16 uint32 uint64 "
        "float8_e4m3fn float8_e5m2"
    )
    assert set(wanted.split()) <= met


def test_one_operator_meets_layouts_values_and_dtypes(vocabulary: Vocabulary) -> None:
    """Not only the programs as a whole: what is crossed is crossed with the operator."""
    where = vocabulary.operators.index("torch.abs")
    count = len(vocabulary.operators)
    index = next(i for i in range(count) if i * 7919 % count == where)
    seen = set()
    for seed in range(300):
        grown = grow(SeededChoices(seed), Recipe(style="small", operators=1, index=index), vocabulary)
        if grown.program.operators() == ("torch.abs",):
            view = grown.input_sets[0].views[0]
            plain = view.strides == contiguous(view.shape)
            seen.add((view.dtype, plain, grown.input_sets[0].storages[0].values.kind))
    assert len(seen) > 35

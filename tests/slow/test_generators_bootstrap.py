"""The bootstrap itself, from torch's own samples."""

from pathlib import Path

import pytest

from shakeout.corpus.program import Ref
from shakeout.generators.vocabularies import torch as records


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, records.Vocabulary, list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAKEOUT_CACHE", str(tmp_path_factory.mktemp("cache")))
        said: list[str] = []
        vocabulary = records.load_records(said.append)
        return records.cache_path(), vocabulary, said


def test_collects_operators_and_says_how_far_it_is(cached: tuple[Path, records.Vocabulary, list[str]]) -> None:
    path, vocabulary, said = cached
    assert path.stat().st_size < 1 << 20
    assert len(vocabulary.operators) > 1000
    assert any("of" in text for text in said)


def test_collecting_again_gives_the_same_bytes(cached: tuple[Path, records.Vocabulary, list[str]]) -> None:
    records.load_records()  # what this user's campaigns have: collected by another process, at another time
    other = records.cache_path()
    assert other != cached[0]
    assert other.read_bytes() == cached[0].read_bytes(), f"{other} is of another bootstrap: raise FORMAT"


@pytest.mark.parametrize(
    "operator",
    [
        "torch.nn.functional.scaled_dot_product_attention",
        "torch.nn.functional.conv2d",
        "torch.Tensor.__iadd__",
        "torch.Tensor.mT",
        "torch.cat",
        "torch.arange",
        "torch.nn.functional.dropout",
        "torch.fft.fft",
        "torch.linalg.solve",
    ],
)
def test_has(cached: tuple[Path, records.Vocabulary, list[str]], operator: str) -> None:
    assert cached[1].records(operator)


def test_knows_what_it_tried(cached: tuple[Path, records.Vocabulary, list[str]]) -> None:
    _, vocabulary, _ = cached
    add = next(r for r in vocabulary.records("torch.add") if len(r.slots) == 2 and r.ranks)
    assert {"float32", "bool", "int64", "complex64"} <= set(add.dtypes)
    assert add.broadcasts == 3
    assert add.ranks & 0b11111 == 0b11111
    assert all(record.mutates == (0,) for record in vocabulary.records("torch.Tensor.add_"))
    assert all(record.view for record in vocabulary.records("torch.Tensor.mT") if 0 not in record.sizes)
    log = vocabulary.records("torch.log")[0].slots[0].spread
    assert log.low is not None
    assert log.low > 0
    index = vocabulary.records("torch.index_copy")[0]
    assert any(slot.spread.kind == "distinct" for slot in index.slots)
    assert vocabulary.records("torch.linalg.cholesky")[0].slots[0].spread.kind == "definite"


def test_sizes_that_must_agree_change_together(cached: tuple[Path, records.Vocabulary, list[str]]) -> None:
    product = next(
        r
        for r in cached[1].records("torch.mm")
        if r.args == (Ref(0), Ref(1)) and 0 not in r.sizes and len(r.sizes) == 3
    )
    (_, inner), (other, _) = (slot.classes for slot in product.slots)
    assert inner == other
    assert all(product.free)

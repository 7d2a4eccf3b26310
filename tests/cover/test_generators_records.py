"""Records and their cache."""

import gzip
import json
from pathlib import Path

import pytest

from shakeout.corpus.program import Name, Ref, Slice
from shakeout.generators.vocabularies import torch as records
from shakeout.generators.vocabularies.records import Record, Slot, Spread

RECORD = Record(
    operator="torch.index_put",
    args=(Ref(0), (Ref(1), Slice(None, 2, None), None, ...), 1.5, True),
    kwargs=(("dtype", Name("torch.float16")),),
    slots=(Slot("T", (0, 1)), Slot("int64", (2,), Spread("distinct", 0, 4, (3, 1)))),
    sizes=(5, 3, 2),
    free=(True, False, True),
    dtypes=("float32", "int8"),
    mutates=(0,),
    view=True,
    ranks=6,
    broadcasts=1,
    draws=False,
    grad=False,
)


def test_a_record_survives_json() -> None:
    row = json.loads(json.dumps(RECORD.to_json()))
    assert Record.from_json("torch.index_put", row) == RECORD
    assert RECORD.shape(0) == (5, 3)
    assert RECORD.shape(1) == (2,)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "cache"))
    return records.cache_path()


def answers(monkeypatch: pytest.MonkeyPatch, *outcomes: tuple[int, str, str]) -> list[list[str]]:
    """Replace the collecting process; what it was told to skip, call by call."""
    left, told = list(outcomes), []

    def collect(path: Path, skip: list[str], progress: records.Progress) -> tuple[int, str, str]:
        told.append(list(skip))
        outcome = left.pop(0)
        if outcome[0] == 0:
            path.write_bytes(gzip.compress(json.dumps({RECORD.operator: [RECORD.to_json()]}).encode()))
        return outcome

    monkeypatch.setattr(records, "_collect", collect)
    return told


def test_the_cache_is_below_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SHAKEOUT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = records.cache_path()
    assert path.parent == tmp_path / "shakeout"
    assert f"records-{records.FORMAT}" in path.name


def test_collected_once_then_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = answers(monkeypatch, (0, "", ""))
    first, second = records.load_records(), records.load_records()
    assert told == [[]]
    assert first.operators == second.operators == ("torch.index_put",)
    assert second.records("torch.index_put") == (RECORD,)
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", gzip.compress(b"[]"), gzip.compress(b'{"torch.add": [[1]]}')],
    # The compressed text holds the time; test processes must agree on the names.
    ids=["empty", "garbage", "no operators", "no records"],
)
def test_a_cache_that_cannot_be_read_is_made_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    answers(monkeypatch, (0, "", ""))
    assert records.load_records().operators == ("torch.index_put",)
    answers(monkeypatch)
    assert records.load_records().operators == ("torch.index_put",)


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file where the directory should be")
    answers(monkeypatch, (0, "", ""))
    assert records.load_records().operators == ("torch.index_put",)


def test_an_operator_that_kills_the_collection_is_left_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = answers(monkeypatch, (-11, "torch.bad", ""), (-6, "torch.worse", ""), (0, "", ""))
    said: list[str] = []
    assert records.load_records(said.append).operators == ("torch.index_put",)
    assert told == [[], ["torch.bad"], ["torch.bad", "torch.worse"]]
    assert said == ["torch.bad crashes and is left out", "torch.worse crashes and is left out"]


def test_a_collection_that_fails_says_why(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, (1, "torch.add", "ImportError: no module named expecttest"))
    with pytest.raises(records.BootstrapFailed, match="status 1:\nImportError"):
        records.load_records()
    answers(monkeypatch, *((-11, f"torch.op{i}", "") for i in range(records.MAX_CRASHES)))
    with pytest.raises(records.BootstrapFailed, match="crashed 8 times"):
        records.load_records()


def test_takers_are_the_records_with_a_place_for_a_value() -> None:
    vocabulary = records.Vocabulary({RECORD.operator: [RECORD.to_json()]})
    taker = records.Takers(((RECORD, 0),), ())
    assert vocabulary.takers("float32", 2) == (taker,)
    assert vocabulary.takers("float32", 1) == (taker,)  # bit 1 of ranks
    assert vocabulary.takers("float32", 3) == ()
    assert vocabulary.takers("float64", 2) == ()
    strided = records.Vocabulary({"torch.as_strided": [RECORD.to_json()]})
    assert strided.takers("float32", 2) == ()
    # Indices that must not meet are never taken from elsewhere.
    assert vocabulary.takers("int64", 1) == ()

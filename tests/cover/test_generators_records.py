"""Records and their cache."""

import gzip
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus import learnt
from shakeout.corpus.program import Name, Ref, Slice
from shakeout.generators.vocabularies import takers
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

    def collect(module: str, path: Path, skip: list[str], progress: records.Progress) -> tuple[int, str, str]:
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
    assert set(cache.parent.iterdir()) == {cache, takers.index_path()}


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
    for rank in (2, 1):  # its own, and bit 1 of ranks
        (taker,) = vocabulary.takers("float32", rank)
        assert (taker.records, taker.rules) == (((RECORD, 0),), ())
    assert vocabulary.takers("float32", 3) == ()
    assert vocabulary.takers("float64", 2) == ()
    strided = records.Vocabulary({"torch.as_strided": [RECORD.to_json()]})
    assert strided.takers("float32", 2) == ()
    # Indices that must not meet are never taken from elsewhere.
    assert vocabulary.takers("int64", 1) == ()


# --- which operators take a value -----------------------------------------------------------------------------------


def test_the_index_says_what_records_and_rules_say_and_spares_reading_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records.load_records()  # collected at most once for all tests
    content = records.cache_path().read_bytes()
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))
    records.cache_path().write_bytes(content)
    whole = records.load_records()
    assert len(whole._rules) > 1000, "the first time nearly all of them are read"
    spared = records.load_records()
    for dtype, rank in (("float32", 2), ("int64", 1), ("bfloat16", 0), ("complex64", 5), ("bool", 7)):
        names = [one.operator for one in whole.takers(dtype, rank)]
        assert names == [name for name in whole.operators if dtype in whole._found(name).get(rank, ())]
        assert names == [one.operator for one in spared.takers(dtype, rank)]
        assert all(one.records or one.rules for one in whole.takers(dtype, rank))
    assert not spared._records
    assert not spared._rules
    one, other = (vocabulary.takers("float32", 2)[0] for vocabulary in (spared, whole))
    assert (one.records, len(one.rules)) == (other.records, len(other.rules))
    assert set(spared._rules) == {one.operator}
    spared.read_all()
    assert set(spared._rules) == set(spared.operators)


@pytest.mark.parametrize("change", ["records", "rules", "garbage", "truncated", "hostile"])
def test_an_index_of_something_else_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    answers(monkeypatch, (0, "", ""))
    assert records.load_records().takers("float32", 2)
    path = takers.index_path()
    good = path.read_bytes()
    if change == "records":
        other = replace(RECORD, dtypes=("float64",))
        cache.write_bytes(gzip.compress(json.dumps({RECORD.operator: [other.to_json()]}).encode()))
    elif change == "rules":
        learnt.write(learnt.torch_path(version("torch")), {"operators": {}})
    else:
        made_of = json.loads(gzip.decompress(good))["made of"]
        bad: dict[str, Any] = {"made of": made_of, "dtypes": [["float32"]], "operators": {RECORD.operator: {"two": 0}}}
        written = {"garbage": b"garbage", "truncated": good[:-9], "hostile": gzip.compress(json.dumps(bad).encode())}
        path.write_bytes(written[change])
    found = records.load_records()
    assert bool(found.takers("float32", 2)) == (change != "records")
    content = json.loads(gzip.decompress(path.read_bytes()))
    assert (content == json.loads(gzip.decompress(good))) == (change not in ("records", "rules"))

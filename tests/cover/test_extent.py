"""Where a tensor is wrong and by how much: a picture in few numbers, whatever the dtype and the size."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.observation import Observation
from shakeout.oracles.difference import Difference
from shakeout.oracles.extent import COLUMNS, ROWS, WORST, Cell, Extent, Place, extent
from shakeout.oracles.verdict import Question, Verdict


def different(want: torch.Tensor, got: torch.Tensor) -> Extent:
    found = extent(want, got, want != got)
    # It is stored, and read again.
    assert Extent.from_json(json.loads(json.dumps(found.to_json()))) == found
    return found


def test_a_small_tensor_is_told_element_by_element() -> None:
    want = torch.arange(12.0).reshape(2, 2, 3)
    got = want.clone()
    got[1, 0, 2] = 18.0
    got[0, 1, 0] = 3.25
    found = different(want, got)
    assert found.shape == (2, 2, 3)
    assert (found.matrix, found.grid, found.block) == ((4, 3), (4, 3), (1, 1))
    assert found.cells == (Cell(1, 0, 1, 0.25), Cell(2, 2, 1, 10.0))
    assert found.worst == (Place((1, 0, 2), 8.0, 18.0, 10.0), Place((0, 1, 0), 3.0, 3.25, 0.25))


def test_a_large_one_is_told_block_by_block() -> None:
    want = torch.zeros(3, 50, 1000)
    got = want.clone()
    got[2, 49, 999] = 1.0
    got[0, 0, :40] = torch.arange(1.0, 41.0)
    found = different(want, got)
    assert found.block == (10, 32)
    assert found.grid == (15, 32)
    assert all(one <= most for one, most in zip(found.grid, (ROWS, COLUMNS), strict=True))
    assert found.cells == (Cell(0, 0, 32, 32.0), Cell(0, 1, 8, 40.0), Cell(14, 31, 1, 1.0))
    assert [place.index for place in found.worst] == [(0, 0, column) for column in range(39, 39 - WORST, -1)]


@pytest.mark.parametrize(
    ("dtype", "want", "got", "apart"),
    [
        (torch.bool, True, False, 1.0),
        (torch.int8, -128, 127, 255.0),
        (torch.uint8, 0, 255, 255.0),
        (torch.uint64, 1, 4, 3.0),
        (torch.int64, -(2**63), 2**63 - 1, 1.84e19),
        (torch.float16, 1.0, 1.5, 0.5),
        (torch.float8_e5m2, 1.0, 1.5, 0.5),
        (torch.float64, -1.7e308, 1.7e308, None),
        (torch.complex64, 1 + 1j, 4 + 5j, 5.0),
        (torch.float32, 1.0, math.inf, None),
        (torch.float32, math.nan, 1.0, None),
    ],
)
def test_each_dtype_has_its_distance(dtype: torch.dtype, want: Any, got: Any, apart: float | None) -> None:
    found = extent(torch.tensor(want, dtype=dtype), torch.tensor(got, dtype=dtype), torch.tensor(True))
    assert found.cells == (Cell(0, 0, 1, apart),)
    assert (found.worst[0].index, found.worst[0].apart) == ((), apart)
    json.dumps(found.to_json(), allow_nan=False)


def test_what_has_no_size_comes_first() -> None:
    want = torch.tensor([1.0, math.nan, math.inf, 3.0])
    got = torch.tensor([9.0, 2.0, -math.inf, 3.0])
    assert [place.index for place in different(want.nan_to_num(5.0), got).worst] == [(2,), (0,), (1,)]
    assert [place.index for place in extent(want, got, want != got).worst] == [(1,), (2,), (0,)]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**9, 10**9]},  # cells that nobody could draw
        {"shape": [0]},
        {"block": [0, 1]},
        {"block": "no"},
        {"cells": [[0, 0]]},
        {"cells": [[0, 0, 1, -1.0]]},
        {"cells": [[0, 0, 1, math.nan]]},
        {"worst": None},
    ],
)
def test_what_was_not_written_by_it_is_refused(change: dict[str, Any]) -> None:
    good = different(torch.zeros(2), torch.ones(2)).to_json()
    with pytest.raises(ValueError, match="extent of a difference"):
        Extent.from_json({**good, **change})


def test_the_oracle_keeps_it_with_a_failure() -> None:
    case = capture(lambda x: x * 2, lambda: [torch.ones(2, 3)], setting=Setting("planted"))

    def seen(value: torch.Tensor) -> Observation:
        call = {"output": [value], "gradient": [], "input after the call": [], "random state": []}
        return Observation(({**call, "aliases": [], "given": []},))

    want = torch.ones(2, 3) / 3
    got = want.clone()
    got[1, 2] = 7.0
    runs = {"subject": got}
    answers: dict[Question, Observation] = {}
    oracle = Difference("value", "output")
    said: Any = oracle.questions(case)
    while not isinstance(said, Verdict):
        answers |= {question: seen(runs.get(question.what, want)) for question in said}
        said = oracle.judge(case, answers)
    assert said.symptom == "wrong value"
    stored = Extent.from_json(said.evidence["extent"])
    assert stored.cells == (Cell(1, 2, 1, 6.67),)
    assert stored.worst[0].index == tuple(said.evidence["index"])

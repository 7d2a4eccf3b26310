"""No right kernel or runtime gives a finding; the short form of ``tests/benchmarks/right.py``."""

import pytest
from tests.benchmarks import right
from tests.right.kernels import KERNELS
from tests.right.runtimes import RUNTIMES
from tests.tiers import some

pytestmark = pytest.mark.filterwarnings("ignore")

#: Compared cases of each. One in a hundred seeds that gives a false alarm is seen here with probability 3 in 4.
CASES = 150


@pytest.mark.parametrize("name", some(right.TARGETS, every=6))
def test_right_code_gives_no_finding(name: str) -> None:
    rows = right.measure([name], CASES, 1, None)
    assert sum(row["compared"] for row in rows) >= CASES
    assert [finding for row in rows for finding in row["findings"]] == []


def test_a_measurement_goes_on_where_it_stopped() -> None:
    def row(name: str, first: int, compared: int) -> dict:
        return {"name": name, "first": first, "last": first + right.BATCH, "compared": compared}

    rows = [row("one", 0, 90), row("one", 200, 90), row("two", 0, 250)]
    todo = right.ranges(rows, ["one", "two"], 250)
    name, first, last = next(todo)
    assert (name, first, last) == ("one", 100, 200)
    assert list(todo) == []  # nine in ten were compared, so that this is enough
    rows.append(row(name, first, 10))
    assert next(right.ranges(rows, ["one", "two"], 250))[:2] == ("one", 300)


def test_rows_that_lie_side_by_side_become_one() -> None:
    def row(first: int, compared: int, commit: str, *findings: int) -> dict:
        told = [{"index": index, "text": "{}"} for index in findings]
        found = {"name": "one", "seed": 1, "first": first, "last": first + right.BATCH, "compared": compared}
        found |= {"exact": compared - 1, "status": {"compared": compared}, "doubts": {}, "findings": told}
        return {**found, "seconds": 0.5, "commit": commit, "torch": "2", "machine": "m"}

    rows = [row(100, 70, "a", 150), row(0, 90, "a"), row(200, 5, "b"), row(400, 6, "b")]
    first, second, third = right.merged(rows)
    assert (first["first"], first["last"], first["compared"], first["exact"], first["seconds"]) == (
        0,
        200,
        160,
        158,
        1.0,
    )
    assert (first["status"], first["findings"]) == ({"compared": 160}, [{"index": 150}])
    assert (second["first"], third["first"]) == (200, 400)
    assert next(right.ranges([first, second, third], ["one"], 300))[:2] == ("one", 300)


def test_every_kind_of_kernel_is_there() -> None:
    assert len(KERNELS) >= 14
    assert len(RUNTIMES) >= 6

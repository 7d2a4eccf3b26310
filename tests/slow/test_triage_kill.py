"""A campaign that is killed in the middle of triage ends with the same bugs as one that is not, each told once.

So does the triage of a backlog. These are a few moments; ``tests/benchmarks/triage.py kill`` draws two hundred.
"""

import pytest
from tests.benchmarks.triaging import kill
from tests.tiers import some

pytestmark = pytest.mark.timeout(600)

#: Moments at which something was half done: counted under a bug, written down or told, but not all of it.
MOMENTS = (
    (("statement", 12), ("event", 3)),
    (("file", 9), ("statement", 45)),
    (("workers", 2), ("seconds", 4)),
)


@pytest.mark.parametrize(
    "moments", some(MOMENTS, every=3, name=lambda moments: " and ".join(f"{kind} {at}" for kind, at in moments))
)
def test_nothing_is_lost_and_nothing_is_told_twice(moments: tuple[tuple[str, float], ...]) -> None:
    row = kill.killed(0, moments)
    assert row["kills"], "it was over before the first moment came"
    assert (row["lost"], row["twice"], row["untold"]) == (0, 0, 0), row
    assert row["bugs"] == kill.undisturbed(kill.CAMPAIGN).bugs.total()


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_backlog_is_triaged_once_however_often_that_is_killed(seed: int) -> None:
    row = kill.killed(seed, what=kill.BACKLOG)
    assert len(row["kills"]) > 3
    assert (row["lost"], row["twice"], row["untold"]) == (0, 0, 0), row
    assert row["bugs"] == kill.undisturbed(kill.BACKLOG).bugs.total()

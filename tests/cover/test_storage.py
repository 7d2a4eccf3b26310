"""A result that reaches beyond its memory is a failure of its own kind, and nobody looks at what is in it."""

import sys

import torch
from tests.cover import test_right as first

import shakeout
from shakeout.corpus.standalone import compare
from shakeout.fuzz.running.execute import execute, repro
from shakeout.oracles.verdict import Outcome

known = first.known


@shakeout.kernel(reference=torch.relu)
def cut_short(x: torch.Tensor) -> torch.Tensor:
    """Wrong: gives its memory back while its result is there."""
    y = x.relu()
    y.untyped_storage().resize_(4)
    return y


def test_a_result_without_its_memory_is_a_failure_of_its_own() -> None:
    sys.modules.setdefault(__name__, sys.modules[cut_short.__module__])
    one = first.case(cut_short, torch.arange(64.0))
    result = execute(one)
    assert result.failure is not None
    assert (result.failure.oracle, result.failure.symptom) == ("storage", "beyond its memory")
    assert result.failure.message == "output 0: beyond its memory, which has 4 bytes of 256"
    # Nothing else is said of it, and no oracle threw.
    assert {verdict.outcome for verdict in result.verdicts if verdict.oracle != "storage"} == {Outcome.PASS}
    assert "def beyond(tensor):" in repro(one, result)


def test_a_script_says_so_before_it_compares() -> None:
    whole, cut = torch.ones(64), torch.ones(64)
    cut.untyped_storage().resize_(4)
    assert compare("output 0", whole, cut, {}) == ["output 0: beyond its memory, which has 4 bytes of 256"]
    assert compare("output 0", whole, whole.expand(3, 64)[0], {}) == []

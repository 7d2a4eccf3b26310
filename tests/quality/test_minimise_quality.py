"""Shrinks to exactly this: planted faults in the middle of larger networks, run by the stock compiler."""

import pytest
import torch
from tests.faults import FAULTS, Fault, planted
from tests.faults.entangle import hosted
from tests.faults.fault import inputs, numbers
from tests.faults.graphs import Graph, instead
from tests.tiers import some

from shakeout.corpus import script
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.order import elements
from shakeout.fuzz.minimise.search import Budget, minimise
from shakeout.fuzz.running.execute import execute

#: Faults of each group that are shrunk here, which makes eighteen; tests/benchmarks/minimise.py measures all of them.
PER_GROUP = 1

#: Of how many one stands for the others.
EACH = 9


def chosen() -> list[Fault]:
    """The first faults of each group that aot_eager has."""
    groups: dict[str, list[Fault]] = {}
    for fault in FAULTS:
        if fault.target == "aot_eager" and not fault.missed:
            groups.setdefault(fault.group, []).append(fault)
    return [fault for faults in groups.values() for fault in faults[:PER_GROUP]]


@pytest.mark.parametrize(
    "fault",
    some(chosen()[::-1], every=EACH, name=lambda fault: fault.name),
)
def test_a_fault_shrinks_to_its_own_program(fault: Fault) -> None:
    known, host = fault.case(), hosted(fault, 7)
    with planted(fault):
        found = minimise(host, in_process, budget=Budget(60.0, 600))
    assert len(found.case.program.calls) <= len(known.program.calls)
    with planted(fault, fixed=True):
        assert execute(found.case).failure is None, "it slipped to another failure"


@pytest.mark.parametrize("seed", some([12, 11], every=2))
def test_a_backend_that_multiplies_for_dividing_is_reduced_to_one_operator(seed: int) -> None:
    fault = Fault(
        "a quotient is a product",
        "trivial",
        "arithmetic rewrite",
        "aot_eager",
        Graph((torch.ops.aten.div.Tensor,), instead(torch.ops.aten.mul)),
        torch.div,
        (inputs(numbers(6, 5), numbers(6, 5)),),
    )
    host = hosted(fault, seed)
    assert len(host.program.calls) > 5
    with planted(fault):
        found = minimise(host, in_process, budget=Budget(60.0, 600))
    assert found.complete
    (call,) = found.case.program.calls
    # Means, and so some losses, are quotients as well.
    assert call.operator in host.program.operators()
    # Of a loss that is 0 for the first two of the numbers 1, 2, 3 the third one is left as well.
    assert elements(found.case) <= 6


def test_a_difference_that_is_a_sum_becomes_one_operator() -> None:
    fault = next(fault for fault in FAULTS if fault.name == "a difference of equals is zero")
    host = hosted(fault, 3)
    with planted(fault):
        found = minimise(host, in_process, budget=Budget(60.0, 600))
    assert found.complete
    assert "sub(" in script.network(found.case.program)
    assert len(found.case.program.calls) == 1

"""Shrinks to exactly this: failures inside branches, loops and blocks, and those to which they do not matter."""

import pytest
import torch
from tests.faults import Fault, planted
from tests.faults.fault import inputs, numbers
from tests.faults.graphs import Graph, instead
from tests.regions import FLAG, TWO, block, call, fed

from shakeout.corpus import script
from shakeout.corpus.case import Case
from shakeout.corpus.program import Call, Input, Program, Ref, Region
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.search import Budget, Minimised, minimise
from shakeout.fuzz.running.execute import execute


def wrong_difference(*, inside: bool) -> Fault:
    """A compiler that adds where it should subtract: everywhere, or in branches and loops only."""
    return Fault(
        "a difference is a sum",
        "trivial",
        "arithmetic rewrite",
        "aot_eager",
        Graph((torch.ops.aten.sub.Tensor,), instead(torch.ops.aten.add), lambda site, args: site.nested or not inside),
        torch.sub,
        (inputs(numbers(2, 3), numbers(2, 3)),),
    )


def host() -> Case:
    """A network with a difference inside a block inside a branch, among other things."""
    quiet = block(
        "torch.no_grad",
        (call("torch.sub", Ref(0), Ref(1)), call("torch.sin", Ref(2))),
        captures=(0, 1),
        returns=(3,),
    )
    true = Region((TWO, TWO), (3,), (call("torch.cos", Ref(1)), quiet, call("torch.mul", Ref(4), Ref(2))), (5, 3))
    false = Region((TWO, TWO), (), (call("torch.neg", Ref(0)), call("torch.exp", Ref(1))), (2, 3))
    calls = (
        call("torch.abs", Ref(1)),
        Call("torch.cond", (Ref(0), (Ref(1), Ref(2))), (), (TWO, TWO), "sequence", (true, false)),
        block("torch.enable_grad", (call("torch.tanh", Ref(0)),), captures=(4,), returns=(1,)),
        call("torch.add", Ref(5), Ref(6)),
    )
    program = Program((Input(FLAG), Input(TWO), Input(TWO)), calls, (6, 7))
    return fed(program, "aot_eager")


def shrunk(case: Case) -> Minimised:
    found = minimise(case, in_process, budget=Budget(300.0, 900))
    assert found.complete
    return found


def body(found: Minimised) -> str:
    """The program's text, without how it is bound."""
    return script.network(found.case.program).partition("\n\n\n")[0]


def test_regions_that_do_not_matter_are_dropped() -> None:
    fault = wrong_difference(inside=False)
    with planted(fault):
        found = shrunk(host())
    assert body(found) == "def program(x0):\n    v1 = torch.sub(x0, 1)\n    return (v1,)"
    with planted(fault, fixed=True):
        assert execute(found.case).failure is None, "it slipped to another failure"


@pytest.mark.exhaustive
def test_a_branch_that_matters_is_kept_and_what_is_in_it_shrinks() -> None:
    fault = wrong_difference(inside=True)
    with planted(fault):
        found = shrunk(host())
    (branch,) = found.case.program.calls
    assert branch.operator == "torch.cond"
    assert [one.operator for one in branch.regions[0].calls] == ["torch.sub"]
    assert len(found.case.program.operators()) <= 3
    with planted(fault, fixed=True):
        assert execute(found.case).failure is None, "it slipped to another failure"

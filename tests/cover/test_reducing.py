"""A finding reduced by one worker: what it tells, what it goes on with after a loss, and the root it ends at."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shakeout.corpus import codec
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.user_objects import find
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.ground import slot as slots
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.jobs import Reduce, job_from_json
from shakeout.fuzz.ground.results import Reply
from shakeout.fuzz.ground.slot import Slot
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.triage.bug_signature import signature_of
from shakeout.fuzz.triage.cause import cause_of, told_at_once
from shakeout.fuzz.triage.reducing import reduced
from shakeout.targets.registry import target

MODULE = "shakeout_reduced_kernels"
TEXT = """
import torch

import shakeout


@shakeout.kernel(reference=torch.abs)
def forgets_the_last(x):
    return torch.cat([x[:-1].abs(), x[-1:]]) if x.dim() == 1 and len(x) > 1 else x.abs()


@shakeout.kernel(reference=torch.abs)
def works_in_its_input(x):
    return x.abs_().clone()
"""
KERNEL = f"{MODULE}:forgets_the_last"
WRITES = f"{MODULE}:works_in_its_input"


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    directory = tmp_path_factory.mktemp("kernels")
    (directory / f"{MODULE}.py").write_text(TEXT)
    sys.path.append(str(directory))
    importlib.import_module(MODULE)
    yield
    sys.path.remove(str(directory))
    del sys.modules[MODULE]
    find.cache_clear()
    target.cache_clear()


def job_of(case: Case, **more: Any) -> Reduce:
    failure = failure_of(execute(case))
    assert failure is not None
    job = Reduce(
        target=case.setting.target, case=case.text, failure=astuple(failure), seconds=60.0, tries=200, fresh=True
    )
    return replace(job, **more)


def run(job: Reduce, tmp_path: Path) -> tuple[Reply, list[Reply]]:
    told: list[Reply] = []
    slot = Slot(tmp_path / "slot")
    slot.begin(1, "")
    try:
        # What is sent is JSON, and so is a job that is written down.
        again = job_from_json(job.to_json())
        assert isinstance(again, Reduce)
        return Reply.from_json(reduced(again, slot, told.append, lambda case: {}).to_json()), told
    finally:
        slot.close()


def kernel_case(program: Any, *values: float, kernel: str = KERNEL) -> Case:
    """A case of a kernel, written with its reference in its place."""
    case = capture(lambda x: program(torch.abs, x), lambda: [torch.tensor(values)], setting=Setting(kernel))
    first, *rest = case.program.calls
    calls = (replace(first, operator=kernel), *rest)
    return replace(case, program=replace(case.program, vocabulary="kernel", calls=calls))


def test_a_search_tells_each_candidate_before_it_runs_and_each_step(tmp_path: Path) -> None:
    job = job_of(selftest.case("wrong value"))
    reply, told = run(job, tmp_path)
    announced = [id_ for one in told for id_ in one.sequence]
    assert all(one.partial for one in told)
    assert len(announced) >= reply.learnt["tries"] > 3
    steps = [one for one in told if one.case]
    small = codec.decode(reply.case)
    assert steps
    assert small.program.calls == ()
    assert (reply.learnt["complete"], reply.learnt["failure"]) == (True, job.failure)
    assert reply.learnt["growth"] == "2 one, 3 one, 17 one, 257 one"
    assert reply.result is not None
    assert failure_of(reply.result) == Failure(*job.failure)
    assert "def prepare(" in reply.script
    assert slots.read(tmp_path / "slot").kind == "case"


def test_a_search_goes_on_where_its_worker_was_lost(tmp_path: Path) -> None:
    job = job_of(selftest.case("wrong value"))
    _, told = run(job, tmp_path)
    last = [one for one in told if one.case][-1]
    assert last.result is not None
    announced = tuple(id_ for one in told for id_ in one.sequence)
    again = replace(job, case=last.case, result=last.result.to_json(), seen=announced)
    reply, told = run(again, tmp_path)
    assert reply.case == last.case
    # It knows how the case fails and what the others do: what is left is to tell what it found.
    assert len([id_ for one in told for id_ in one.sequence]) <= 1


def test_what_does_not_fail_again_is_said(tmp_path: Path) -> None:
    job = replace(job_of(selftest.case("wrong value")), case=selftest.case(selftest.NO_FAULT).text)
    reply, _ = run(job, tmp_path)
    assert "does not fail" in reply.learnt["gone"]
    assert not reply.case


@pytest.mark.parametrize(
    ("downstream", "symptom"),
    [
        (lambda kernel, x: kernel(x) + 1, "wrong value"),
        (lambda kernel, x: torch.log(kernel(x)), "NaN"),
        (lambda kernel, x: torch.bincount(kernel(x).to(torch.int64)), "RuntimeError"),
    ],
)
def test_a_kernel_s_mistake_ends_at_the_kernel_whatever_comes_behind_it(
    tmp_path: Path, downstream: Any, symptom: str
) -> None:
    case = kernel_case(downstream, 1.0, 2.0, -3.0)
    result = execute(case)
    assert result.failure is not None
    assert symptom in result.failure.symptom
    reply, _ = run(job_of(case), tmp_path)
    small = codec.decode(reply.case)
    assert small.program.operators() == (KERNEL,)
    assert reply.result is not None
    signature = signature_of(small, reply.result)
    assert signature is not None
    assert cause_of(signature, reply.result, small) == f"kernel | {KERNEL} | outputs"
    # Where the values show at once that the kernel is the first to go wrong, nobody need reduce anything.
    at_once = told_at_once(result, case)
    assert at_once == ("" if symptom == "RuntimeError" else f"kernel | {KERNEL} | outputs")


def test_an_input_that_a_kernel_wrote_to_is_no_wrong_value_where_it_is_returned(tmp_path: Path) -> None:
    case = kernel_case(lambda kernel, x: (kernel(x), x), 1.0, -2.0, kernel=WRITES)
    reply, _ = run(job_of(case), tmp_path)
    assert tuple(reply.learnt["failure"][:3]) == (WRITES, "mutation", "wrong mutation")
    assert reply.result is not None
    assert told_at_once(execute(case), case) == f"kernel | {WRITES} | inputs"

"""The calls of a smallest case on ordinary inputs: which these are, and which of their failures counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from shakeout.corpus import regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.setting import RANDOM
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.predicate import Outcome
from shakeout.fuzz.minimise.widest import Widened, variants, widened
from shakeout.fuzz.running.execute import execute
from shakeout.generators.validity import Requirements
from shakeout.oracles.verdict import Outcome as Said
from shakeout.oracles.verdict import Verdict

BOOLEANS = capture(
    lambda x, y: torch.add(x, y, alpha=2),
    lambda: [torch.tensor(False), torch.tensor([False, True])],
    setting=Setting("inductor", (("cpp.simdlen", 256),)),
)
LOST = Failure("inductor", "value", "NaN lost")


def test_the_variants_are_ordinary_inputs_and_then_more_like_the_case() -> None:
    found = {one.what: one.case for one in variants(BOOLEANS)}
    first, second, *_ = found
    assert first == "float32, 8 elements counted from 0, default knobs"
    assert second == "bool, 8 elements counted from 0, default knobs"
    case = found[second]
    assert not case.setting.knobs
    assert [view.shape for view in case.input_sets[0].views] == [(8,), (8,)]
    assert [one.values.items[:3] for one in case.input_sets[0].storages] == [(0, 1, 0), (0, 1, 0)]
    assert dict(case.program.calls[0].kwargs) == {"alpha": 2}
    bare = found["bool, 8 elements counted from 0, default arguments, default knobs"]
    assert not bare.program.calls[0].kwargs
    assert found["the same inputs, default knobs"].input_sets == BOOLEANS.input_sets
    assert BOOLEANS.id not in {one.id for one in found.values()}
    assert len({one.id for one in found.values()}) == len(found)
    reals = found[first]
    assert [one.values.items[7] for one in reals.input_sets[0].storages] == [7.0, 15.0]


def test_where_the_layout_is_the_point_only_the_knobs_change() -> None:
    case = capture(lambda x: x + 1, lambda: [torch.ones(2, 3).t()], setting=Setting("inductor", (("freezing", True),)))
    assert [one.what for one in variants(case)] == ["the same inputs, default knobs"]


def test_default_knobs_leave_random_numbers_those_of_eager() -> None:
    knobs = ((RANDOM, True), ("freezing", True))
    drawn = capture(lambda x: torch.dropout(x, 0.5, True), lambda: [torch.ones(3)], setting=Setting("inductor", knobs))
    found = {one.what: one.case for one in variants(drawn)}
    assert found[f"the same inputs, default knobs but {RANDOM}"].setting.knobs == knobs[:1]
    assert {one.setting.knobs for one in found.values()} == {knobs[:1], knobs}
    alone = replace(drawn, setting=Setting("inductor", knobs[:1]))
    assert all(one.case.setting == alone.setting and "knobs" not in one.what for one in variants(alone))


def outcome(verdict: Verdict | None, case: Case, status: str = "compared") -> Outcome:
    if verdict is None:
        return Outcome(status)
    result = Result(case.id, "inductor", "compared", (verdict,))
    return Outcome("compared", failure_of(result), case, result)


RAISES = Verdict("exception", Said.FAIL, "ValueError", "ValueError: no", "", {"template": "no"})
WRONG = Verdict("value", Said.FAIL, "wrong value", "", "output 0", {"wrong": 3, "total": 8})
DIES = Verdict("crash", Said.FAIL, "SIGSEGV", "crash: SIGSEGV", "run")


@pytest.mark.parametrize(
    ("verdicts", "which", "said"),
    [
        ((None, None), None, ["no failure", "no failure"]),
        ((RAISES, WRONG), 1, ["fails otherwise: ValueError", "wrong value, 3 of 8 elements"]),
        ((None, DIES), 1, ["no failure", "crash (SIGSEGV)"]),
    ],
)
def test_the_first_that_may_have_the_same_cause_is_taken(
    verdicts: Sequence[Verdict | None], which: int | None, said: list[str]
) -> None:
    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        rest = [None] * (len(cases) - len(verdicts))
        return [outcome(verdict, case) for verdict, case in zip([*verdicts, *rest], cases, strict=True)]

    found = widened(BOOLEANS, LOST, run)
    assert [one.outcome for one in found.tried[:2]] == said
    assert (found.variant is None) == (which is None)
    if which is not None and found.variant is not None:
        assert found.variant.what == found.tried[which].what


def test_a_refusal_counts_only_if_it_is_the_same_and_what_eager_refuses_is_said() -> None:
    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        return [outcome(RAISES, cases[0]), *(Outcome("invalid") for _ in cases[1:])]

    other = widened(BOOLEANS, Failure("inductor", "exception", "ValueError", "yes"), run)
    assert (other.variant, other.tried[1].outcome) == (None, "eager rejects it")
    same: Widened = widened(BOOLEANS, Failure("inductor", "exception", "ValueError", "no"), run)
    assert same.variant is not None
    assert same.tried[0].outcome == "fails alike"


@pytest.mark.long
def test_a_gradient_that_is_wrong_in_one_place_is_wrong_for_every_vector() -> None:
    bug = next(bug for bug in regressions.load_all() if bug.id == "unfold-gradient-of-overlapping-windows")
    failure = failure_of(execute(bug.case, explain=False))
    assert failure is not None
    found = widened(bug.case, failure, in_process)
    assert found.variant is not None
    assert "8 elements counted from 0" in found.variant.what
    assert "6 of 8 elements" in found.tried[0].outcome
    assert (found.variant.case.program, found.variant.case.setting) != (bug.case.program, bug.case.setting)

"""Losses as results: a crash belongs to whoever was running."""

import json

import pytest

from shakeout.corpus.codec import encode, to_json
from shakeout.fuzz.campaign.selftest import case
from shakeout.fuzz.ground.crashes import lost
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Loss
from shakeout.fuzz.ground.slot import SlotState

CASE = case("abort")
JOB = Grow(number=4, seed=4, target="planted")


def loss(kind, phase: str, text: str = "", what="case", symptom: str = "SIGSEGV", output: str = "") -> Loss:
    return Loss(kind, symptom, SlotState(4, 0.0, phase, 0.0, what, text or encode(CASE)), 1.5, output)


def test_a_crash_of_the_target() -> None:
    found = lost(JOB, loss("crash", "run", output="warming\nlib.so: Assertion `n > 0' failed.\nmore"))
    assert found.case == CASE
    assert found.result.signature == "planted | crash | SIGSEGV | torch.Tensor.add_+torch.mul"
    (verdict,) = found.result.verdicts
    assert (verdict.oracle, verdict.place) == ("crash", "run")
    assert verdict.message == "SIGSEGV in phase run: lib.so: Assertion `n > 0' failed."
    assert (found.result.status, found.result.case) == ("failed", CASE.id)


@pytest.mark.parametrize("kind", ["hang", "memory"])
def test_a_hang_and_a_blow_up_of_the_target(kind) -> None:
    found = lost(JOB, loss(kind, "run", symptom="no answer within 3 s"))
    # The limit is not part of the signature, or each campaign would have its own bug.
    assert found.result.signature == f"planted | {kind} | {kind} | torch.Tensor.add_+torch.mul"


def test_a_crash_of_the_reference_is_blamed_on_it() -> None:
    found = lost(JOB, loss("crash", "reference"))
    assert found.case is not None
    assert found.case.setting.target == "eager"
    assert found.result.signature.startswith("eager | crash | SIGSEGV")


@pytest.mark.parametrize("kind", ["hang", "memory"])
def test_a_slow_or_large_reference_is_no_finding(kind) -> None:
    found = lost(JOB, loss(kind, "reference"))
    assert (found.result.status, found.result.signature) == ("invalid", "")
    found = lost(JOB, loss(kind, "grow", '{"index": 4}', "job"))
    assert (found.result.status, found.result.signature, found.growing) == ("invalid", "", False)


def test_a_crash_while_growing_is_traced_first() -> None:
    found = lost(JOB, loss("crash", "grow", '{"index": 4}', "job"))
    assert (found.growing, found.result.signature) == (True, "")
    trace = '{"index": 4}\n{"operator": "torch.add"}\n{"operator": "torch.bincount", "args": []}'
    found = lost(JOB, loss("crash", "grow", trace, "trace"))
    assert (found.growing, found.case) == (False, None)
    assert found.result.signature == "eager | crash | SIGSEGV | torch.bincount"
    assert found.result.verdicts[0].evidence["call"].startswith('{"operator": "torch.bincount"')


def test_a_crash_while_growing_leaves_the_case_that_it_would_have_been() -> None:
    line = json.dumps({"operator": "backward", "case": to_json(CASE.on("eager"))})
    found = lost(JOB, loss("crash", "grow", f'{{"index": 4}}\n{{"operator": "torch.add"}}\n{line}', "trace"))
    assert found.case == CASE.on("eager")
    assert (found.result.case, found.result.operators) == (found.case.id, ("torch.Tensor.add_", "torch.mul"))
    assert found.result.signature == "eager | crash | SIGSEGV | backward"


def test_judging_that_takes_too_long_is_ours() -> None:
    found = lost(JOB, loss("hang", "judge"))
    assert (found.result.status, found.result.signature) == ("infra", "")


def test_a_torn_slot_is_no_finding() -> None:
    found = lost(JOB, loss("crash", "run", "{torn", ""))
    assert (found.result.status, found.case) == ("infra", None)

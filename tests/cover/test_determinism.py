"""A target that promises the same bits is compared with itself."""

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from shakeout.corpus import script, standalone
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.observation import Observation, Raised
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.execute import execute, repro
from shakeout.oracles import determinism
from shakeout.oracles.determinism import Determinism
from shakeout.oracles.difference import AGAIN, POISONED, REPEATS, Difference
from shakeout.oracles.registry import oracles
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Outcome, Question, Verdict
from shakeout.targets.registry import names, target


def case(function: Callable, *inputs: torch.Tensor, on: str = "aot_eager", knobs: tuple = ()) -> Case:
    return capture(function, lambda: [x.clone() for x in inputs], setting=Setting(on, knobs))


def seen(*outputs: torch.Tensor) -> Observation:
    return Observation([{"output": outputs, "gradient": (), "input after the call": (), "random state": ()}])


ONE = case(torch.sin, torch.ones(3))
X = torch.tensor([1.0, math.nan])


def judge(first: Observation, again: Observation, **others: Observation) -> Verdict:
    answers = {REFERENCE: seen(X), SUBJECT: first, AGAIN: again}
    said = Determinism().judge(ONE, answers)
    if not isinstance(said, Verdict):
        assert said == (*REPEATS, POISONED)
        answers |= {question: others.get(question.what, seen(X)) for question in said}
        said = Determinism().judge(ONE, answers)
    assert isinstance(said, Verdict)
    return said


def test_one_bit_is_enough() -> None:
    assert judge(seen(X), seen(X.clone())).outcome is Outcome.PASS
    other = torch.nextafter(X, torch.tensor(2.0))
    verdict = judge(seen(X), seen(other))
    assert (verdict.outcome, verdict.symptom, verdict.place) == (Outcome.FAIL, "nondeterministic", "output 0")
    assert judge(seen(X), Observation((), Raised("RuntimeError", "no", ()))).outcome is Outcome.FAIL
    assert judge(Observation((), Raised("RuntimeError", "no", ())), seen(X)).outcome is Outcome.PASS


def test_a_reference_that_does_not_repeat_itself_is_no_evidence() -> None:
    other = torch.nextafter(X, torch.tensor(2.0))
    for question in ("reference", "poisoned"):
        verdict = judge(seen(X), seen(other), **{question: seen(other)})
        assert (verdict.outcome, verdict.symptom) == (Outcome.UNKNOWN, "undefined")


def test_where_bits_have_to_be_equal_eager_is_asked_often_whether_it_agrees_with_itself() -> None:
    other = torch.nextafter(X, torch.tensor(2.0))
    oracle = Difference("value", "output", exact=True)

    def judged(odd: Question | None) -> Verdict:
        answers = {REFERENCE: seen(X), SUBJECT: seen(other)}
        said = oracle.judge(ONE, answers)
        while not isinstance(said, Verdict):
            answers |= {question: seen(other if question == odd else X) for question in said}
            answers[AGAIN] = seen(other)
            said = oracle.judge(ONE, answers)
        return said

    assert judged(None).outcome is Outcome.FAIL
    for question in REPEATS:
        assert (judged(question).outcome, judged(question).symptom) == (Outcome.UNKNOWN, "undefined")


def test_a_run_with_its_memory_elsewhere_shows_the_same() -> None:
    program = case(lambda x: (x @ x.T).softmax(0), torch.arange(12.0).reshape(3, 4))
    first, *others = (runs.repeated(program, question.number) for question in REPEATS)
    assert first.error is None
    assert all(torch.equal(one.calls[0]["output"][0], first.calls[0]["output"][0]) for one in others)


def test_only_a_share_of_the_cases_is_asked() -> None:
    cases = [case(torch.sin, torch.ones(3), knobs=(("number", number),)) for number in range(200)]
    asked = sum(AGAIN in Determinism().questions(one) for one in cases)
    assert 4 < asked < 30
    assert Determinism().judge(ONE, {REFERENCE: seen(X), SUBJECT: seen(X)}) == Verdict("determinism", Outcome.PASS)


def test_who_promises_it() -> None:
    promised = {name for name in names() if "repeats" in target(name).facts.promises}
    assert promised >= {"aot_eager", "inductor", "export"}
    for name in promised:
        assert "determinism" in {oracle.name for oracle in oracles(target(name).facts.promises)}


def test_a_compiler_that_gives_other_last_digits_each_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # The planted fault: within every tolerance.
    compiled = []

    def compile_(function: Any, **options: Any) -> Any:
        compiled.append(function)
        factor = 1 + 1e-7 * (len(compiled) % 2)
        return lambda *given: [output * factor for output in function(*given)]

    monkeypatch.setattr(determinism, "TURN", 1)
    assert execute(ONE).outcome is Outcome.PASS
    monkeypatch.setattr(torch, "compile", compile_)
    result = execute(ONE)
    assert result.failure is not None
    assert (result.failure.oracle, result.failure.symptom) == ("determinism", "nondeterministic")
    assert "sys.exit(repeated(prepare, 0))" in repro(ONE, result)


def test_marks_tell_bits_apart_but_not_nan() -> None:
    def mark(*tensors: torch.Tensor | None) -> str:
        return standalone.mark([{"output": tensors, "gradient": (), "input after the call": ()}])

    negative = torch.full((), -1, dtype=torch.int32).view(torch.float32)
    assert mark(torch.tensor(math.nan)) == mark(negative)
    assert mark(torch.tensor(0.0)) != mark(torch.tensor(-0.0))
    assert mark(torch.ones(2)) != mark(torch.ones(2, 1)) != mark(torch.ones(2, 1).double())
    for dtype in (torch.bool, torch.complex64, torch.bfloat16, torch.float8_e5m2, torch.int64):
        assert mark(torch.ones(3).to(dtype), None) == mark(torch.ones(3).to(dtype), None)


def test_the_script_shows_it_in_fresh_processes(tmp_path: Path) -> None:
    # The planted fault: an order that depends on the seed of Python's hashes.
    prepare = "def prepare(function):\n    return lambda x: [y + (hash('x') % 97) * 1e-7 for y in function(x)]\n"
    text = script.standalone(ONE, prepare, tolerances={}, repeats=True)
    path = tmp_path / "repro.py"
    path.write_text(text)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    first, second, third, fourth = (
        done.stdout.strip().removeprefix("two runs in each of two processes show ").split(", ")
    )
    assert (first, third) == (second, fourth)
    assert first != third

"""Whether an oracle keeps to the protocol: it asks and judges, and does nothing else."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest import mock

from shakeout.corpus.case import Case
from shakeout.corpus.observation import PARTS, Observation, Raised
from shakeout.fuzz.conformance.problems import told
from shakeout.oracles.verdict import REFERENCE, SUBJECT, Oracle, Outcome, Question, Verdict

__all__ = ["ASKED", "check_oracle"]

#: Most questions that an oracle may ask at a time: each is a run.
ASKED = 64

#: What starts a process, by Python's audit events.
_PROCESSES = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen")

_watching: list[Callable[[str], None]] = []


def check_oracle(oracle: Oracle, cases: Sequence[Case] | None = None) -> None:
    """Check an oracle, in seconds.

    Args:
        oracle: the object that is registered.
        cases: that it judges, on eager against itself; small ones of Shakeout's by default.

    Raises:
        NotConforming: something is wrong; the message has a line for each thing.
    """
    from shakeout.fuzz.conformance.small_cases import small_cases
    from shakeout.targets.registry import target

    given = small_cases(target("eager")) if cases is None else list(cases)
    checks = {"name": _name, "asks": _asks, "judges": _judges, "errors": _errors, "planted": _planted}
    told(
        f"oracle {getattr(oracle, 'name', oracle)!r}",
        ((name, lambda check=check: check(oracle, given)) for name, check in checks.items()),  # type: ignore[misc]
    )


def _name(oracle: Oracle, cases: Sequence[Case]) -> Iterator[str]:
    if not isinstance(oracle.name, str) or not oracle.name or oracle.name != oracle.name.strip():
        yield f"its name is {oracle.name!r}, expected a word or two"


def _asks(oracle: Oracle, cases: Sequence[Case]) -> Iterator[str]:
    """Bounded questions, which hang on the case alone."""
    for case in cases:
        with _nothing_runs() as ran:
            asked = tuple(oracle.questions(case))
        yield from ran
        if any(not isinstance(question, Question) for question in asked) or len(asked) > ASKED:
            yield f"questions gives {len(asked)} of {asked[:3]}, expected at most {ASKED} of Question"
        if tuple(oracle.questions(case)) != asked:
            yield "questions gives others each time, for one case"


def _judges(oracle: Oracle, cases: Sequence[Case]) -> Iterator[str]:
    """Of what agrees with itself it says no failure, after as many rounds as it has in a campaign."""
    for case in cases:
        yield from _verdict(oracle, case, None, Outcome.FAIL, "eager agrees with itself")


def _errors(oracle: Oracle, cases: Sequence[Case]) -> Iterator[str]:
    """What was not supported is no failure, and neither is an answer that could not be had."""
    refusal = Observation(error=Raised("NotImplementedError", "not here", (), declined=True))
    missing = Observation(error=Raised("RuntimeError", "this run could not be made", ()))

    def declined(question: Question, seen: Observation) -> Observation:
        return refusal if question.what == "subject" else seen

    def without(question: Question, seen: Observation) -> Observation:
        return seen if question in (REFERENCE, SUBJECT) else missing

    yield from _verdict(oracle, cases[0], declined, Outcome.FAIL, "the target declined the case")
    yield from _verdict(oracle, cases[0], without, Outcome.FAIL, "the two runs agree, and no further run could be made")


def _planted(oracle: Oracle, cases: Sequence[Case]) -> Iterator[str]:
    """Whatever it says of other values, it is a verdict; it need not see them."""
    import torch

    def moved(tensor: Any) -> Any:
        return tensor + 1 if isinstance(tensor, torch.Tensor) and tensor.is_floating_point() else tensor

    def wrong(question: Question, seen: Observation) -> Observation:
        if question.what != "subject":
            return seen
        calls = tuple({**call, "output": [moved(t) for t in call["output"]]} for call in seen.calls)
        return replace(seen, calls=calls)

    yield from _verdict(oracle, cases[0], wrong, None, "")


def _verdict(
    oracle: Oracle,
    case: Case,
    change: Callable[[Question, Observation], Observation] | None,
    never: Outcome | None,
    because: str,
) -> Iterator[str]:
    """Problems of one judgement, with answers that are changed on the way."""
    from shakeout.fuzz.running.execute import ROUNDS, answered

    run = answered(case)
    answers: dict[Question, Observation] = {}

    def answer(questions: Sequence[Question]) -> None:
        for question in questions:
            seen = run(question)
            answers[question] = seen if change is None else change(question, seen)

    answer(tuple(oracle.questions(case)))
    for _ in range(ROUNDS):
        before = _copies(answers)
        with _nothing_runs() as ran:
            said = oracle.judge(case, MappingProxyType(answers))
        yield from ran
        if not _same(before, answers):
            yield "judge changes the tensors that it is shown"
        if isinstance(said, Verdict):
            yield from _form(oracle, said)
            if said.outcome is never:
                yield f"it says {said.outcome} ({said.symptom}: {said.message}), although {because}"
            return
        fresh = [question for question in said if question not in answers]
        if not fresh or len(said) > ASKED or any(not isinstance(question, Question) for question in said):
            yield f"judge gives {list(said)[:3]}, expected a Verdict, or at most {ASKED} questions with a new one"
            return
        answer(fresh)
    yield f"it still asks after {ROUNDS} rounds"


def _form(oracle: Oracle, said: Verdict) -> Iterator[str]:
    if said.oracle != oracle.name:
        yield f"its verdict is of {said.oracle!r}, expected its own name, {oracle.name!r}"
    if said.outcome not in Outcome:
        yield f"it says {said.outcome!r}, expected one of {', '.join(Outcome)}"
    if said.outcome is Outcome.FAIL and not (said.symptom and said.message):
        yield "it fails without symptom or message"
    try:
        json.dumps(said.to_json(), allow_nan=True)
    except (TypeError, ValueError) as error:
        yield f"its verdict is no JSON: {error}"


def _copies(answers: Mapping[Question, Observation]) -> dict[Question, list[Any]]:
    def tensors(seen: Observation) -> Iterator[Any]:
        return (tensor for call in seen.calls for part in PARTS for tensor in call.get(part, ()))

    return {
        question: [None if tensor is None else tensor.detach().clone() for tensor in tensors(seen)]
        for question, seen in answers.items()
    }


def _same(before: Mapping[Question, list[Any]], answers: Mapping[Question, Observation]) -> bool:
    import torch

    after = _copies(answers)
    return all(
        (a is None and b is None) or torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
        for question, tensors in before.items()
        for a, b in zip(tensors, after[question], strict=True)
    )


@contextlib.contextmanager
def _nothing_runs() -> Iterator[list[str]]:
    """Meanwhile no process is started and no case is run; what is tried stands in the list afterwards."""
    from shakeout.corpus import script
    from shakeout.fuzz.running import runs

    if not _watching:
        _watching.append(lambda event: None)
        sys.addaudithook(lambda event, arguments: _watching[0](event))
    found: list[str] = []

    def refuse(*args: object, **kwargs: object) -> object:
        found.append("it runs a case itself, instead of asking for it")
        raise RuntimeError(found[-1])

    def event(name: str) -> None:
        if name in _PROCESSES:
            found.append(f"it starts a process ({name}), instead of asking")

    with mock.patch.object(script, "load", refuse), mock.patch.object(runs, "observe", refuse):
        _watching[0] = event
        try:
            yield found
        finally:
            _watching[0] = lambda event: None

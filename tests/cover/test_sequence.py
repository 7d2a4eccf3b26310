"""Which cases have to run before one that fails only behind others, and how small they become."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shakeout.corpus import codec
from shakeout.corpus.case import Case
from shakeout.corpus.program import Call, Ref
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.finding_folder import write_sequence
from shakeout.fuzz.ground.jobs import Candidate, Run
from shakeout.fuzz.minimise.predicate import NotReproduced, Outcome
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.minimise.sequence import minimise_behind, recorded_before
from shakeout.generators.validity import Requirements, validated

WRONG = Failure("planted", "value", "wrong value")
LENIENT = Requirements(defined=True, finite=True)


def case(operator: str, seed: int) -> Case:
    """A network of two calls, of which the second is the operator; the seed makes it another one."""
    made = selftest.case("none")
    program = made.program
    last = Call(operator, (Ref(1),), (), program.calls[1].results)
    storage = made.input_sets[0].storages[0]
    inputs = replace(made.input_sets[0], storages=(replace(storage, values=replace(storage.values, seed=seed)),))
    return replace(made, program=replace(program, calls=(program.calls[0], last)), input_sets=(inputs,))


def operators(one: Case) -> tuple[str, ...]:
    return tuple(call.operator for call in one.program.calls)


class Processes:
    """Stands for a pool: in a fresh process, ``torch.sin`` fails once other operators ran in it.

    Args:
        needs: those operators.
        fails: asked with the number of the run whether it fails this time.
    """

    def __init__(self, *needs: str, fails: Callable[[int], bool] = lambda run: True) -> None:
        self.needs = set(needs)
        self.fails = fails
        self.runs = 0
        self.longest: list[int] = []

    def __call__(self, cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        raise AssertionError("no candidate runs where others have left something behind")

    def run(self, jobs: Sequence[Candidate | Run]) -> list[Outcome]:
        return [self._run(job) for job in jobs]

    def _run(self, job: Candidate | Run) -> Outcome:
        assert job.fresh or job.before
        self.longest.append(len(job.before))
        left = {name for one in job.before for name in operators(codec.decode(one.to_json()["case"]))}
        own = codec.decode(job.case)
        if isinstance(job, Candidate):
            own = validated(own, Requirements(job.defined, job.finite))
        shows = "torch.sin" in operators(own) and self.needs <= left
        self.runs += shows
        return Outcome("compared", WRONG if shows and self.fails(self.runs) else None, own)


def sequence(length: int, **others: int) -> list[Case]:
    """So many cases of ``torch.abs``, and others at their places."""
    at = {place: f"torch.{name}" for name, place in others.items()}
    return [case(at.get(place, "torch.abs"), place + 1) for place in range(length)]


@pytest.mark.parametrize("length", [1, 2, 10, 100])
@pytest.mark.parametrize("from_end", [1, 3, 100])
def test_the_one_that_matters_is_left(length: int, from_end: int) -> None:
    place = max(length - from_end, 0)
    pool, told = Processes("torch.cos"), []
    found = minimise_behind(sequence(length, cos=place), case("torch.sin", 0), pool, wanted=WRONG, tell=told.append)
    assert [operators(one) for one in found.before] == [("torch.cos",)]
    assert operators(found.case) == ("torch.sin",)
    assert found.complete
    ends = [event for event in told if isinstance(event, events.Shortening) and event.done]
    assert [(event.cases, event.recorded) for event in ends] == [(1, length)]
    # Ends of 0, 1, 2, 4, ... cases, five runs that measure, then halves: nothing is tried one by one.
    assert ends[0].tries <= 30
    assert found.tries == len(pool.longest)


def test_all_that_matter_are_left_in_their_order() -> None:
    before = sequence(30, cos=3, neg=20, exp=28)
    found = minimise_behind(before, case("torch.sin", 0), Processes("torch.cos", "torch.neg", "torch.exp"), width=4)
    assert [operators(one) for one in found.before] == [("torch.cos",), ("torch.neg",), ("torch.exp",)]
    assert found.failure == WRONG


def test_what_fails_by_itself_in_a_fresh_process_needs_nothing_before_it() -> None:
    pool = Processes()
    found = minimise_behind(sequence(10), case("torch.sin", 0), pool, wanted=WRONG)
    assert (found.before, operators(found.case)) == ((), ("torch.sin",))
    assert max(pool.longest) == 0


@pytest.mark.parametrize("wanted", [WRONG, None])
def test_what_does_not_fail_behind_them_is_told(wanted: Failure | None) -> None:
    with pytest.raises(NotReproduced, match=r"does not fail behind the 10 cases that ran before it \(compared\)"):
        minimise_behind(sequence(10), case("torch.sin", 0), Processes("torch.cos"), wanted=wanted)
    other = replace(WRONG, symptom="NaN lost")
    with pytest.raises(NotReproduced, match=r"it fails otherwise: planted \| value \| wrong value"):
        minimise_behind(sequence(10, cos=4), case("torch.sin", 0), Processes("torch.cos"), wanted=other)


def test_it_ends_with_the_budget_and_when_it_is_told_to() -> None:
    before, last = sequence(64, cos=20), case("torch.sin", 0)
    found = minimise_behind(before, last, Processes("torch.cos"), wanted=WRONG, budget=Budget(60, 14))
    assert not found.complete
    assert 1 < len(found.before) <= 64
    assert before[20] in found.before
    asked = Counter[str]()

    def stop() -> bool:
        asked["stop"] += 1
        return asked["stop"] > 12

    found = minimise_behind(before, last, Processes("torch.cos"), wanted=WRONG, stop=stop)
    assert not found.complete
    assert before[20] in found.before


def test_a_failure_that_comes_every_other_time_is_asked_for_more_often() -> None:
    pool = Processes("torch.cos", fails=lambda run: run % 2 == 0)
    found = minimise_behind(sequence(10, cos=2), case("torch.sin", 0), pool, wanted=WRONG)
    assert [operators(one) for one in found.before] == [("torch.cos",)]
    assert operators(found.case) == ("torch.sin",)


def test_a_sequence_is_read_from_a_findings_folder(tmp_path: Path) -> None:
    before, last = sequence(3), case("torch.sin", 0)
    assert recorded_before(tmp_path, last) == ()
    write_sequence(tmp_path, [one.text for one in (*before, last)])
    assert recorded_before(tmp_path, last) == tuple(before)
    # It is another finding's.
    assert recorded_before(tmp_path, before[0]) == ()
    (tmp_path / "sequence.jsonl").write_text(f"rubbish\n{last.text}\n")
    with pytest.raises(NotReproduced, match="the cases that ran before it cannot be read"):
        recorded_before(tmp_path, last)
    (tmp_path / "sequence.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(NotReproduced, match=r"sequence\.jsonl: cannot be read"):
        recorded_before(tmp_path, last)

"""The search for the first bad candidate, on tables of fake histories."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from shakeout.fuzz.bisect.search import Certainty, Found, Step, Verdict, first_bad

WORDS: dict[str, Verdict] = {"g": "good", "b": "bad", "s": "skip", "i": "infra"}


@dataclass(frozen=True)
class History:
    """Candidates by letter, and what the search shall say of them."""

    name: str
    candidates: str
    first: int | None
    suspects: tuple[int, ...]
    good: int | None


HISTORIES = (
    History("one step", "gb", 1, (1,), 0),
    History("in the middle", "ggggggbbbb", 6, (6,), 5),
    History("only the last is bad", "ggggb", 4, (4,), 3),
    History("the first is bad", "bbbbb", 0, (0,), None),
    History("one candidate, bad", "b", 0, (0,), None),
    History("one candidate, good", "g", None, (), 0),
    History("no candidates", "", None, (), None),
    History("nothing is bad", "gggg", None, (), 3),
    History("nothing can be judged", "ssss", None, (), None),
    History("skips far from the change", "gsgggbbsbb", 5, (5,), 4),
    History("skips around the middle, passed over", "gggsssbbbbbb", None, (3, 4, 5, 6), 2),
    History("skips up to the change", "ggssssssbb", None, (2, 3, 4, 5, 6, 7, 8), 1),
    History("the last cannot be judged", "gggbbs", 3, (3,), 2),
    History("the first cannot be judged", "sggbbb", 3, (3,), 2),
    History("bad after skips alone", "sssbb", None, (0, 1, 2, 3), None),
    History("the machine fails once and again", "ggiibb", None, (2, 3, 4), 1),
)


def asking(history: str) -> tuple[list[tuple[int, int]], object]:
    asked: list[tuple[int, int]] = []

    def test(index: int, times: int) -> list[Verdict]:
        asked.append((index, times))
        return [WORDS[history[index]]] * times

    return asked, test


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.name)
def test_histories(history: History) -> None:
    _, test = asking(history.candidates)
    found = first_bad(len(history.candidates), test)
    assert (found.first, found.suspects, found.good) == (history.first, history.suspects, history.good)
    assert found.complete


@pytest.mark.parametrize("count", range(1, 40))
def test_every_place_is_found_in_few_steps(count: int) -> None:
    for change in range(count):
        asked, test = asking("g" * change + "b" * (count - change))
        found = first_bad(count, test)
        assert found.first == change
        assert len(asked) <= 2 + (count - 1).bit_length()


def test_random_skips_never_mislead() -> None:
    choose = random.Random(0)
    for _ in range(500):
        count = choose.randint(1, 20)
        change = choose.randrange(count)
        letters = ["g" if i < change else "b" for i in range(count)]
        for i in range(count):
            if choose.random() < 0.3:
                letters[i] = "s"
        _, test = asking("".join(letters))
        found = first_bad(count, test)
        if "b" not in letters:
            assert not found.suspects
            continue
        assert change in found.suspects
        assert found.first in (None, change)
        assert all(letters[i] == "s" for i in found.suspects[:-1])


def test_known_verdicts_are_not_asked_again() -> None:
    asked, test = asking("ggbb")
    assert first_bad(4, test, known={3: "bad", 0: "good"}).first == 2
    assert {index for index, _ in asked} == {1, 2}


def flaky(change: int, rate: float, choose: random.Random) -> object:
    def test(index: int, times: int) -> list[Verdict]:
        return ["bad" if index >= change and choose.random() < rate else "good" for _ in range(times)]

    return test


def test_flaky_candidates_run_as_often_as_their_reliability_demands() -> None:
    choose, right, confidences = random.Random(1), 0, []
    for _ in range(300):
        change = choose.randrange(1, 16)
        found = first_bad(16, flaky(change, 0.5, choose), certainty=Certainty(5, 10), known={15: "bad"})
        right += found.first == change
        confidences.append(found.confidence)
        assert all(step.runs >= 3 for step in found.steps)
    assert right / 300 >= 0.8
    # What is printed is what happens.
    assert abs(right / 300 - sum(confidences) / 300) < 0.06


def test_what_always_failed_needs_few_runs_and_what_rarely_fails_many() -> None:
    assert Certainty(5, 5).needed == 2
    assert Certainty(50, 50).needed == 1
    assert Certainty(1, 10).needed > 10
    assert Certainty(0, 100).needed == 20


def test_confidence_is_the_product_over_good_steps() -> None:
    _, test = asking("ggggggbb")
    certainty = Certainty(5, 5)
    found = first_bad(8, test, certainty=certainty)
    expected = 1.0
    for step in found.steps:
        if step.verdict == "good":
            expected *= certainty.of_good(step.runs)
    assert found.confidence == pytest.approx(expected)
    assert 0.9 < found.confidence < 1


def test_a_run_that_the_machine_lost_is_made_once_more() -> None:
    asked: list[int] = []

    def test(index: int, times: int) -> Sequence[Verdict]:
        asked.append(index)
        if index == 1 and asked.count(1) == 1:
            return ["infra"] * times
        return ["good" if index < 2 else "bad"] * times

    assert first_bad(4, test).first == 2
    assert asked.count(1) == 2


def test_stopped_in_the_middle_it_says_what_it_knows() -> None:
    steps: list[Step] = []
    _, test = asking("g" * 10 + "b" * 10)
    found: Found = first_bad(20, test, tell=steps.append, stop=lambda: len(steps) >= 3)
    assert not found.complete
    assert found.first is None
    assert 10 in found.suspects
    assert len(found.suspects) < 20

"""Choices: where every decision comes from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakeout.generators.choices import ByteChoices, Choices, SeededChoices
from shakeout.generators.strategies import DrawnChoices


def drawn(choices: Choices) -> list[object]:
    return [
        choices.integer(-3, 3),
        choices.fraction(),
        choices.boolean(0.5),
        choices.pick("abc"),
        choices.weighted((("x", 1), ("y", 3))),
    ]


def test_a_seed_always_gives_the_same_decisions() -> None:
    assert [drawn(SeededChoices(7)) for _ in range(3)] == [drawn(SeededChoices(7))] * 3
    # The very numbers: a new version of Python or of this file must not change what old seeds mean.
    choices = SeededChoices(1)
    assert [choices.integer(0, 99) for _ in range(6)] == [13, 84, 76, 25, 49, 44]


def test_different_seeds_give_different_decisions() -> None:
    assert len({tuple(map(str, drawn(SeededChoices(seed)))) for seed in range(50)}) > 40


@given(st.binary(max_size=40), st.integers(-50, 50), st.integers(0, 1000))
def test_bytes_give_numbers_of_the_range(data: bytes, low: int, span: int) -> None:
    choices = ByteChoices(data)
    assert all(low <= choices.integer(low, low + span) <= low + span for _ in range(20))


def test_bytes_that_are_used_up_go_on_as_zeros_which_draw_the_simplest() -> None:
    choices = ByteChoices(b"\xff")
    assert not choices.exhausted
    choices.integer(0, 255)
    assert drawn(choices) == [-3, 0.0, False, "a", "x"]
    assert choices.exhausted


def test_every_byte_counts() -> None:
    assert {ByteChoices(bytes([byte])).integer(0, 9) for byte in range(256)} == set(range(10))


@given(st.data())
def test_hypothesis_makes_decisions(data: st.DataObject) -> None:
    number, fraction, flag, letter, word = drawn(DrawnChoices(data.draw))
    assert -3 <= number <= 3
    assert 0 <= fraction < 1
    assert flag in (False, True)
    assert letter in "abc"
    assert word in "xy"


@pytest.mark.parametrize("choices", [SeededChoices(0), ByteChoices(b"")])
def test_nothing_to_choose_from(choices: Choices) -> None:
    with pytest.raises(ValueError, match="between 3 and 2"):
        choices.integer(3, 2)
    with pytest.raises(ValueError, match="nothing to pick"):
        choices.pick([])
    with pytest.raises(ValueError, match="positive weight"):
        choices.weighted((("a", 0),))


def test_certain_answers_draw_nothing() -> None:
    choices = ByteChoices(b"\xff\xff")
    assert not choices.boolean(0)
    assert choices.boolean(1)
    assert choices.integer(0, 255) == 255


def test_probabilities_and_weights_hold() -> None:
    choices = SeededChoices(3)
    assert 230 < sum(choices.boolean(0.25) for _ in range(1000)) < 270
    assert 700 < sum(choices.weighted((("a", 1), ("b", 3))) == "b" for _ in range(1000)) < 800

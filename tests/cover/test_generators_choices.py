"""Choices: where every decision comes from."""

import pytest

from shakeout.generators.choices import Choices, SeededChoices


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


def test_nothing_to_choose_from() -> None:
    choices = SeededChoices(0)
    with pytest.raises(ValueError, match="between 3 and 2"):
        choices.integer(3, 2)
    with pytest.raises(ValueError, match="nothing to pick"):
        choices.pick([])
    with pytest.raises(ValueError, match="positive weight"):
        choices.weighted((("a", 0),))


def test_certain_answers_draw_nothing() -> None:
    choices, untouched = SeededChoices(5), SeededChoices(5)
    assert not choices.boolean(0)
    assert choices.boolean(1)
    assert choices.integer(0, 255) == untouched.integer(0, 255)


def test_probabilities_and_weights_hold() -> None:
    choices = SeededChoices(3)
    assert 230 < sum(choices.boolean(0.25) for _ in range(1000)) < 270
    assert 700 < sum(choices.weighted((("a", 1), ("b", 3))) == "b" for _ in range(1000)) < 800

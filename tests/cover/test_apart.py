"""Work of benchmarks in children."""

import os

from tests.benchmarks.apart import each


def square(item: int) -> list[int]:
    if item in (0, 3, 4):
        os._exit(item)  # a child that leaves before its work is done has died of it, whatever it says
    print("noise that must not be taken for an answer")
    return [item * item]


def test_a_crash_costs_one_item_and_is_told() -> None:
    assert list(each(square, [1, 2, 3, 4, 5])) == [(1, [1]), (2, [4]), (3, None), (4, None), (5, [25])]
    assert list(each(square, [0, 1])) == [(0, None), (1, [1])]
    assert list(each(square, [])) == []

"""The derived time limit."""

from shakeout.fuzz.workers.timing import ENOUGH, FIRST, LEAST, WINDOW, TimeLimits


def test_before_enough_is_known() -> None:
    limits = TimeLimits()
    for _ in range(ENOUGH - 1):
        limits.add("inductor", 0.1)
    assert limits.limit("inductor") == FIRST
    limits.add("inductor", 0.1)
    assert (limits.limit("inductor"), limits.limit("aot_eager")) == (LEAST, FIRST)


def test_it_follows_the_slow_cases_but_not_the_slowest() -> None:
    limits = TimeLimits()
    for number in range(100):
        limits.add("inductor", 500.0 if number == 50 else 4.0)
    assert limits.limit("inductor") == 40.0


def test_it_forgets() -> None:
    limits = TimeLimits()
    for _ in range(WINDOW):
        limits.add("inductor", 30.0)
    assert limits.limit("inductor") == 300.0
    for _ in range(WINDOW):
        limits.add("inductor", 0.1)
    assert limits.limit("inductor") == LEAST


def test_a_fixed_one() -> None:
    limits = TimeLimits(2.5)
    for _ in range(ENOUGH):
        limits.add("inductor", 30.0)
    assert limits.limit("inductor") == 2.5


def test_a_case_is_suspected_sooner_than_it_is_ended() -> None:
    limits = TimeLimits()
    assert limits.overdue("k") == LEAST
    limits.add("k", 0.5)
    assert limits.overdue("k") == 10 * 0.5
    assert limits.limit("k") == FIRST

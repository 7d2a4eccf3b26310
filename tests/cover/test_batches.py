"""When kernels are compiled: as soon as there are enough, or as soon as cores really have nothing to do."""

import os
from collections.abc import Collection

import pytest

from shakeout.targets.batches import (
    ENOUGH,
    IDLE_SECONDS,
    LARGEST,
    LEAST,
    OLDEST_SECONDS,
    QUIET_SECONDS,
    Idleness,
    due,
    idle_ticks,
)


def waiting(count: int, seconds: float = 1.0) -> list[float]:
    return [seconds] * count


def test_what_is_worth_a_compiler_is_compiled_though_all_cores_are_busy() -> None:
    assert due(waiting(ENOUGH), enough=ENOUGH, idle=0, at_work=16) == ENOUGH
    assert due(waiting(100), enough=ENOUGH, idle=0, at_work=16) == LARGEST
    assert due(waiting(2), enough=ENOUGH, idle=0, at_work=16, largest=1) == 1
    assert due([], enough=ENOUGH, idle=16, at_work=0, quiet=100.0) == 0


@pytest.mark.parametrize("seconds", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("at_work", [0, 1, 15, 16])
def test_no_small_batch_takes_the_cores_from_those_who_would_make_it_larger(seconds: float, at_work: int) -> None:
    for count in range(1, ENOUGH):
        assert due(waiting(count, seconds), enough=ENOUGH, idle=0, at_work=at_work) == 0


def test_idle_cores_divide_what_waits() -> None:
    assert due(waiting(11), enough=ENOUGH, idle=1, at_work=3) == 11
    assert due(waiting(11), enough=ENOUGH, idle=2, at_work=3) == 6
    assert due(waiting(11), enough=ENOUGH, idle=16, at_work=3) == LEAST


def test_a_few_wait_for_whoever_is_at_work_and_for_nobody_else() -> None:
    few = waiting(LEAST - 1)
    assert due(few, enough=ENOUGH, idle=4, at_work=1) == 0
    assert due(few, enough=ENOUGH, idle=4, at_work=0) == LEAST - 1
    assert due(few, enough=ENOUGH, idle=0, at_work=0, quiet=QUIET_SECONDS + 0.1) == LEAST - 1
    assert due([OLDEST_SECONDS + 0.1, 0.0], enough=ENOUGH, idle=0, at_work=16) == 2


class Clock:
    """Cores of which some are idle from now on."""

    def __init__(self, cores: int) -> None:
        self.now, self._cores, self._idle = 100.0, cores, 0.0

    def pass_by(self, seconds: float, idle: float) -> None:
        self.now += seconds
        self._idle += seconds * idle

    def ticks(self, cores: Collection[int]) -> tuple[int, int]:
        assert len(cores) == self._cores
        return round(100 * self._idle), round(100 * self.now * self._cores)


def test_a_core_is_idle_that_was_so_for_a_while() -> None:
    clock = Clock(4)
    idleness = Idleness(frozenset(range(4)), clock.ticks)
    idleness.look(clock.now, begin=True)
    assert idleness.idle == 0, "nothing is known yet"
    clock.pass_by(IDLE_SECONDS / 2, 4)
    idleness.look(clock.now)
    assert idleness.idle == 0, "it may be a pause between two jobs"
    clock.pass_by(IDLE_SECONDS / 2, 0)
    idleness.look(clock.now)
    assert idleness.idle == 2
    clock.pass_by(IDLE_SECONDS, 0.3)
    idleness.look(clock.now)
    assert idleness.idle == 0, "pauses between jobs"
    clock.pass_by(IDLE_SECONDS, 3.9)
    idleness.look(clock.now)
    assert idleness.idle == 4
    clock.pass_by(100, 4)
    idleness.look(clock.now, begin=True)
    assert idleness.idle == 0, "nobody wanted anything compiled"


def test_where_the_system_does_not_tell_all_cores_count_as_idle() -> None:
    def broken(cores: Collection[int]) -> tuple[int, int]:
        raise OSError

    for ticks in (broken, lambda cores: (0, 0)):
        idleness = Idleness(frozenset(range(4)), ticks)
        idleness.look(1.0, begin=True)
        idleness.look(1.0 + IDLE_SECONDS)
        assert idleness.idle == 4


def test_the_system_tells_what_the_cores_did() -> None:
    idle, total = idle_ticks(os.sched_getaffinity(0))
    assert 0 <= idle <= total
    assert idle_ticks([]) == (0, 0)
    assert total > 0

"""Slots: what a worker wrote last is there after its death, whatever it was doing."""

import os
import signal
import time
from pathlib import Path

import pytest

from shakeout.fuzz.ground.slot import SIZE, Slot, Watch, read


def test_a_job_from_start_to_end(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "slot")
    assert (watch.look().job, watch.read().kind) == (-1, "")
    slot = Slot(tmp_path / "slot")
    slot.begin(7, '{"index": 7}')
    before = watch.look()
    assert (before.job, before.phase, before.kind) == (7, "start", "")
    assert time.monotonic() - before.began < 5
    assert (watch.read().kind, watch.read().text) == ("job", '{"index": 7}')
    slot.phase("grow")
    slot.trace("torch.add(x0)")
    slot.trace("torch.mul(\nv1)")
    state = watch.read()
    assert (state.phase, state.kind, state.text) == ("grow", "trace", '{"index": 7}\ntorch.add(x0)\ntorch.mul( v1)')
    assert state.since >= before.since
    slot.case("{}")
    slot.phase("run")
    assert watch.read() == read(tmp_path / "slot")
    assert (watch.read().kind, watch.read().text, watch.read().phase) == ("case", "{}", "run")
    slot.end()
    assert watch.look().phase == ""
    slot.close()
    watch.close()


def test_a_long_text_makes_the_file_grow(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "slot")
    text = "x" * (3 * SIZE)
    slot.begin(1, "job")
    slot.case(text)
    assert read(tmp_path / "slot").text == text
    slot.begin(2, "short")
    assert read(tmp_path / "slot").text == "short"
    slot.close()


def test_a_text_that_is_being_written_is_not_taken(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "slot")
    slot.begin(1, "job")
    slot._sequence += 1
    slot._put()
    state = read(tmp_path / "slot")
    assert (state.job, state.kind, state.text) == (1, "", "")
    slot.close()


def test_it_is_allocated(tmp_path: Path) -> None:
    # A hole would be a bus error on a full disk, in the middle of a case.
    Slot(tmp_path / "slot").close()
    assert (tmp_path / "slot").stat().st_blocks * 512 >= SIZE


def test_a_full_disk_is_an_error_and_not_a_signal(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        Slot(small_disk / "slot")


def test_it_outlives_the_writer(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        slot = Slot(tmp_path / "slot")
        slot.begin(3, "job")
        slot.case("the case")
        slot.phase("run")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    state = read(tmp_path / "slot")
    assert (state.job, state.phase, state.kind, state.text) == (3, "run", "case", "the case")


def test_reading_while_it_is_written_gives_whole_texts(tmp_path: Path) -> None:
    texts = {"a" * 5000, "b" * 70000}
    Slot(tmp_path / "slot").close()
    pid = os.fork()
    if pid == 0:
        slot = Slot(tmp_path / "slot")
        while True:
            for text in sorted(texts):
                slot.begin(1, text)
    try:
        began = time.monotonic()
        seen: set[str] = set()
        # Half a second; on a busy machine until the writer had its turn.
        while (spent := time.monotonic() - began) < 0.5 or (seen < texts and spent < 30):
            state = read(tmp_path / "slot")
            if state.kind:
                seen.add(state.text)
        assert seen == texts
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_writing_takes_microseconds(tmp_path: Path) -> None:
    slot = Slot(tmp_path / "slot")
    began = time.perf_counter()
    for number in range(1000):
        slot.begin(number, "x" * 2000)
        slot.case("y" * 4000)
        slot.phase("run")
        slot.end()
    # A new file for each case takes longer than this by far; the bound only shows that nothing is synchronised.
    assert time.perf_counter() - began < 2
    slot.close()

"""Kernels of Inductor under sanitizers, without building one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from shakeout.corpus.capture import capture
from shakeout.corpus.case import SANITIZE, Case, Setting
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.bisect import trials as parts
from shakeout.fuzz.cli import main
from shakeout.fuzz.commands.minimise import minimise_all_command
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.minimise import executors as candidates
from shakeout.fuzz.minimise.search import Budget
from shakeout.fuzz.running.compose import drawn_knobs
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.triage.replay_bugs import Item, replay
from shakeout.fuzz.workers import pool
from shakeout.fuzz.workers.zygote_client import ZygoteBroken, ZygoteClient
from shakeout.generators.choices import SeededChoices
from shakeout.targets.dynamo import INDUCTOR
from shakeout.targets.sanitizers import process_environment, runtime, sanitized, told

REPORT = """=================================================================
==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x6110001b0154 at pc 0x7fa5c74b7c83 bp 0x7f sp 0x7f
READ of size 4 at 0x6110001b0154 thread T0
    #0 0x7fa5c74b7c82 in kernel /tmp/main.cpp:14
"""


def case(kind: str) -> Case:
    setting = Setting("inductor", ((SANITIZE, kind),))
    return capture(lambda x: torch.sin(x) + 1, lambda: [torch.arange(37.0)], setting=setting)


def test_undefined_behaviour_is_reported_in_any_process(capfd: pytest.CaptureFixture[str]) -> None:
    with sanitized("undefined"):
        os.write(2, b"only a warning\n")
    with pytest.raises(Exception, match="index 2 out of bounds"), sanitized("undefined"):  # noqa: PT012
        from torch._inductor import cpp_builder

        flags, _ = cpp_builder._get_optimization_cflags("g++")
        assert {"fsanitize=undefined", "fno-sanitize=signed-integer-overflow,shift,vptr"} <= set(flags)
        os.write(2, b"main.cpp:6:35: runtime error: index 2 out of bounds for type 'int [2]'\n")
    assert "only a warning" in capfd.readouterr().err, "what was said is said"
    assert not any("sanitize" in flag for flag in cpp_builder._get_optimization_cflags("g++")[0])


def test_a_worker_without_the_runtime_declines() -> None:
    result = execute(case("address"))
    assert result.status == "unsupported"
    assert "has to be there when the process starts" in result.reason


def test_the_first_line_of_a_report_is_the_same_for_the_same_error() -> None:
    assert told(REPORT).splitlines()[0] == "AddressSanitizer: heap-buffer-overflow: READ of size 4"
    assert told("a.cpp:6:35: runtime error: division by zero\n").splitlines()[0] == "division by zero"


def test_a_sanitizer_is_pinned_and_not_drawn() -> None:
    drawn = [dict(drawn_knobs(SeededChoices(seed), INDUCTOR.knobs(), {}, 1.0, 1)[0]) for seed in range(300)]
    assert all(SANITIZE not in knobs for knobs in drawn)
    pinned = drawn_knobs(SeededChoices(1), INDUCTOR.knobs(), {SANITIZE: "undefined"}, 0.0, 1)[0]
    assert dict(pinned)[SANITIZE] == "undefined"


def test_only_the_address_sanitizer_needs_an_environment() -> None:
    assert process_environment(None) == process_environment("undefined") == {}
    if runtime("libasan.so"):
        assert set(process_environment("address")) == {"LD_PRELOAD", "ASAN_OPTIONS"}


# --- pools ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environments in which zygotes would have been started; none is."""
    found: list[dict[str, str]] = []

    class Unstarted(ZygoteClient):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            found.append(dict(arguments[-1]))

        def start(self, stop: object, slow: object) -> None:
            raise ZygoteBroken("not in this test")

    monkeypatch.setattr(pool, "ZygoteClient", Unstarted)
    return found


def stored(directory: Path, *cases: Case) -> Path:
    """A campaign that has found these cases."""
    directory.mkdir()
    with Database.create(directory / NAME) as database, database.transaction():
        for one in cases:
            target = one.setting.target
            result = {"target": target, "status": "compared", "stage": "", "verdicts": [], "operators": ["torch.sin"]}
            shown = {"target": target, "oracle": "value", "symptom": "wrong value", "title": "", "signature": one.id}
            database.add_finding(**shown, job=0, case_id=one.id, case_json=one.text, result=result, state="confirmed")
    return directory


def minimised(directory: Path, *cases: Case) -> None:
    arguments: dict[str, Any] = {"budget": Budget(1, 1), "workers": 1, "memory": 1 << 30, "plain": True}
    minimise_all_command(stored(directory, *cases), console=Console(quiet=True), **arguments)


def alone(directory: Path, *cases: Case) -> None:
    for one in cases:
        directory.mkdir(exist_ok=True)
        (directory / "case.json").write_text(one.text)
        for command in ("minimise", "bisect"):
            assert main([command, str(directory / "case.json"), "--plain"]) == Exit.INFRASTRUCTURE


def shipped_ones(directory: Path, *cases: Case) -> None:
    for one in cases:
        for kind in (candidates.CandidatePool, parts.TrialPool):
            with pytest.raises(ZygoteBroken), kind(directory, one.setting, 1):
                pass


@pytest.mark.parametrize("way", [minimised, alone, shipped_ones], ids=lambda way: way.__name__)
def test_every_pool_has_what_the_sanitizer_of_its_cases_needs(
    way: Callable[..., None], given: list[dict[str, str]], tmp_path: Path
) -> None:
    wanted = process_environment("address")
    if not wanted:
        pytest.skip("the compiler has no AddressSanitizer")
    plain = capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("inductor"))
    way(tmp_path / "pools", case("address"), plain)
    preloading = [wanted.items() <= one.items() for one in given]
    half = len(preloading) // 2
    assert half > 0
    assert preloading == [True] * half + [False] * half, "and those of other cases do not run beneath it"


def test_replay_gives_each_case_workers_that_suit_its_sanitizer(
    given: list[dict[str, str]],
) -> None:
    wanted = process_environment("address")
    if not wanted:
        pytest.skip("the compiler has no AddressSanitizer")
    plain = capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("inductor"))
    for one in (case("address"), plain):
        with pytest.raises(ZygoteBroken):
            replay([Item("bug", one.id, "", one)], workers=1, memory=1 << 30)
    assert [wanted.items() <= one.items() for one in given] == [True, False]


@pytest.mark.exhaustive
def test_a_case_under_the_address_sanitizer_runs_again() -> None:
    if not runtime("libasan.so"):
        pytest.skip("the compiler has no AddressSanitizer")
    items = [Item("bug", "checked", "", case("address")), Item("bug", "plain", "", case("undefined"))]
    rows = replay(items, workers=1, memory=4 << 30, runs=1)
    assert [(row.item.id, row.verdict, row.note) for row in rows] == [("checked", "fixed", ""), ("plain", "fixed", "")]

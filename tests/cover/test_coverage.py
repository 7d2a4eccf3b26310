"""What coverage reports, and what becomes of it where it cannot be had: hits, logs, lists of blocks, the campaign."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.ledger import Accounts
from shakeout.fuzz.campaign.seeds import Seeds
from shakeout.fuzz.campaign.traces import TraceLog
from shakeout.fuzz.cli import main
from shakeout.fuzz.coverage import native, traps
from shakeout.fuzz.coverage.blocks import BlockLists, Disassembler
from shakeout.fuzz.coverage.hits import Hits, pack, unpack
from shakeout.fuzz.coverage.log import NAME as LOG
from shakeout.fuzz.coverage.log import Coverage, CoverageLog, Follower, read_coverage
from shakeout.fuzz.coverage.source import FOREIGN
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Answer, Loss, Reply, Result
from shakeout.fuzz.ground.slot import SlotState
from shakeout.fuzz.workers.timing import TimeLimits


def hits(functions: tuple[int, ...], blocks: tuple[int, ...] = (), library: str = "ab12") -> Hits:
    return Hits(library, "libmine.so", 40, functions, blocks)


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [(), (0,), (5, 6, 7), (0, 1 << 31, (1 << 32) - 1), tuple(range(0, 900_000, 9))])
def test_places_are_read_as_they_were_packed(places: tuple[int, ...]) -> None:
    assert unpack(pack(places)) == places
    assert len(pack(places)) < 80 + 2 * len(places)


@pytest.mark.parametrize("text", ["x", "AAAA", pack((1, 2, 3))[:-8], pack(((1 << 32) - 1, (1 << 32) + 5))])
def test_what_is_no_list_of_places_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="list of places"):
        unpack(text)


def test_a_reply_carries_hits() -> None:
    reply = Reply(serial=3, coverage=(hits((4, 9), (12,)), hits((), (7,), "cd34")))
    assert Reply.from_json(json.loads(json.dumps(reply.to_json()))) == reply


# --- the log ------------------------------------------------------------------------------------------------------


def test_only_what_is_new_is_written_also_after_the_campaign_goes_on(tmp_path: Path) -> None:
    with CoverageLog(tmp_path) as log:
        assert not (tmp_path / LOG).exists()
        assert log.add([hits((4, 9))], case=1, target="t", seconds=10) == 2
        assert log.add([hits((4, 9), (12,))], case=2, target="t", seconds=20) == 1
        assert log.add([hits((9,), (12,))], case=3, target="t", seconds=30) == 0
    with (tmp_path / LOG).open("a") as file:
        file.write('{"library": "ab12", "functions": "cut o')  # by a kill
    with CoverageLog(tmp_path) as log:
        assert log.add([hits((4, 11), (12, 13))], case=4, target="t", seconds=40) == 2
    found = read_coverage(tmp_path)
    assert found.curve == ((10, 2, 0), (20, 2, 1), (40, 3, 2))
    assert found.lines()[0] == "coverage: 5 blocks of 3 functions, 40 watched"
    assert found.lines()[-1] == "over time: 10 s 2, 20 s 3, 30 s 3, 40 s 5"
    assert Coverage().lines() == ()


def test_who_reads_along_gets_each_whole_line_once(tmp_path: Path) -> None:
    follower = Follower(tmp_path / LOG)
    assert list(follower.rows()) == []
    with CoverageLog(tmp_path) as log:
        log.add([hits((4,))], case=1, target="t", seconds=1)
        assert [row.functions for row in follower.rows()] == [(4,)]
        with (tmp_path / LOG).open("a") as file:
            file.write('{"half": ')
        assert list(follower.rows()) == []
        with (tmp_path / LOG).open("a") as file:
            file.write("\n")
        log.add([hits((4, 5))], case=2, target="t", seconds=2)
        assert [row.functions for row in follower.rows()] == [(5,)]


def test_a_library_that_no_case_reached_is_named(tmp_path: Path) -> None:
    with CoverageLog(tmp_path) as log:
        log.add([hits((4,))], case=1, target="t", seconds=1)
    lines = read_coverage(tmp_path).lines(("libmine.so", "/opt/libelse.so"))
    assert [line for line in lines if "was it loaded" in line] == [
        "/opt/libelse.so: no case reached anything of it; was it loaded?"
    ]


# --- blocks -------------------------------------------------------------------------------------------------------

#: test edi, edi; je +3; xor eax, eax; ret; mov eax, edi; ret
BRANCH = bytes.fromhex("85ff 7403 31c0 c3 89f8 c3")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (BRANCH, (0x1004, 0x1007)),
        (bytes.fromhex("85ff 7402 31c0 c3 89f8 c3"), (0x1004, 0x1006)),  # into the ret: a block as well
        (bytes.fromhex("85ff 7401 31c0 c3 89f8 c3"), None),  # into the middle of the xor
        (bytes.fromhex("85ff 7403 31c0 c3 06"), None),  # a byte that is no instruction
        (bytes.fromhex("85ff 7403 31c0 c3 89"), None),  # an instruction that is cut off
        (bytes.fromhex("488d05 01000000 c3 90909090"), None),  # lea of a byte of its own
        (bytes.fromhex("ffe0 7402 9090"), ()),  # what lies behind an indirect jump is reached by nobody known
        (bytes.fromhex("e800000000"), ()),  # a call that does not return
        (bytes.fromhex("eb7f"), ()),  # out of the function
    ],
)
def test_blocks_are_found_where_they_are_certain(code: bytes, expected: tuple[int, ...] | None) -> None:
    assert Disassembler().blocks(code, 0x1000) == expected


def test_lists_of_blocks_are_kept_and_those_that_do_not_fit_are_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = BlockLists(tmp_path, "ab12")
    assert lists.of(0x1000, BRANCH) == (0x1004, 0x1007)
    lists.keep()
    (path,) = tmp_path.iterdir()

    def fresh() -> BlockLists:
        made = BlockLists(tmp_path, "ab12")
        made.follow()
        return made

    asked: list[int] = []
    found = Disassembler.blocks

    def count(self: Disassembler, code: bytes, start: int) -> Any:
        asked.append(start)
        return found(self, code, start)

    monkeypatch.setattr(Disassembler, "blocks", count)
    assert fresh().of(0x1000, BRANCH) == (0x1004, 0x1007)
    assert asked == []
    # Another function at that place, as another build of the library would have it.
    other = bytes.fromhex("85ff 7402 31c0 c3 89f8 c3")
    assert fresh().of(0x1000, other) == (0x1004, 0x1006)
    assert asked == [0x1000]
    # A digit changed on the disk, and a line that was cut off.
    path.write_text(path.read_text().replace("[4,3]", "[4,2]") + "[4096,[1")
    assert fresh().of(0x1000, BRANCH) == (0x1004, 0x1007)
    assert asked == [0x1000, 0x1000]
    again = fresh()
    again.of(0x1000, BRANCH)
    again.keep()
    assert fresh().of(0x1000, BRANCH) == (0x1004, 0x1007)
    assert len(asked) == 3


# --- where it cannot be had ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"platform.machine": lambda: "aarch64"}, "this is Linux on aarch64"),
        ({"_tracer": lambda: 77}, "a debugger (process 77) is attached"),
        ({"shutil.which": lambda name: None, "cache.directory": lambda: Path("/nowhere")}, "install g++"),
    ],
)
def test_a_source_that_is_not_available_says_so_once(
    change: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    for name, value in change.items():
        monkeypatch.setattr(f"shakeout.fuzz.coverage.traps.{name}", value)
    monkeypatch.setattr(native, "traps", traps.traps.__wrapped__)
    source = native.NativeSource(["libtorch_python.so"])
    (told,) = source.arm()
    assert said in told.reason
    assert source.arm() == ()
    source.settle(1)
    source.before_fork()
    assert source.take() == ()


def test_no_breakpoint_of_coverage_becomes_a_finding(tmp_path: Path) -> None:
    """A case that runs with SIGTRAP blocked ends of it; what traps by itself is a crash like any other."""

    class Told:
        remembered = ()
        found: list[Any] = []  # noqa: RUF012

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    with Database.create(tmp_path / NAME) as database, TraceLog(tmp_path) as traces:
        accounts = Accounts(database, traces, CoverageLog(tmp_path), deque())
        seeds = Seeds(
            Config(targets=("tvm",), coverage=True), database, accounts, Told(), TimeLimits(None), lambda event: None
        )
        job = Grow(target="tvm", number=0, seed=1)
        with database.transaction():
            seeds.done(Answer(job, 1, loss=Loss("crash", "SIGTRAP", SlotState(0, 0.0, "run", 0.0), 1.0)))
        ((target, reason, count),) = database.reasons("infra")
        assert (target, count) == ("tvm", 1)
        assert "without --coverage" in reason
        foreign = Loss("crash", "SIGTRAP", SlotState(0, 0.0, "grow", 0.0), 1.0, FOREIGN)
        with database.transaction():
            seeds.done(Answer(job, 1, loss=foreign))
        # As of any crash while growing, it is asked for once more with each call written down.
        again = seeds.next()
        assert isinstance(again, Grow)
        assert again.traced


def test_what_is_watched_is_what_targets_and_people_name() -> None:
    config = Config(targets=("tvm", "eager"), coverage=True, cover=("libmine.so",))
    assert config.libraries == ("libmine.so", "libtvm*.so", "libtorch_cpu.so", "libtorch_python.so")
    assert Config(targets=("tvm",)).libraries == ()
    assert Config(targets=("tvm",), cover=("libmine.so",)).libraries == ("libmine.so",)


def test_a_file_that_is_not_there_is_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "--target", "eager", "--cover", str(tmp_path / "libno.so")]) == Exit.USAGE
    assert "--cover: there is no file" in capsys.readouterr().err


def test_status_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Database.create(tmp_path / NAME) as database, TraceLog(tmp_path) as traces, CoverageLog(tmp_path) as log:
        accounts = Accounts(database, traces, log, untold := deque())
        with database.transaction():
            reply = Reply(coverage=(hits((4, 9), (12,)),))
            accounts.count(Answer(Grow(target="tvm", number=0, seed=1), 0, reply), Result("c", "tvm", "compared"))
    assert untold[-1].reached == 3
    assert main(["status", str(tmp_path)]) == Exit.OK
    assert "coverage: 3 blocks of 2 functions, 40 watched" in capsys.readouterr().out
    assert main(["status", "--json", str(tmp_path)]) == Exit.OK
    told = json.loads(capsys.readouterr().out)["coverage"]
    assert told["libraries"] == {"libmine.so": {"of": 40, "functions": 2, "blocks": 1}}
    assert told["curve"] == [{"seconds": 0.0, "functions": 2, "blocks": 1}]

"""What coverage reports, and what becomes of it where it cannot be had: hits, logs, lists of blocks, the campaign."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.program import Call, Input, Program, Ref, Region, TensorType
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.campaign.ledger import Ledger
from shakeout.fuzz.campaign.seeds import Seeds
from shakeout.fuzz.campaign.selftest import case
from shakeout.fuzz.campaign.traces import TraceLog
from shakeout.fuzz.cli import main
from shakeout.fuzz.coverage import native, space, traps
from shakeout.fuzz.coverage.blocks import BlockLists, Disassembler
from shakeout.fuzz.coverage.hits import Hits, by_source, pack, unpack
from shakeout.fuzz.coverage.log import NAME as LOG
from shakeout.fuzz.coverage.log import CoverageLog, Follower
from shakeout.fuzz.coverage.source import FOREIGN
from shakeout.fuzz.coverage.sources import Sources, Wanted
from shakeout.fuzz.coverage.space import SpaceSource, features
from shakeout.fuzz.coverage.summary import Coverage, read_coverage
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Answer, Loss, Reply, Result
from shakeout.fuzz.ground.slot import SlotState
from shakeout.fuzz.workers.timing import TimeLimits

FLOAT = TensorType("float32", (2, 3))


def hits(functions: tuple[int, ...], unit: str = "ab12") -> Hits:
    return Hits("native", unit, "libmine.so", "functions", functions, 40)


def blocks(places: tuple[int, ...]) -> Hits:
    return Hits("native", "ab12", "libmine.so", "blocks", places)


def told(log: CoverageLog, every: list[Hits], case: int) -> dict[str, int]:
    return by_source(log.add(every, case=case, target="t", seconds=10 * case))


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
    words = Hits("passes", "", "", "patterns", ("mm", "ä"), exist=("mm", "pad_mm"))
    reply = Reply(serial=3, coverage=(hits((4, 9)), blocks((12,)), hits((7,), "cd34"), words))
    assert Reply.from_json(json.loads(json.dumps(reply.to_json()))) == reply


# --- the log ------------------------------------------------------------------------------------------------------


def test_features_are_numbers_of_their_own() -> None:
    words = Hits("space", "", "", "dtypes", ("float32", "int8"))
    every = [hits((4, 9)), hits((4, 9), "cd34"), blocks((4, 9)), words, replace(words, kind="layouts")]
    numbers = [list(one.features()) for one in every]
    assert len({number for some in numbers for number in some}) == 10
    assert all(0 <= number < 1 << 64 for some in numbers for number in some)
    assert list(hits((9,)).features()) == numbers[0][1:]  # the same wherever it is told


def test_only_what_is_new_is_written_also_after_the_campaign_goes_on(tmp_path: Path) -> None:
    patterns = Hits("passes", "", "", "patterns", ("mm",), exist=("mm", "pad_mm"))
    with CoverageLog(tmp_path) as log:
        assert not (tmp_path / LOG).exists()
        assert told(log, [hits((4, 9))], 1) == {"native": 2}
        assert told(log, [hits((4, 9)), blocks((12,)), patterns], 2) == {"native": 1, "passes": 1}
        assert told(log, [hits((9,)), blocks((12,)), patterns], 3) == {}
    with (tmp_path / LOG).open("a") as file:
        file.write('{"source": "native", "unit": "cut o')  # by a kill
    with CoverageLog(tmp_path) as log:
        assert told(log, [hits((4, 11)), blocks((12, 13)), replace(patterns, exist=("late",))], 4) == {"native": 2}
    found = read_coverage(tmp_path)
    rows = [(seconds, dict(by)) for seconds, by in found.curve]
    assert rows[0] == (10, {"native": 2})
    assert rows[-1] == (40, {"native": 5, "passes": 1})
    assert found.lines() == (
        "coverage, native: 3 of 40 functions, 2 blocks",
        "coverage, passes: 1 of 3 patterns",
        "  never: 2 patterns: late, pad_mm",
        "native, over time: 10 s 2, 20 s 3, 30 s 3, 40 s 5",
        "passes, over time: 10 s 0, 20 s 1, 30 s 1, 40 s 1",
    )
    assert Coverage().lines() == ()


def test_who_reads_along_gets_each_whole_line_once(tmp_path: Path) -> None:
    follower = Follower(tmp_path / LOG)
    assert list(follower.rows()) == []
    with CoverageLog(tmp_path) as log:
        log.add([hits((4,))], case=1, target="t", seconds=1)
        assert [row.keys for row in follower.rows()] == [(4,)]
        with (tmp_path / LOG).open("a") as file:
            file.write('{"half": ')
        assert list(follower.rows()) == []
        with (tmp_path / LOG).open("a") as file:
            file.write("\n")
        log.add([hits((4, 5))], case=2, target="t", seconds=2)
        assert [row.keys for row in follower.rows()] == [(5,)]


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
    source.look_closer(1)
    source.before_fork(())
    assert source.take() == ()


def test_no_breakpoint_of_coverage_becomes_a_finding(tmp_path: Path) -> None:
    """A case that runs with SIGTRAP blocked ends of it; what traps by itself is a crash like any other."""

    class Told:
        remembered = ()
        found: list[Any] = []  # noqa: RUF012

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    with Database.create(tmp_path / NAME) as database, TraceLog(tmp_path) as traces:
        ledger = Ledger(database, traces, CoverageLog(tmp_path), deque())
        seeds = Seeds(
            Config(targets=("tvm",), coverage=True), database, ledger, Told(), TimeLimits(None), lambda event: None
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
    assert config.watched.libraries == ("libmine.so", "libtvm*.so", "libtorch_cpu.so", "libtorch_python.so")
    assert config.watched.space
    assert not Config(targets=("tvm",)).watched
    assert Config(targets=("tvm",), cover=("libmine.so",)).watched == Wanted(libraries=("libmine.so",))


def test_a_file_that_is_not_there_is_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["run", "--target", "eager", "--cover", str(tmp_path / "libno.so")]) == Exit.USAGE
    assert "--cover: there is no file" in capsys.readouterr().err


def test_a_report_of_nothing_is_a_mistake(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shakeout.fuzz.coverage.traced.unavailable", lambda: "")
    assert main(["run", "--target", "eager", "--coverage-report"]) == Exit.USAGE
    assert "no target here is made of Python; name a package with --cover" in capsys.readouterr().err
    monkeypatch.setattr("shakeout.fuzz.coverage.traced.unavailable", lambda: "coverage.py is not installed")
    assert main(["run", "--target", "inductor", "--coverage-report"]) == Exit.USAGE
    assert "--coverage-report: coverage.py is not installed" in capsys.readouterr().err


def test_status_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Database.create(tmp_path / NAME) as database, TraceLog(tmp_path) as traces, CoverageLog(tmp_path) as log:
        ledger = Ledger(database, traces, log, untold := deque())
        with database.transaction():
            reply = Reply(coverage=(hits((4, 9)), blocks((12,))))
            ledger.count(Answer(Grow(target="tvm", number=0, seed=1), 0, reply), Result("c", "tvm", "compared"))
    assert untold[-1].reached == {"native": 3}
    assert main(["status", str(tmp_path)]) == Exit.OK
    assert "coverage, native: 2 of 40 functions, 1 blocks" in capsys.readouterr().out
    assert main(["status", "--json", str(tmp_path)]) == Exit.OK
    shown = json.loads(capsys.readouterr().out)["coverage"]
    functions, further = {"reached": 2, "of": 40}, {"reached": 1, "of": None}
    assert shown["sources"] == {"native": {"libmine.so": {"functions": functions, "blocks": further}}}
    assert shown["curve"][-1] == {"seconds": 0.0, "native": 3}


# --- the space of cases -------------------------------------------------------------------------------------------


def test_a_case_tells_what_it_is_made_of() -> None:
    inner = Call("torch.relu", (Ref(0),), results=(FLOAT,))
    calls = (
        Call("torch.add", (Ref(0), 2.5), (("alpha", 2),), (FLOAT,)),
        Call("torch.cond", (Ref(2),), results=(FLOAT,), regions=(Region((), (2,), (inner,), (1,)),)),
        Call("torch.cat", ((Ref(1), Ref(1), Ref(3)),), results=(FLOAT,)),
    )
    views = (View(0, "float32", (2, 3), (1, 2)), View(0, "float32", (2, 3), (3, 1), offset=1))
    inputs = InputSet((Storage("float32", 8, Values("uniform")),), views)
    case = Case(Program((Input(FLOAT),) * 2, calls, (4,)), (inputs,), Setting("tvm", (("opt", 2),)))
    assert features(case, "compared") == {
        "operators:torch.add",
        "operators:torch.cond",
        "operators:torch.relu",
        "operators:torch.cat",
        "variants:torch.add(float32 2, float, alpha=int)",
        "variants:torch.cond(float32 2)",
        "variants:torch.relu(float32 2)",
        "variants:torch.cat((float32 2))",
        "edges:torch.add > torch.cond",
        "edges:torch.cond > torch.cat",
        "dtypes:float32",
        "layouts:shared storage",
        "layouts:permuted",
        "layouts:offset",
        "layouts:row-major",
        "knobs:tvm: opt=2",
        "knobs:tvm: inference",
        "knobs:tvm: on cpu",
        "statuses:tvm: compared",
    }
    source = SpaceSource()
    source.before_fork([Hits("space", "", "", "dtypes", ("float32",)), hits((4,))])
    source.end(case, "avoided")
    assert source.take() == ()
    source.end(case, "compared")
    assert {(one.kind, word) for one in source.take() for word in one.keys} == {
        tuple(word.split(":", 1)) for word in features(case, "compared") - {"dtypes:float32"}
    }
    source.end(case, "failed")
    assert source.take() == (Hits("space", "", "", "statuses", ("tvm: failed",)),)


def test_who_asks_twice_of_one_case_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    right = space._variants

    def variants(calls: Any, types: Any) -> Any:
        looked.append(calls)
        return right(calls, types)

    monkeypatch.setattr(space, "_variants", variants)
    one = case("no fault").on("aot_eager")
    other = case("no fault").on("aot_eager")
    assert space.features(one, "compared") == space.features(one, "compared") != space.features(one, "failed")
    assert len(looked) == 1
    assert space.features(other, "compared") == space.features(one, "compared")
    assert len(looked) == 3


@pytest.mark.parametrize(
    ("shape", "strides", "expected"),
    [
        ((), (), "scalar"),
        ((2, 0), (7, 3), "empty"),
        ((1, 3), (99, 1), "row-major"),
        ((2, 3), (1, 2), "permuted"),
        ((2, 3), (6, 2), "strided"),
        ((2, 3), (2, 1), "overlapping"),
        ((2, 3), (0, 1), "expanded"),
        ((2, 3, 4, 5), (60, 1, 15, 3), "channels last"),
    ],
)
def test_layouts_have_names(shape: tuple[int, ...], strides: tuple[int, ...], expected: str) -> None:
    inputs = InputSet((Storage("float32", 200, Values("uniform")),), (View(0, "float32", shape, strides),))
    case = Case(Program((Input(TensorType("float32", shape)),), (), (0,)), (inputs,), Setting("tvm"))
    assert {word for word in features(case) if word.startswith("layouts")} == {f"layouts:{expected}"}


# --- a source that fails ------------------------------------------------------------------------------------------


def test_a_source_that_raises_is_gone_on_without() -> None:
    class Broken(SpaceSource):
        name = "broken"

        def end(self, case: Case, status: str) -> None:
            raise ZeroDivisionError("of the test")

    inputs = InputSet((Storage("float32", 1, Values("uniform")),), (View(0, "float32", (1,), (1,)),))
    case = Case(Program((Input(TensorType("float32", (1,))),), (), (0,)), (inputs,), Setting("tvm"))
    every = Sources([Broken(), SpaceSource()])
    assert [one.reason for one in every.arm()] == ["", ""]
    for _ in range(2):
        every.begin(case)
        every.end(case, "compared")
    assert {one.source for one in every.take()} == {"space"}
    assert [(one.name, one.reason) for one in every.gone()] == [("broken", "ZeroDivisionError: of the test")]
    assert every.gone() == ()

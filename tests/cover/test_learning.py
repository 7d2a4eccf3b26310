"""What is learnt is measured, kept, found again and told; broken files and odd traces stop nobody."""

import errno
import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from shakeout.corpus import learnt
from shakeout.corpus.program import Ref, TensorType
from shakeout.fuzz import cli
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.jobs import Examine
from shakeout.fuzz.learning import listing, operators
from shakeout.fuzz.learning.gather import Kept, gathered
from shakeout.fuzz.learning.learn import How, LearntOperators, learn_torch
from shakeout.fuzz.learning.store import Files, read
from shakeout.generators.rules.library import PRECISE, Library, pack
from shakeout.generators.rules.measure import held_out, learn_measured
from shakeout.generators.rules.trace import Trace, variant_of
from shakeout.generators.vocabularies.records import Spread


def trace(rows: int, columns: int, factor: int) -> Trace:
    """A call that was not run yet."""
    return Trace("toy:odd", (Ref(0), factor), (), (TensorType("float32", (rows, columns)),), source="user")


def toy(call: Trace, spreads: Sequence[Spread] = ()) -> Trace:
    """Repeats columns ``factor`` times, if that divides the rows."""
    (rows, columns), factor = call.operands[0].shape, call.args[1]
    assert isinstance(factor, int)
    if factor < 1 or rows % factor:
        return replace(call, error="odd")
    return replace(call, results=(TensorType("float32", (rows // factor, columns * factor + 1)),), form="tensor")


def capricious(call: Trace, spreads: Sequence[Spread] = ()) -> Trace:
    """The same, but it takes only rows that have no rule."""
    return toy(call) if call.operands[0].shape[0] in (4, 6, 9, 10) else replace(call, error="not today")


CALLS = [toy(trace(r, c, f)) for r in (4, 6, 8, 9, 10, 12) for c in (1, 2, 3, 5) for f in (-1, 0, 1, 2, 3, 4)]
ACCEPTED = [call for call in CALLS if call.accepted]


def row(spreads: tuple[Spread, ...] = (), calls: Sequence[Trace] = CALLS) -> list[dict]:
    found = learn_measured(calls, {variant_of(calls[0]): spreads}, toy)
    return [
        {
            "variant": one.variant.to_json(),
            "rule": None if one.rule is None else one.rule.to_json(),
            "notes": list(one.notes),
            "spreads": [[spread.kind, spread.low, spread.high, spread.literal] for spread in spreads],
        }
        for one in found
    ]


def test_precision_is_measured_on_fresh_calls_and_completeness_on_calls_that_were_held_out() -> None:
    assert 0 < sum(map(held_out, ACCEPTED)) < len(ACCEPTED)
    drawn: list[Trace] = []

    def execute(call: Trace, spreads: Sequence[Spread]) -> Trace:
        drawn.append(call)
        return toy(call)

    [found] = learn_measured(CALLS, {}, execute)
    assert found.rule is not None
    assert (found.rule.precision, found.rule.completeness) == (1.0, 1.0)
    assert found.rule.valid < len(ACCEPTED)  # not learnt from what was held out
    assert len({(call.operands, call.args) for call in drawn}) > 10


def test_a_rule_that_takes_less_than_the_operator_is_told() -> None:
    # What shows that there may be no column is held out.
    empty = [toy(trace(rows, 0, factor)) for rows in (4, 6, 8, 9, 10, 12) for factor in (1, 2, 3, 4)]
    [found] = learn_measured([*CALLS, *(call for call in empty if held_out(call))], {}, toy)
    assert found.rule is not None
    assert found.rule.completeness is not None
    assert found.rule.completeness < 1


def test_what_a_rule_is_wrong_about_is_learnt_from_and_measured_again() -> None:
    # Nothing that was recorded shows that the factor must divide the rows.
    calls = [toy(trace(12, columns, factor)) for columns in (1, 2, 3, 5, 7) for factor in (1, 2, 3, 4, 6)]
    calls += [toy(trace(24, columns, factor)) for columns in (2, 4) for factor in (1, 2, 3, 4, 6)]
    [found] = learn_measured(calls, {}, toy)
    assert found.rule is not None
    assert (found.rule.precision or 0) >= PRECISE, found.rule.describe()


def test_a_rule_that_is_often_wrong_is_not_drawn_from() -> None:
    [found] = learn_measured(CALLS, {}, capricious)
    assert found.rule is not None
    assert found.rule.precision is not None
    rows = row()
    rows[0]["rule"] |= {"precision": PRECISE - 0.01}
    [entry] = Library(pack(rows)).entries("toy:odd")
    assert not entry.usable
    assert Library(pack(rows)).usable("toy:odd") == ()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_odd_traces_stop_nobody(number: int) -> None:
    huge = [toy(trace(1 << 40, columns, 1)) for columns in range(1, 9)]
    both = [*ACCEPTED[:5], *(replace(call, results=(), error="not now") for call in ACCEPTED[:5])]
    empty: list[Trace] = []
    found = learn_measured([huge, both, empty][number], {}, toy)
    assert all(one.rule is not None or one.notes for one in found)


def test_what_raises_within_the_learner_is_a_note() -> None:
    def execute(call: Trace, spreads: Sequence[Spread]) -> Trace:
        raise ValueError("a defect")

    [found] = learn_measured(CALLS, {}, execute)
    assert found.rule is None
    assert "a defect" in found.notes[0]


def test_a_variant_that_was_only_rejected_is_none() -> None:
    assert learn_measured([call for call in CALLS if not call.accepted], {}, toy) == []


# --- the files -------------------------------------------------------------------------------------------------------


def test_packed_rules_are_the_same_and_share_their_parts() -> None:
    spreads = (Spread("index", 0, 3),)
    rows = row(spreads)
    other = json.loads(json.dumps(rows[0]))
    other["variant"][0] = other["rule"]["variant"][0] = "toy:even"
    content = json.loads(json.dumps(pack([*rows, other])))
    library = Library(content)
    assert library.operators == ("toy:even", "toy:odd")
    [entry], [same] = library.entries("toy:odd"), library.entries("toy:even")
    assert entry.spreads == spreads
    assert entry.rule.to_json() == rows[0]["rule"]
    assert same.rule.preconditions == entry.rule.preconditions
    assert content["operators"]["toy:odd"] == content["operators"]["toy:even"]
    assert entry.usable


def test_what_cannot_be_read_of_a_file_is_left_out() -> None:
    content = pack(row())
    content["operators"]["toy:odd"] += [[], [0, 0], [9999] * 15, None]
    content["operators"]["toy:none"] = [3]
    content["without"]["toy:none"] = [["odd"]]
    library = Library(content)
    assert len(library.entries("toy:odd")) == 1
    assert library.entries("toy:none") == ()
    assert library.without("toy:none") == ()


def test_a_file_of_another_format_or_a_broken_one_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))
    monkeypatch.setattr(learnt, "SHIPPED", tmp_path / "shipped")
    assert learnt.of_torch("2.13.0+cpu") is None
    learnt.write(learnt.torch_path("2.13.0+cpu"), {"torch": "here"})
    assert (learnt.of_torch("2.13.0+cpu") or {})["torch"] == "here"
    for text in ('{"format": 0}', '{"format"', "[]", "", "[" * 100_000):
        learnt.torch_path("2.13.0+cpu").write_text(text)
        assert learnt.of_torch("2.13.0+cpu") is None
    for version in ("2.9.1", "2.12.0", "1.13.0"):
        learnt.write(tmp_path / "shipped" / f"torch-{version}.json", {"torch": version})
    assert (learnt.of_torch("2.13.0+cpu") or {})["torch"] == "2.12.0"


def test_files_of_operators_appear_whole_and_are_gathered(tmp_path: Path) -> None:
    files = Files(tmp_path / "learning")
    for operator in ("torch.Tensor.T", "torch.Tensor.t", "my.kernels:one", "my.kernels.one"):
        files.write(files.rules(operator), {"operator": operator, "variants": []})
        assert read(files.rules(operator)) == {"operator": operator, "variants": []}
    files.write(files.rules("toy:odd"), {"operator": "toy:odd", "variants": row()})
    files.write(files.rules("toy:lost"), {"operator": "toy:lost", "failed": "crash: SIGSEGV"})
    files.rules("torch.Tensor.t").write_bytes(b"\x1f\x8b broken")
    content = gathered(files)
    assert list(content["operators"]) == ["toy:odd"]
    assert content["failed"] == {"toy:lost": "crash: SIGSEGV"}
    files.raw.write_text('\n{"entry": "a", "traces": [["torch.mm", []]]}\n\n{"entry": "b", "tra')
    assert files.collected() == {"torch.mm": [["torch.mm", []]]}
    files.cases.mkdir()
    files.clear()
    assert [path.name for path in files.directory.iterdir()] == ["cases"]


def test_rules_are_written_while_they_are_learnt_and_fewer_replace_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shakeout.fuzz.learning.gather.EVERY", 0.0)
    monkeypatch.setattr("shakeout.fuzz.learning.gather.SHARE", 1e-9)
    files, path, copy = Files(tmp_path / "learning"), tmp_path / "rules.json", tmp_path / "copy.json"
    learnt.write(path, {"operators": {"toy:one": [], "toy:two": []}})
    kept = Kept(files, "torch", path, copy, learnt.read(path))

    def operators(file: Path) -> list[str]:
        return list((learnt.read(file) or {})["operators"])

    files.write(files.rules("toy:odd"), {"operator": "toy:odd", "variants": row()})
    kept.now_and_then()
    assert operators(copy) == ["toy:odd"]
    assert operators(path) == ["toy:one", "toy:two"]
    kept.write(fewer=True)
    assert operators(path) == ["toy:odd"]
    copy.unlink()
    kept.now_and_then()  # what took long is not done again at once
    assert not copy.exists()


def test_what_could_not_be_examined_is_examined_again_once_other_rules_are_learnt(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write(files.examined("toy:odd"), {"operator": "toy:odd", "failed": "hang: 10 s"})
    rows = [call.to_json() for call in CALLS[:3]]
    session = operators._Session(files, {"toy:odd": rows}, {}, {}, None, 1, 0, lambda progress: None)
    session.waiting.append(operators._Task("toy:odd", learning=True))
    job = session.next(over=False)
    assert isinstance(job, Examine)
    assert job.traces == tuple(rows)


def test_less_than_was_asked_for_is_no_success(tmp_path: Path) -> None:
    def came(*failed: str, named: bool) -> LearntOperators:
        content = {**pack(row()), "failed": dict.fromkeys((*failed, "toy:other"), "crash: SIGSEGV")}
        return LearntOperators(("toy:odd", "toy:even"), content, tmp_path, (), 1.0, named)

    both = ("toy:odd", "toy:even")
    assert [came(named=named).missed for named in (True, False)] == [False, False]
    # Among all of torch some crash, and that is told.
    assert [came("toy:even", named=named).missed for named in (True, False)] == [True, False]
    assert [came(*both, named=named).missed for named in (True, False)] == [True, True]
    found = came("toy:even", named=True)
    assert (found.done, found.ways, found.rules, found.usable) == (2, 1, 1, 1)
    assert found.failed == {"toy:even": "crash: SIGSEGV"}
    assert came(named=True).done == 1


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in which something was learnt of ``toy:odd``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "cache"))
    learnt.write(learnt.kernel_path("toy:odd"), {"operator": "toy:odd", "failed": {}, **pack(row())})
    return tmp_path


def run(capsys: pytest.CaptureFixture, *arguments: str) -> tuple[int, str, str]:
    status = cli.main(arguments)
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return status, out, err


def test_rules_are_told_to_people_and_to_programs(capsys: pytest.CaptureFixture, elsewhere: Path) -> None:
    status, out, _ = run(capsys, "operators", "toy:odd")
    assert status == Exit.OK
    assert "needs: in[0].shape[0] % arg1 == 0" in out
    assert "precision 100%; completeness 100%" in out
    assert "learnt from: user" in out
    status, out, _ = run(capsys, "operators", "toy:odd", "--json")
    [told] = json.loads(out)
    assert told["variants"][0]["used"] is True
    assert told["variants"][0]["precision"] == 1.0


def test_operators_are_found_by_the_end_of_their_name_and_by_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for name in ("toy.mm", "toy.Tensor.mm", "toy.bmm"):
        [one] = json.loads(json.dumps(row()))
        one["variant"][0] = one["rule"]["variant"][0] = name
        rows.append(one)
    library = Library(pack(rows))
    monkeypatch.setattr("shakeout.generators.rules.library.library_of_torch", lambda: library)
    assert listing.matching("mm")[1] == ["toy.Tensor.mm", "toy.mm"]
    assert listing.matching("toy.*mm")[1] == ["toy.Tensor.mm", "toy.bmm", "toy.mm"]
    assert len(listing.matching(None)[1]) == 3
    *_, last = listing.lines(library, ["toy.mm"], rules=False)
    assert last == "1 operators, 1 ways to call them, 1 with a rule that calls are drawn from"
    with pytest.raises(listing.NothingLearnt, match="did you mean bmm"):
        listing.matching("bmmm")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["learn"], Exit.USAGE, "expected torch, onnx, MODULE:NAME or --from CAMPAIGN, found 'nothing'"),
        (["learn", "jax"], Exit.USAGE, "expected torch, onnx, MODULE:NAME or --from CAMPAIGN, found 'jax'"),
        (["learn", "torch", "--seconds", "0"], Exit.USAGE, "--seconds: expected a positive number"),
        (["learn", "torch", "--workers", "-1"], Exit.USAGE, "--workers: expected a positive number"),
        (["learn", "torch", "--examples", "."], Exit.USAGE, "--examples goes with MODULE:NAME"),
        (["learn", "toy:odd"], Exit.USAGE, "give tests or a script that call toy:odd: --examples PATH"),
        (["learn", "toy:odd", "--examples", "none.py"], Exit.USAGE, "there is no none.py"),
        (["learn", "--from", "."], Exit.USAGE, "--from: . has no calls in traces.jsonl"),
        (["learn", "torch", "--from", "."], Exit.USAGE, "--from goes without torch"),
        (["operators", "toy:even"], Exit.USAGE, "nothing was learnt of toy:even"),
        (["operators", "mm", "--target", "eager"], Exit.USAGE, "--target and --write go with a campaign"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture, elsewhere: Path, arguments: list[str], status: int, words: str
) -> None:
    found, _, err = run(capsys, *arguments)
    assert found == status
    assert words in err


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_cache_that_cannot_be_written_is_told_with_a_status_of_its_own(
    capsys: pytest.CaptureFixture, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(self: Path, **options: object) -> None:
        raise OSError(number, "no", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    status, _, err = run(capsys, "learn", "torch")
    assert status == Exit.DIRECTORY
    assert ("cannot be written" if number == errno.EROFS else "is full") in err


def test_a_cache_that_is_a_file_is_told(capsys: pytest.CaptureFixture, elsewhere: Path) -> None:
    (elsewhere / "cache").write_text("")
    status, _, err = run(capsys, "learn", "torch")
    assert status == Exit.DIRECTORY
    assert "cannot be used" in err


@pytest.mark.parametrize(("package", "operators"), [("torch", 1000), ("onnx", 150)])
def test_the_rules_that_are_shipped_are_all_read_and_drawn_from(package: str, operators: int) -> None:
    (file,) = learnt.SHIPPED.glob(f"{package}-*.json")
    assert file.stat().st_size < 1 << 20
    content = learnt.read(file)
    assert content is not None
    library = Library(content)
    rows = {operator: len(rows) for operator, rows in content["operators"].items()}
    assert len(rows) > operators
    assert {operator: len(library.usable(operator)) for operator in rows} == rows


def test_rules_that_campaigns_have_stay_until_as_many_operators_are_learnt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))
    version = metadata.version("torch")
    monkeypatch.setattr(learnt, "SHIPPED", tmp_path / "shipped")
    learnt.write(tmp_path / "shipped" / f"torch-{version.partition('+')[0]}.json", {"operators": {"a": [], "b": []}})
    found = {"operators": {"c": []}, "failed": {}, "errors": {}}
    monkeypatch.setattr(
        "shakeout.generators.vocabularies.torch.load_records", lambda tell=None: SimpleNamespace(operators=("c",))
    )
    monkeypatch.setattr("shakeout.fuzz.learning.collecting.collected", lambda files, tell, stop: [])
    monkeypatch.setattr(Files, "collected", lambda self: {})
    monkeypatch.setattr("shakeout.fuzz.learning.learn._run", lambda *arguments, **more: [])
    monkeypatch.setattr("shakeout.fuzz.learning.gather.gathered", lambda files, drawn=False, package="": found)

    def operators() -> set[str]:
        return set((learnt.of_torch(version) or {})["operators"])

    learn_torch(How(1), whole=True)
    assert operators() == {"a", "b"}
    found["operators"]["d"] = []
    learn_torch(How(1), whole=True)
    assert operators() == {"c", "d"}
    del found["operators"]["d"]
    learn_torch(How(1))
    assert operators() == {"c"}

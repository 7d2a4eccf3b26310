"""The command that bisects: what it tells, what it keeps as it goes, and what ends it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.bisecting import Fake, case_of

from shakeout.corpus import codec, known
from shakeout.corpus.case import Case
from shakeout.fuzz.bisect import stored
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Bisection, Releases, Rung
from shakeout.fuzz.bisect.kept import Memory, beside, within
from shakeout.fuzz.bisect.ladders import bisected
from shakeout.fuzz.bisect.trials import Shown, Trial
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.progress import Stop
from shakeout.fuzz.reporting import drafting
from shakeout.fuzz.reporting.exported import Exported


class NoPool:
    """Runs trials by a function in the pool's place."""

    def __init__(self, run: Callable[[Sequence[Trial]], list[Shown]]) -> None:
        self.run = run

    def __enter__(self) -> NoPool:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, trials: Sequence[Trial]) -> list[Shown]:
        return self.run(trials)


@pytest.fixture
def pooled(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Sequence[Trial]], list[Shown]]], None]:
    """Puts a fake compiler in the pool's place."""
    return lambda run: monkeypatch.setattr(stored, "TrialPool", lambda *args, **more: NoPool(run))


def finding(folder: Path, case: Case) -> Path:
    folder.mkdir()
    (folder / "case.json").write_text(case.text)
    return folder


def test_the_command_keeps_what_it_found(tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finding(tmp_path / "SH-0000", case_of("aot_eager"))
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    assert main(["bisect", str(folder), "--plain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "rung      dynamo                       good" in said
    assert "culprit   stage aot_eager" in said
    kept = within(folder).read()
    assert kept is not None
    assert kept.complete
    assert kept.case == case_of("aot_eager").id
    assert main(["bisect", str(folder), "--json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["reliability"] == "5 of 5"


def test_whoever_bisects_is_told_and_answered_and_nothing_is_printed(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    job = stored.chosen(finding(tmp_path / "SH-0000", case_of("aot_eager")))
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    told: list[events.Event] = []
    answer = stored.bisect_stored(job, workers=1, memory=1, stop=Stop(), tell=told.append)
    assert answer == stored.Answer(answer.bisection)
    assert answer.bisection.complete
    assert answer.bisection == job.kept.read()
    facts = [event for event in told if isinstance(event, events.FactFound)]
    assert [event.fact for event in facts] == [str(fact) for fact in answer.bisection.facts]
    assert {"rung", "setting", "culprit"} <= {event.label for event in facts}
    asked = [event for event in told if isinstance(event, events.Asking)]
    assert asked[-1].runs > asked[0].runs
    # What is known is told again, and nothing is asked.
    told.clear()
    again = stored.bisect_stored(job, workers=1, memory=1, stop=Stop(), tell=told.append)
    assert again == stored.Answer(answer.bisection, before=True)
    assert told == facts
    assert capsys.readouterr() == ("", "")


def test_interrupted_it_keeps_what_is_known(tmp_path: Path, pooled: Callable) -> None:
    folder = finding(tmp_path / "SH-0000", case_of())
    fake = Fake({}, lambda t, at: t.case.setting.target == "inductor")

    def run(trials: Sequence[Trial]) -> list[Shown]:
        if any(trial.limit is not None for trial in trials):
            os.kill(os.getpid(), signal.SIGINT)
        return fake(trials)

    pooled(run)
    assert main(["bisect", str(folder), "--plain"]) == Exit.INTERRUPTED
    kept = within(folder).read()
    assert kept is not None
    assert not kept.complete
    assert kept.culprit is not None
    assert kept.culprit.names == ("inductor",)


def test_the_minimised_case_is_taken_where_there_is_one(tmp_path: Path) -> None:
    folder = finding(tmp_path / "SH-0000", case_of(max_fusion_size=1))
    assert stored.chosen(folder).file == folder / "case.json"
    (folder / stored.MINIMISED).write_text(case_of().text)
    assert stored.chosen(folder).case == codec.decode(case_of().text)
    assert stored.chosen(folder).folder == folder
    assert stored.chosen(folder / "case.json").folder is None


@pytest.mark.parametrize(("path", "status"), [("nothing.json", Exit.USAGE), ("SH-none", Exit.DIRECTORY)])
def test_what_is_no_case_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, status: Exit) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bisect", path]) == status


def test_a_case_that_passes_is_told(tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finding(tmp_path / "SH-0000", case_of())
    pooled(Fake({}, lambda t, at: False))
    assert main(["bisect", str(folder), "--plain"]) == Exit.OK
    assert "does not fail here" in capsys.readouterr().out
    assert within(folder).read() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_whatever_ends_it_another_bisection_goes_on_from_what_is_known(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    path = tmp_path / "case.min.json"
    path.write_text(case_of().text)
    parts = {"joint_graph_passes": ("fold", "wrong"), "patterns": ("one", "two")}

    def broken(trial: Trial, at: dict[str, Sequence[str]]) -> bool:
        switched = trial.case.setting.knob("joint_graph_constant_folding", True) is False
        return trial.case.setting.target == "inductor" and "wrong" in at["joint_graph_passes"] and not switched

    whole = Fake(parts, broken)
    pooled(whole)
    assert main(["bisect", str(path), "--plain", "--json"]) == Exit.OK
    expected = json.loads(capsys.readouterr().out)
    beside(path, "").path.unlink()

    first = Fake(parts, broken)

    def run(trials: Sequence[Trial]) -> list[Shown]:
        if any(trial.limit is not None and trial.limit.kind == "patterns" for trial in trials):
            os.kill(os.getpid(), number)
            return [Shown("infra") for _ in trials]
        return first(trials)

    pooled(run)
    assert main(["bisect", str(path), "--plain"]) == Exit.INTERRUPTED
    said = capsys.readouterr().out
    assert "joint-graph pass wrong" in said
    assert "the same command goes on from here" in said
    kept = beside(path, "").read()
    assert kept is not None
    assert (kept.complete, kept.culprit is not None) == (False, True)

    second = Fake(parts, broken)
    pooled(second)
    assert main(["bisect", str(path), "--plain", "--json"]) == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert {**found, "seconds": 0} == {**expected, "seconds": 0, "trials": found["trials"]}
    assert 0 < second.runs < whole.runs
    assert first.runs + second.runs == whole.runs

    third = Fake(parts, broken)
    pooled(third)
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    assert "known from before" in capsys.readouterr().out
    assert third.runs == 0
    assert main(["bisect", str(path), "--plain", "--again"]) == Exit.OK
    assert third.runs == whole.runs


def test_each_fact_is_written_as_it_is_found(tmp_path: Path, pooled: Callable) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of().text)
    fake, seen = Fake({}, lambda t, at: t.case.setting.target == "inductor"), []

    def run(trials: Sequence[Trial]) -> list[Shown]:
        kept = beside(path, "").read()
        seen.append(() if kept is None else kept.facts)
        return fake(trials)

    pooled(run)
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    assert seen[0] == ()
    assert Rung("dynamo", "good") in seen[-1]
    assert [len(one) for one in seen] == sorted(len(one) for one in seen)
    assert len({len(one) for one in seen}) > 3


def test_a_budget_ends_it_and_is_no_interruption(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of().text)
    fake, clock = Fake({}, lambda t, at: t.case.setting.target == "inductor"), [1000.0]

    def run(trials: Sequence[Trial]) -> list[Shown]:
        clock[0] += 10
        return fake(trials)

    pooled(run)
    monkeypatch.setattr("shakeout.fuzz.ground.progress.time.monotonic", lambda: clock[0])
    rounds = []
    for _ in range(20):
        assert main(["bisect", str(path), "--plain", "--seconds", "25"]) == Exit.OK
        rounds.append(capsys.readouterr().out)
        if "is used up" not in rounds[-1]:
            break
    assert "the budget is used up; the same command goes on from here" in rounds[0]
    assert 2 < len(rounds) < 20
    kept = beside(path, "").read()
    assert kept is not None
    assert kept.complete
    assert main(["bisect", str(path), "--seconds", "0"]) == Exit.USAGE


def test_what_other_versions_said_is_asked_again(
    tmp_path: Path, pooled: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of("aot_eager").text)
    fake = Fake({}, lambda t, at: t.case.setting.target == "aot_eager")
    pooled(fake)
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    once = fake.runs
    monkeypatch.setattr(stored, "describe", lambda: {"packages": {"torch": "3.0"}})
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    assert fake.runs == 2 * once


def test_what_releases_said_stays_and_a_report_has_it_all(
    tmp_path: Path, pooled: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.min.json"
    case = case_of("aot_eager")
    path.write_text(case.text)
    said = Releases((("torch==1", "good"),), newest="torch==9.9", newest_verdict="bad")
    beside(path, case.id).write(Bisection(case.id, "aot_eager", facts=(said,)), None)
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    job = stored.chosen(path)
    found = job.known()
    assert found is not None
    assert found.releases == said
    assert found.culprit is not None
    for name, value in (
        ("export", Exported("import torch\n", "long", True, "exit status 1", "wrong")),
        ("collected", ""),
        ("observed", None),
    ):
        monkeypatch.setattr(drafting, name, lambda *case, value=value: value)
    capsys.readouterr()
    assert main(["report", str(path)]) == Exit.OK
    assert "stage aot_eager" in capsys.readouterr().out
    path.write_text(case_of("aot_eager", dynamic=True).text)
    assert stored.chosen(path).known() is None, "the file holds another case now"


def test_a_file_of_a_finding_is_of_the_finding_and_what_ships_keeps_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finding(tmp_path / "SH-0000", case_of())
    (folder / "result.json").write_text("{}")
    (folder / stored.MINIMISED).write_text(case_of().text)
    assert stored.chosen(folder / stored.MINIMISED).kept == within(folder)
    (folder / "other.json").write_text(case_of().text)
    assert stored.chosen(folder / "other.json").kept.path == folder / "other.bisection.json"
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path))
    shipped = stored.chosen(known.DIRECTORY / "mul-by-zero-loses-nan.json")
    assert shipped.kept.path == tmp_path / "bisections" / f"{shipped.case.id}.json"


def test_where_nothing_can_be_kept_everything_is_told(
    tmp_path: Path, pooled: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "case.json"
    path.write_text(case_of("aot_eager").text)
    (tmp_path / "case.bisection.json").mkdir()
    pooled(Fake({}, lambda t, at: t.case.setting.target == "aot_eager"))
    assert main(["bisect", str(path), "--plain"]) == Exit.OK
    said = capsys.readouterr().out
    assert "culprit   stage aot_eager" in said
    assert "kept      NOT: " in said


def test_a_memory_survives_its_file() -> None:
    ablation = Ablation(case_of(), Fake({"lowerings": ("a", "b")}, lambda t, at: "b" in at["lowerings"]))
    assert list(bisected(ablation))
    memory = ablation.memory()
    assert memory.answers
    assert Memory.from_json(json.loads(json.dumps(memory.to_json()))) == memory
    with pytest.raises(ValueError, match="not the memory"):
        Memory.from_json({"answers": [{}]})

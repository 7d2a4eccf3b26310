"""What a person sees in the morning: a campaign's bugs in order, what waits, what is settled, the worst ones whole."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.codec import from_json
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.smallest_cases import SmallestCase
from shakeout.fuzz.bisect.facts import Bisection, Culprit
from shakeout.fuzz.bisect.kept import within
from shakeout.fuzz.cli import main
from shakeout.fuzz.ground.divergence import Divergence
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.ground.signature import headline, title
from shakeout.fuzz.reporting.bug_list import bug_list
from shakeout.fuzz.reporting.short_scripts import short_scripts
from shakeout.oracles.verdict import Outcome, Verdict


def case_of(function: Callable[..., Any], *tensors: torch.Tensor, target: str = "inductor", **knobs: object) -> Case:
    return capture(function, lambda: list(tensors), setting=Setting(target, tuple(sorted(knobs.items()))))  # type: ignore[arg-type]


def failing(case: Case, oracle: str = "value", symptom: str = "wrong value", message: str = "", **more: Any) -> Result:
    verdict = Verdict(oracle, Outcome.FAIL, symptom, message, "output 0", more)
    return Result(case.id, case.setting.target, "compared", (verdict,), signature="s")


X = torch.tensor([1.0, 2.0, 3.0])
NETWORK = case_of(lambda x: x.exp().log().sin().cos().tanh(), X)
WRONG = case_of(lambda x: torch.cumsum(x, 0), torch.tensor([1, 2, 3], dtype=torch.int32))
STRIDES = case_of(lambda x: torch.cat([x]), torch.ones(2, 2).T)
NAN = case_of(lambda x: x.clamp(0, 1), torch.tensor([float("nan"), 1.0]), target="openvino")


class Campaign:
    """A campaign's directory with bugs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        Database.create(directory / NAME).close()

    def add(self, name: str, case: Case, result: Result, state: str = "confirmed", *, times: int = 1) -> str:
        """A bug that was tried in fresh processes, unless it is new."""
        verdict = result.failure
        assert verdict is not None
        with Database.open(self.directory / NAME) as database, database.transaction():
            for number in range(times):
                bug, finding = database.add_finding(
                    signature=name,
                    title=title(case.setting.target, verdict.symptom, verdict.message),
                    target=case.setting.target,
                    oracle=verdict.oracle,
                    symptom=verdict.symptom,
                    job=number,
                    case_id=f"{name} {number}",
                    case_json=case.text,
                    result=result.to_json(),
                    state="new" if state in ("confirmed", "history", "flaky") else state,
                )
            if state in ("confirmed", "history", "flaky"):
                assert finding is not None
                database.judge(finding, state=state, k=3, n=3)
        return bug.id

    def shrink(self, bug: str, case: Case, result: Result) -> None:
        with Database.open(self.directory / NAME) as database:
            database.set_smallest(SmallestCase(bug, "complete", case.text, result.to_json()))

    def decide(self, bug: str, status: str, **rest: str) -> None:
        with Database.open(self.directory / NAME) as database:
            database.decide(bug, status, **rest)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path / "run")


@pytest.fixture
def told(campaign: Campaign, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def ask(*arguments: str) -> str:
        assert main(["bugs", *arguments, "--directory", str(campaign.directory)]) == Exit.OK
        return capsys.readouterr().out

    return ask


@pytest.fixture
def four(campaign: Campaign) -> dict[str, str]:
    """Found in another order than they should be read."""
    return {
        "strides": campaign.add("strides", STRIDES, failing(STRIDES, "metadata", "wrong strides")),
        "nan": campaign.add("nan", NAN, failing(NAN, symptom="NaN lost", expected="nan", found=1.0)),
        "raises": campaign.add(
            "raises", NETWORK, failing(NETWORK, "exception", "RuntimeError", "RuntimeError: no such kernel")
        ),
        "wrong": campaign.add("wrong", WRONG, failing(WRONG, expected=3, found=4, index=[1]), times=3),
    }


# --- order ------------------------------------------------------------------------------------------------------------


def test_the_worst_comes_first_with_its_reason(four: dict[str, str], told: Callable[..., str]) -> None:
    head, *rows = told().splitlines()
    assert head.split()[:5] == ["bug", "state", "fresh", "seen", "targets"]
    assert [row.split()[0] for row in rows] == [four[name] for name in ("wrong", "nan", "raises", "strides")]
    assert rows[0].split(maxsplit=5) == [
        four["wrong"],
        "confirmed",
        "3/3",
        "3",
        "inductor",
        "wrong value: cumsum of int32  -- silent wrong value at ordinary values and default settings; int32 alone",
    ]
    assert rows[1].endswith("NaN lost: clamp of float32  -- NaN lost at special values (NaN)")
    assert rows[2].endswith("RuntimeError: a network of 5 operators: no such kernel  -- exception on a valid program")


def test_a_bug_is_named_and_ranked_by_its_smallest_case(campaign: Campaign, told: Callable[..., str]) -> None:
    large = campaign.add("large", NETWORK, failing(NETWORK))
    other = campaign.add("other", WRONG, failing(WRONG))
    assert "a network of 5 operators" in told()
    assert [row["id"] for row in json.loads(told("--json"))] == [large, other]
    campaign.shrink(large, NAN, failing(NAN, symptom="NaN lost"))
    rows = json.loads(told("--json"))
    assert [row["id"] for row in rows] == [other, large]
    assert rows[1]["title"] == "openvino: NaN lost: clamp of float32"
    assert rows[1]["rank"] == {"severity": "special", "reason": "NaN lost at special values (NaN)"}
    assert f"rank      {rows[1]['rank']['reason']}" in told("show", large)
    assert "  smallest  def program(x0):" in told("show", large).splitlines()


def test_what_nobody_looked_at_is_one_line(campaign: Campaign, four: dict[str, str], told: Callable[..., str]) -> None:
    for number in range(7):
        campaign.add(f"new {number}", NETWORK, failing(NETWORK), "new", times=2)
    rows = told().splitlines()
    assert len(rows) == 1 + len(four) + 1
    assert rows[-1] == f"14 findings wait for triage; `shakeout triage {campaign.directory}` works them off"
    # They can be asked for, and once one is minimised it is triaged.
    found = json.loads(told("--json", "--state", "new"))
    assert {row["group"] for row in found} == {"waiting"}
    assert len(told("--state", "new").splitlines()) == 1 + 1 + 7
    campaign.shrink(found[0]["id"], WRONG, failing(WRONG))
    assert "12 findings wait for triage" in told()
    assert found[0]["id"] in told()


def test_findings_that_are_no_bug_yet_wait_in_the_same_line(
    campaign: Campaign, four: dict[str, str], told: Callable[..., str]
) -> None:
    rows = len(told().splitlines())
    wait(campaign, 3)
    waiting = f"3 findings wait for triage; `shakeout triage {campaign.directory}` works them off"
    assert told().splitlines()[-1] == waiting
    assert len(told().splitlines()) == rows + 1
    assert len(json.loads(told("--json"))) == len(four)


def test_findings_may_be_all_there_is(campaign: Campaign, told: Callable[..., str]) -> None:
    wait(campaign, 2)
    assert told() == f"2 findings wait for triage; `shakeout triage {campaign.directory}` works them off\n"
    assert "no such bugs" in told("--target", "tvm")


def wait(campaign: Campaign, findings: int) -> None:
    """Findings come in that nobody has looked at yet."""
    with Database.open(campaign.directory / NAME) as database, database.transaction():
        for number in range(findings):
            rest = {"case_json": WRONG.text, "result": failing(WRONG).to_json()}
            database.store(None, signature="s", job=number, case_id=str(number), **rest)  # type: ignore[arg-type]


def test_only_what_waits_is_said_so(campaign: Campaign, told: Callable[..., str]) -> None:
    campaign.add("new", NETWORK, failing(NETWORK), "new")
    assert told() == f"1 finding waits for triage; `shakeout triage {campaign.directory}` works them off\n"
    assert "that triage has come to" in told("--top", "3")


def test_what_is_nobodys_business_stands_apart(
    campaign: Campaign, four: dict[str, str], told: Callable[..., str]
) -> None:
    apart = {state: campaign.add(state, WRONG, failing(WRONG), state) for state in ("internal", "known", "flaky")}
    campaign.decide(four["nan"], "wontfix", note="as designed")
    rows = told().splitlines()
    places = {row.split()[0]: number for number, row in enumerate(rows)}
    assert [places[four[name]] for name in ("wrong", "raises", "strides")] == [1, 2, 3]
    assert places["settled:"] + 1 == places[four["nan"]]
    assert "[wontfix: as designed]" in rows[places[four["nan"]]]
    assert all(places[f"{state}:"] + 1 == places[bug] > 3 for state, bug in apart.items())
    assert told("--top", "9").count("  state     ") == 3


def test_a_duplicate_counts_where_its_original_stands(
    campaign: Campaign, four: dict[str, str], told: Callable[..., str]
) -> None:
    tvm = replace(WRONG, setting=Setting("tvm"))
    copy, copy_of_copy = (campaign.add(name, tvm, failing(tvm), times=2) for name in ("copy", "copy of the copy"))
    campaign.decide(copy, "duplicate-of", other=four["wrong"])
    campaign.decide(copy_of_copy, "duplicate-of", other=copy)
    row = json.loads(told("--json"))[0]
    assert (row["id"], row["seen"], row["targets"]) == (four["wrong"], 3 + 2 + 2, ["inductor", "tvm"])
    assert "  7  inductor+tvm" in told().splitlines()[1]
    assert row["sightings"][0] == {"target": "tvm", "symptom": "wrong value", "count": 4}
    assert "  seen      wrong value on tvm, 4; wrong value on inductor, 3" in told("show", four["wrong"]).splitlines()
    # A filter finds it by either.
    assert [row["id"] for row in json.loads(told("--json", "--target", "tvm", "--status", "open"))] == [four["wrong"]]
    campaign.decide(copy, "open")
    assert {row["id"]: row["seen"] for row in json.loads(told("--json"))[:2]} == {four["wrong"]: 3, copy: 4}


def test_what_was_reported_comes_behind_what_is_new(campaign: Campaign, told: Callable[..., str]) -> None:
    one, two = (campaign.add(name, WRONG, failing(WRONG)) for name in ("one", "two"))
    first = json.loads(told("--json"))[0]["id"]
    campaign.decide(first, "reported", note="https://example.org/1")
    assert [row["id"] for row in json.loads(told("--json"))] == [two if first == one else one, first]


def test_what_is_fixed_stands_apart(campaign: Campaign, four: dict[str, str]) -> None:
    with Database.open(campaign.directory / NAME) as database:
        database.add_replay(four["wrong"], "fixed", "", {})
    with Database.read(campaign.directory / NAME) as database:
        found = bug_list(campaign.directory, database)
    assert [row.bug.id for row in found.apart["fixed"]] == [four["wrong"]]
    assert len(found.ranked) == 3


# --- the worst ones ---------------------------------------------------------------------------------------------------


def test_the_worst_are_shown_whole(campaign: Campaign, four: dict[str, str], told: Callable[..., str]) -> None:
    culprit = Culprit("lowering", ("aten.cumsum.default",), 1, 1)
    within(campaign.directory / four["wrong"]).write(Bisection(WRONG.id, "inductor", facts=(culprit,)), None)
    text = told("--top", "2")
    lines = text.splitlines()
    for line in (
        f"1. {four['wrong']}  inductor: wrong value: cumsum of int32",
        "  rank      silent wrong value at ordinary values and default settings; int32 alone",
        "  program   def program(x0):",
        "  x0        int32[3] = 1, 2, 3",
        "  expected  output 0[1] = 3",
        "  inductor  output 0[1] = 4",
        f"  culprit   {culprit}",
        "  state     confirmed: 3 of 3 fresh processes; seen 3 times",
        f"  script    `shakeout report {four['wrong']}` runs it, and says whether it shows the bug",
        "        v1 = torch.cumsum(x0, 0)",
        f"2. {four['nan']}  openvino: NaN lost: clamp of float32",
    ):
        assert line in lines, line
    assert four["raises"] not in text
    # The script is whole: it runs, and compares.
    first, second = json.loads(told("--top", "2", "--json"))
    assert (first["id"], second["id"]) == (four["wrong"], four["nan"])
    assert from_json(first["case"]) == WRONG
    assert first["result"]["verdicts"][0]["evidence"]["expected"] == 3
    assert first["culprit"] == str(culprit)
    compile(first["script"], "script", "exec")
    assert "\n".join(f"    {line}" if line else "" for line in first["script"].splitlines()) in text


def test_what_fails_behind_other_cases_only_has_no_short_script(campaign: Campaign, told: Callable[..., str]) -> None:
    campaign.add("later", WRONG, failing(WRONG), "history")
    (row,) = json.loads(told("--top", "1", "--json"))
    assert (row["state"], row["script"]) == ("history", None)
    assert "import torch" not in told("--top", "1")


def test_a_number_of_bugs_is_positive(told: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    for number in ("0", "-1", "x"):
        with pytest.raises(SystemExit):
            told("--top", number)
        assert "expected a positive whole number" in capsys.readouterr().err


def test_a_case_without_a_short_script_costs_no_other_its_own() -> None:
    # The module of this one does not exist, and would not be imported if it did.
    foreign = replace(WRONG, setting=Setting("no_such_module:kernel"))
    twice = replace(WRONG, input_sets=WRONG.input_sets * 2)
    found = short_scripts([foreign, twice, NAN])
    assert set(found) == {NAN.id}
    assert short_scripts([]) == {}


# --- titles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "result", "words"),
    [
        (WRONG, failing(WRONG), "inductor: wrong value: cumsum of int32"),
        (WRONG, failing(WRONG, "gradient"), "inductor: wrong value of a gradient: cumsum of int32"),
        (WRONG, failing(WRONG, "gradient", "gradient lost"), "inductor: gradient lost: cumsum of int32"),
        (WRONG, failing(WRONG, "mutation", "wrong mutation"), "inductor: wrong write to an input: cumsum of int32"),
        (WRONG, failing(WRONG, symptom="nondeterministic"), "inductor: other values in each run: cumsum of int32"),
        (
            WRONG,
            failing(WRONG, symptom="wrong value on a later call"),
            "inductor: wrong value on a later call: cumsum of int32",
        ),
        (WRONG, failing(WRONG, "crash", "SIGFPE"), "inductor: crash (SIGFPE): cumsum of int32"),
        (WRONG, failing(WRONG, "memory", "2048 MiB"), "inductor: out of memory (2048 MiB): cumsum of int32"),
        (
            WRONG,
            replace(failing(WRONG, "exception", "TypeError", "TypeError: not taken\nTraceback"), stage="from_export"),
            "inductor (from_export): TypeError: cumsum of int32: not taken",
        ),
        (STRIDES, failing(STRIDES, "metadata", "wrong strides"), "inductor: wrong strides: cat of float32"),
        (NETWORK, failing(NETWORK), "inductor: wrong value: a network of 5 operators"),
        (WRONG, Result("", "inductor", "infra"), "inductor: cumsum of int32"),
    ],
)
def test_titles_are_words(case: Case, result: Result, words: str) -> None:
    assert headline(case, result) == words


def test_a_title_names_all_operators_and_dtypes() -> None:
    case = case_of(lambda x, y: x[0] * y, X, torch.tensor([1, 2]))
    assert headline(case, failing(case)) == "inductor: wrong value: indexing and mul of float32 and int64"
    special = case_of(lambda x: x.__imul__(2) // 3, X)
    assert headline(special, failing(special)) == "inductor: wrong value: mul_ and floordiv of float32"
    made = case_of(lambda: torch.zeros(3) + 1)
    assert headline(made, failing(made)) == "inductor: wrong value: zeros and add of float32"


def test_a_network_is_named_by_where_it_goes_wrong() -> None:
    where = Divergence(2, "torch.sin", "output 0[0]", 3)
    told = headline(NETWORK, replace(failing(NETWORK), divergence=where))
    assert told == "inductor: wrong value: a network of 5 operators, first wrong behind sin"


def test_a_title_fits_a_line() -> None:
    told = headline(WRONG, failing(WRONG, "exception", "RuntimeError", "RuntimeError: " + "words " * 50))
    assert len(told) <= 120
    assert told.endswith("...")


def test_a_note_that_says_more_stands_in_the_place_of_what_it_repeats(
    campaign: Campaign, four: dict[str, str], told: Callable[..., str]
) -> None:
    def state(note: str) -> str:
        with closing(sqlite3.connect(campaign.directory / NAME)) as connection, connection:
            connection.execute("UPDATE bugs SET k = 1, n = 1, note = ? WHERE id = ?", (note, four["wrong"]))
        return next(line for line in told("show", four["wrong"]).splitlines() if line.startswith("  state "))

    both = "1 of 1 fresh processes, 3 of 3 fresh workers"
    assert state(both) == f"  state     confirmed: {both}; seen 3 times"
    assert state("behind others") == "  state     confirmed: 1 of 1 fresh processes; seen 3 times; behind others"

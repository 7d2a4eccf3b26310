"""What the gate decides, from values, what it writes, and when it ends; no environment is started here."""

import json
import sys
import time
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.edit import Builder
from shakeout.corpus.program import TensorType
from shakeout.corpus.rows import Totals
from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable
from shakeout.fuzz.gate import folder as folders
from shakeout.fuzz.gate import unsupported
from shakeout.fuzz.gate.asked import Asked
from shakeout.fuzz.gate.budget import DECIDING, ENDING, LEAST_SECONDS, Budget
from shakeout.fuzz.gate.cases import Candidate
from shakeout.fuzz.gate.deciding import Deciding
from shakeout.fuzz.gate.decision import ERROR, LEAST_COMPARED, Trials, decide, needed, vacuous
from shakeout.fuzz.gate.gate import Gate
from shakeout.fuzz.gate.junit import junit
from shakeout.fuzz.gate.pair import Pair
from shakeout.fuzz.gate.record import Record
from shakeout.fuzz.gate.sarif import sarif
from shakeout.fuzz.gate.sending import Done, Errand, versions_of, waited
from shakeout.fuzz.gate.sides import Broken, Side
from shakeout.fuzz.gate.summary import LARGEST, summary
from shakeout.fuzz.gate.told import Finding, Outcome, Refusal, Replay, SideTold
from shakeout.fuzz.gate.trials import Run, Runs, trials
from shakeout.fuzz.gate.verdict import verdict
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.results import Result

# --- the decision -----------------------------------------------------------------------------------------------------


def runs(*seen: str, note: str = "") -> Trials:
    return Trials(tuple(seen), note)  # type: ignore[arg-type]


def times(k: int, what: str) -> Trials:
    return runs(*[what] * k)


@pytest.mark.parametrize("before", [0, 1, 4, 20])
@pytest.mark.parametrize("error", [0.1, 0.001, 1e-6])
def test_so_many_runs_keep_the_error_rate_whatever_the_probability_of_the_failure(before, error):
    k = needed(before, error)
    worst = max((p / 1000) ** (before + k) * (1 - p / 1000) ** k for p in range(1001))
    assert worst <= error
    # One run fewer would not.
    if k > 1:
        assert max((p / 1000) ** (before + k - 1) * (1 - p / 1000) ** (k - 1) for p in range(1001)) > error * 0.99


def test_a_failure_that_was_seen_to_be_reliable_needs_fewer_runs():
    assert [needed(before, ERROR) for before in (0, 4, 20)] == [5, 4, 3]


@pytest.mark.parametrize(
    ("head", "base", "blocks", "reason"),
    [
        (times(4, "fails"), times(4, "passes"), True, "fails 4 of 4 on the head, 0 of 4 on the base"),
        (times(4, "fails"), times(4, "fails"), False, "the base has it too"),
        (times(4, "fails"), runs("passes", "passes", "fails", "passes"), False, "the base has it too, in 1 of 4 runs"),
        (runs("fails", "fails", "passes", "fails"), times(4, "passes"), False, "flaky: it fails in 3 of 4 runs"),
        (times(4, "fails"), runs("passes", "passes", "otherwise", "passes"), False, "the base fails too, otherwise"),
        (times(4, "fails"), times(4, "declined"), True, "the base declines it"),
        (times(4, "fails"), times(4, "absent"), True, "is new since the base"),
        (times(4, "fails"), runs("passes", "unclear", "passes", "passes"), False, "cannot be decided"),
        (times(4, "fails"), runs("passes", "declined", "passes", "passes"), False, "cannot be decided"),
        (times(4, "fails"), runs("passes"), False, "cannot be decided"),
        (times(4, "unclear"), times(4, "passes"), False, "cannot be decided: it did not run on the head"),
        (runs(), runs(), False, "cannot be decided"),
        (times(4, "late"), times(4, "passes"), False, "not decided: the budget was over"),
        (times(4, "fails"), times(4, "late"), False, "not decided: the budget was over"),
        (runs("fails", "passes", "fails", "fails"), times(4, "late"), False, "flaky"),
    ],
)
def test_only_what_fails_always_on_the_head_and_never_on_the_base_blocks(head, base, blocks, reason):
    decision = decide(head, base)
    assert decision.blocking is blocks
    assert reason in decision.reason


def test_what_is_known_to_be_flaky_blocks_never():
    assert not decide(times(4, "fails"), times(4, "passes"), flaky="only 1 of 3 fresh processes").blocking


def test_a_gate_that_compared_next_to_nothing_is_vacuous():
    assert not vacuous({"a": (200, 100), "b": (30, 3)})
    assert vacuous({"a": (200, 100), "b": (30, 0)}) == ["b: 0 of 30 cases compared"]
    assert vacuous({"a": (1000, 19)}) == ["a: 19 of 1000 cases compared"]  # collapsed
    assert vacuous({"a": (LEAST_COMPARED, LEAST_COMPARED - 1)})
    # Much that was compared elsewhere says nothing of what the change touches.
    assert vacuous({"a": (200, 100), "b": (30, 3)}, changed=["b"])
    assert vacuous({"a": (200, 100)}, operators=0)
    assert not vacuous({"a": (200, 100)}, operators=LEAST_COMPARED)


# --- what is written --------------------------------------------------------------------------------------------------


def finding(number: int = 0, *, blocking: bool = True, text: str = "program") -> Finding:
    head, base = times(4, "fails"), times(4, "passes" if blocking else "fails")
    return Finding(
        id=f"SH-{number:04x}",
        title=f"lib.k:k: wrong value: <sum> of `float32` {number}",
        signature="lib.k:k | value | wrong value | torch.sum",
        target="lib.k:k",
        symptom="wrong value",
        origin="fuzz",
        decision=decide(head, base),
        reduced=True,
        operators=("torch.sum",),
        text=text,
        case=f"cases/SH-{number:04x}.json",
        script=f"cases/SH-{number:04x}.py",
        file="lib/k k.py" if number == 0 else "",
        line=7,
    )


def outcome(*findings: Finding, status: Exit = Exit.FOUND) -> Outcome:
    return Outcome(
        status,
        "blocked: 1 new bug",
        SideTold("base", "main (abc)", "/usr/bin/python3", "abc", {"python": "3.12.0"}),
        SideTold("head", "def", "/usr/bin/python3", "def", {"python": "3.12.0"}),
        findings,
        (Refusal("0123", "lib.k:k", "NotImplementedError: rank 1", ("torch.sum",), False, "refusals/0123.json"),),
        (
            Replay("old", "lib.k:k", "passes"),
            Replay("older", "lib.k:k", "cannot run", "no g++"),
        ),
        {"lib.k:k": Totals(generated=90, nontrivial=80)},
        seed=5,
        seconds={"all": 41.5},
        notes=("lib.k:new is new: the base has none",),
    )


def test_junit_has_a_failure_for_what_blocks_and_a_reason_for_what_does_not():
    told = outcome(finding(0, text="a\x00b\x1b[0m ]]> <"), finding(1, blocking=False))
    root = xml.fromstring(junit(told))
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    assert int(suite.get("tests", "0")) == len(suite.findall("testcase"))
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "fails 4 of 4 on the head, 0 of 4 on the base"
    assert "]]> <" in (failure.text or "")
    skipped = [one.get("message") for one in suite.iter("skipped")]
    assert "the base has it too" in skipped
    assert "cannot run: no g++" in skipped
    assert not list(suite.iter("error"))


def test_junit_has_an_error_where_an_environment_is_broken():
    root = xml.fromstring(junit(replace(outcome(), status=Exit.INFRASTRUCTURE, verdict="the base has no torch")))
    (error,) = root.iter("error")
    assert error.get("message") == "the base has no torch"


def test_sarif_has_what_code_scanning_asks_for():
    told = json.loads(sarif(outcome(finding(0), finding(1, blocking=False))))
    assert told["version"] == "2.1.0"
    (run,) = told["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "shakeout"
    rules = [rule["id"] for rule in driver["rules"]]
    assert all(len(rule["shortDescription"]["text"]) <= 1024 for rule in driver["rules"])
    assert [one["level"] for one in run["results"]] == ["error", "note", "warning"]
    for one in run["results"]:
        assert rules[one["ruleIndex"]] == one["ruleId"]
        assert one["message"]["text"]
        (place,) = one["locations"]
        uri = place["physicalLocation"]["artifactLocation"]["uri"]
        assert not uri.startswith("/")
        assert " " not in uri
        assert place["physicalLocation"]["region"]["startLine"] >= 1
        assert all(isinstance(value, str) and len(value) <= 200 for value in one["partialFingerprints"].values())
    first, second, _ = run["results"]
    # One signature is one alert, in whichever commit it is seen.
    assert first["partialFingerprints"] == second["partialFingerprints"]
    assert first["locations"][0]["physicalLocation"]["region"]["startLine"] == 7


def test_sarif_fits_its_schema():
    schema = json.loads((Path(__file__).parents[1] / "schemas" / "sarif-2.1.0-rtm.5.json").read_text())
    official = jsonschema.Draft4Validator(schema)
    quiet = replace(outcome(status=Exit.INFRASTRUCTURE), refusals=())
    for told in outcome(finding(0), finding(1, blocking=False)), quiet:
        official.validate(json.loads(sarif(told)))
    # The schema would see a mistake.
    broken = json.loads(sarif(outcome(finding(0))))
    broken["runs"][0]["results"][0]["level"] = "fatal"
    assert not official.is_valid(broken)


def test_the_summary_begins_with_what_blocks_and_escapes_what_others_wrote():
    text = summary(outcome(finding(0, text="x = '<b>'\n```\nend"), finding(1, blocking=False)))
    assert text.startswith("# Shakeout gate: red\n")
    assert "\\<sum\\> of \\`float32\\`" in text
    assert "````text\n" in text  # the fence is longer than the one in it
    assert text.index("fails 4 of 4 on the head") < text.index("the base has it too")
    assert "does not block without `--refusals`" in text


def test_the_summary_stays_below_a_mebibyte():
    text = summary(outcome(*(finding(number, text="ü" * 60_000) for number in range(19)), *map(finding, range(9000))))
    assert len(text.encode()) < LARGEST
    assert text.rstrip().endswith("*Cut off here; gate.json has all of it.*")
    assert text.count("\n```") % 2 == 0


def test_the_outcome_is_json_and_says_what_blocks():
    told = json.loads(json.dumps(outcome(finding(0), finding(1, blocking=False)).to_json()))
    assert told["blocking"] == ["SH-0000"]
    assert told["status"] == 1
    assert told["findings"][1]["decision"]["reason"] == "the base has it too"


def test_the_folder_of_an_earlier_gate_is_set_aside_and_nobody_elses(tmp_path):
    place = tmp_path / "out"
    with folders.made(place) as made:
        (made / "mine").touch()
    again = folders.made(place)
    with folders.made(place), pytest.raises(DirectoryUnusable, match="another Shakeout works"):
        again.__enter__()
    assert (tmp_path / "out.previous").is_dir()
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter").touch()
    with pytest.raises(DirectoryUnusable, match="holds what no gate has written"), folders.made(other):
        pass
    assert (other / "letter").exists()


def test_a_full_disk_is_told_before_anything_is_started(small_disk):
    with pytest.raises(DirectoryUnusable, match="is full"):
        folders.made(small_disk / "out").__enter__()


# --- what became unsupported ------------------------------------------------------------------------------------------


def test_of_each_reason_the_smallest_case_that_the_base_takes_is_told():
    whole, numbers = refused("torch.sum", "int64"), refused("torch.sum", "float32")
    reasons = [f"NotImplementedError: rank {number}" for number in range(2)]
    (key,) = {unsupported.reason_key("k", reason) for reason in reasons}
    messages = [
        {"declined": key, "case": case.text, "reason": reason}
        for case, reason in zip((whole, numbers), reasons, strict=True)
    ]
    found, more = unsupported.declined([{"event": {}}, *messages, {"declined": key}])
    assert more == 0
    assert {one.candidate.case for one in found} == {whole, numbers}
    assert {one.count for one in found} == {3}
    # The base declines whole numbers as well, and for the same reason; of the others only the head does.
    head = {one.candidate.id: ran("unsupported", "unsupported") for one in found}
    base = {whole.id: ran("unsupported", "unsupported"), numbers.id: ran("compared", "compared")}
    (new,) = unsupported.newly(found, head, base)
    assert new.candidate.case == numbers
    assert not unsupported.newly(found, {numbers.id: ran("unsupported", "compared")}, base)
    assert not unsupported.newly(found, head, {numbers.id: Runs((), "no torch")})


def refused(operator: str, dtype: str) -> Case:
    builder, given = Builder(), TensorType(dtype, (2,))
    program = builder.program([builder.call(operator, (builder.input(given),), given).index])
    inputs = InputSet((Storage(dtype, 2, Values("integers", 0, -2, 2)),), (View(0, dtype, (2,), contiguous((2,))),))
    return Case(program, (inputs,), Setting("k"))


def ran(*statuses: str) -> Runs:
    return Runs(tuple(Run(Result("", "k", status), None, "") for status in statuses))


def test_runs_become_behaviours():
    wrong, other = Failure("k", "value", "wrong value"), Failure("k", "crash", "SIGSEGV")
    seen = (Run(Result("", "k", "compared"), wrong, "a"), Run(Result("", "k", "failed"), other, "b  c"))
    told = trials(Runs((*seen, *ran("compared", "unsupported", "infra").runs)), wrong, 5)
    assert told.runs == ("fails", "otherwise", "passes", "declined", "unclear")
    assert told.note == "b c"
    assert trials(Runs(seen), None, 2).runs == ("fails", "fails")
    assert trials(Runs((), "no torch"), wrong, 2) == Trials(("unclear", "unclear"), "no torch")
    assert trials(None, wrong, 1).runs == ("late",)


# --- the flow, with sides that are only told of -----------------------------------------------------------------------

WRONG = Failure("k", "value", "wrong value")


class Sides:
    """A pair whose base fails on some cases; the head fails on all. From ``late`` on there is no time for any run."""

    def __init__(self, base_fails: set[str], smaller: dict[str, Path] | None = None, late: int = 99) -> None:
        self.base_fails = base_fails
        self.smaller = smaller or {}
        self.late = late
        self.ran: list[tuple[str, ...]] = []
        self.base, self.head = "base", "head"

    def absent(self, target: str) -> bool:
        return False

    def place(self, target: str) -> dict:
        return {}

    def _base(self, candidates, k):
        return {one.id: failed(k) if one.id in self.base_fails else ran(*["compared"] * k) for one in candidates}

    def _told(self, what, candidates):
        self.ran.append((what, *(one.id for one in candidates)))
        return candidates if len(self.ran) <= self.late else []

    def once(self, side, candidates, until):
        return self._base(self._told("once", candidates), 1)

    def both(self, ours, theirs, k, until):
        ours = self._told(f"{k} times", ours)
        return {one.id: failed(k) for one in ours}, self._base([one for one in theirs if one in ours], k)

    def reduce(self, files, seconds, until):
        return {id_: path for id_, path in self.smaller.items() if id_ in files}


def failed(k: int) -> Runs:
    return Runs(tuple(Run(Result("", "k", "compared"), WRONG, "wrong") for _ in range(k)))


def candidate(id_: str, *, reduced: bool = True, group: str = "", flaky: str = "") -> Candidate:
    case = refused("torch.neg", "float32")
    return Candidate(id_, case, "fuzz", failure=WRONG, reduced=reduced, group=group, flaky=flaky)


@pytest.fixture
def deciding(tmp_path):
    """Makes what decides with a pair; the time is not over for an hour."""

    def make(pair: Sides, **asked) -> Deciding:
        began = time.monotonic()
        record = Record(SideTold("base", "base", ""), SideTold("head", "", ""), began)
        request = Asked("base", tmp_path / "out", ("k",), **asked)
        return Deciding(request, Budget(3600.0, began), pair, record, lambda text: None)  # type: ignore[arg-type]

    return make


def concluded(deciding: Deciding) -> tuple[Exit, str]:
    deciding.record.totals = {"k": Totals(generated=90, nontrivial=80)}
    return verdict(deciding.asked, deciding.record, {})


def test_what_the_base_is_known_to_have_runs_there_once(deciding):
    pair = Sides({f"{number}" for number in range(9)})
    found = deciding(pair).decided([candidate(str(number)) for number in range(10)])
    assert pair.ran == [("once", *map(str, range(10))), ("5 times", "9")]
    assert [one.id for one in found if one.decision.blocking] == ["9"]
    assert {one.decision.reason for one in found if not one.decision.blocking} == {"the base has it too"}


def test_all_are_run_at_once_as_often_as_the_one_that_needs_most(deciding):
    pair = Sides(set())
    deciding(pair).decided([replace(candidate("measured"), tried=4), candidate("raw")])
    assert pair.ran == [("5 times", "measured", "raw")]


def test_a_flaky_finding_is_told_and_not_run(deciding):
    pair = Sides(set())
    (found,) = deciding(pair).decided([candidate("a", flaky="only 1 of 3 fresh processes")])
    assert pair.ran == []
    assert found.decision.reason == "flaky: only 1 of 3 fresh processes"


def test_what_blocks_and_is_large_is_made_small_if_the_small_one_blocks_still(deciding, tmp_path):
    path = tmp_path / "small.json"
    path.write_text(refused("torch.neg", "int64").text)
    for base_fails, left in (set(), ["a.min"]), ({"a.min"}, ["a"]):
        flow = deciding(Sides(base_fails, {"a": path}))
        rough = candidate("a", reduced=False)
        flow.decided([rough])
        flow.reduced([rough])
        assert [one.id for one in flow.record.findings] == left
        assert flow.record.findings[0].decision.blocking


def test_a_finding_that_a_bug_of_the_base_hides_is_decided_about_on_its_own(deciding):
    pair = Sides({"a", "a.1"})
    flow = deciding(pair)
    flow.everything([candidate("a")], [candidate("a.1", group="a"), candidate("a.2", group="a")], [])
    assert pair.ran == [("5 times", "a"), ("once", "a.1", "a.2"), ("5 times", "a.2")]
    assert [(one.id, one.decision.blocking) for one in flow.record.findings] == [("a", False), ("a.2", True)]
    assert concluded(flow) == (Exit.FOUND, "blocked: 1 new bug")


def test_what_is_small_is_decided_about_first_and_the_rest_if_there_is_time(deciding):
    bugs = [candidate("rough", reduced=False), candidate("small")]
    for over in False, True:
        pair = Sides(set())
        flow = deciding(pair)
        if over:
            flow = replace(flow, budget=Budget(1.0, time.monotonic() - 2.0))
        flow.everything(bugs, [], [])
        assert pair.ran == [("5 times", "small"), *([] if over else [("5 times", "rough")])]
        said = ["1 further findings were not decided about, since one blocks already"] if over else []
        assert flow.record.notes == said
        assert concluded(flow)[0] is Exit.FOUND


def test_a_finding_that_there_was_no_time_to_decide_is_no_green_gate(deciding):
    flow = deciding(Sides(set(), late=0))
    flow.everything([candidate("a")], [], [])
    (found,) = flow.record.findings
    assert (found.decision.blocking, found.decision.reason) == (False, "not decided: the budget was over")
    status, said = concluded(flow)
    assert status is Exit.VACUOUS
    assert said.startswith("vacuous: 1 case that fails on the head could not be decided: the budget was over")


def test_what_became_unsupported_blocks_or_was_looked_for_at_least(deciding, monkeypatch):
    kept = candidate("kept")
    refused_ones = [unsupported.Declined(kept, "rank 1", 1, "key")]
    for late, asked, status in (0, True, Exit.VACUOUS), (0, False, Exit.OK), (99, True, Exit.FOUND):
        pair = Sides(set(), late=late)
        monkeypatch.setattr(
            pair,
            "both",
            lambda ours, theirs, k, until: (
                {kept.id: ran(*["unsupported"] * k)},
                {kept.id: ran(*["compared"] * k)},
            ),
        )
        flow = deciding(pair, refusals=asked)
        flow.refusals(refused_ones)
        assert concluded(flow)[0] is status


def test_a_stored_case_that_is_declined_now_is_tried_on_the_base_and_one_without_time_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gate = Gate(Asked("base", tmp_path / "out", ("k",)))
    kept, late = candidate("kept"), candidate("late")
    pair = Sides(set())
    monkeypatch.setattr(pair, "once", lambda side, found, until: {kept.id: ran("unsupported")})
    gate._corpus = {Path("regressions"): [kept, late]}
    failing, declined_ones = gate._replayed(pair)  # type: ignore[arg-type]
    assert failing == []
    assert [one.candidate.id for one in declined_ones] == ["kept"]
    assert [(one.id, one.state) for one in gate._record.replays] == [("kept", "declined"), ("late", "not run")]
    status, said = verdict(gate._asked, gate._record, gate._corpus)
    assert status is Exit.VACUOUS
    assert "1 of 2 cases of regressions were not replayed: the budget was over" in said


def test_a_corpus_that_holds_nothing_which_runs_is_no_green_gate(deciding):
    flow = deciding(Sides(set()))
    flow.record.totals = {"k": Totals(generated=90, nontrivial=80)}
    for kept in [], [candidate("b")]:
        flow.record.replays = [Replay(one.id, "k", "cannot run", "no g++") for one in kept]
        status, said = verdict(flow.asked, flow.record, {Path("emptied"): kept})
        assert (status, said) == (Exit.VACUOUS, "vacuous: emptied holds no case that runs here")


def test_a_green_gate_says_what_it_rests_on(deciding):
    flow = deciding(Sides(set()))
    flow.record.replays = [Replay("a", "k", "passes"), Replay("b", "k", "cannot run")]
    assert concluded(flow) == (Exit.OK, "nothing new; 80 cases compared, 1 of 2 stored ones replayed")


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [5.0, 40.0, 300.0, 3600.0])
@pytest.mark.parametrize("late", [0.0, 0.2, 0.9, 2.0])
@pytest.mark.parametrize("starting", [0.5, 6.5, 60.0])
def test_each_part_of_a_gate_ends_in_time_for_the_next_however_late_it_begins(seconds, late, starting):
    budget = Budget(seconds, 1000.0, starting)
    now = 1000.0 + late * seconds
    assert budget.last + ENDING <= 1000.0 + seconds + max(30.0, 0.1 * seconds)
    planned = now + budget.loading + budget.fuzzing(now)
    cut = budget.cut(planned)
    assert budget.began < cut <= budget.last - DECIDING
    assert cut >= min(planned, budget.last - DECIDING)  # what little there is is fuzzed
    assert budget.fuzzing(now) >= budget.fuzzing(now, 0.2 * seconds) >= LEAST_SECONDS
    if not late and seconds > 5:
        # Deciding has what starting both sides takes here, unless that leaves no time to fuzz.
        assert planned >= cut or budget.last - cut >= min(4 * starting, (budget.last - budget.began) / 2)
    assert 0 <= budget.half(now) <= max(budget.last - now, 0.0)


def test_a_campaign_for_which_there_is_no_time_is_vacuous_and_says_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gate = Gate(Asked("base", tmp_path / "out", ("k",)))
    steps = [{"event": {"event": "Warming", "step": step, "done": done}} for step, done in (("k", False), ("k", True))]
    last = {"event": {"event": "Warming", "step": "loading the operators", "done": False}}
    pair = Sides(set())
    for told, where in (steps, ""), ([*steps, last], " at loading the operators"):
        monkeypatch.setattr(pair, "fuzz", lambda *_: Done({}, tuple(told), late=True), raising=False)  # noqa: B023
        assert gate._fuzzed(pair) == ([], [], [])  # type: ignore[arg-type]
        assert gate._record.notes[-1] == f"the budget was over before the campaign, which was ended{where}"
    status, said = verdict(gate._asked, gate._record, {})
    assert (status, said) == (Exit.VACUOUS, "vacuous: k: 0 of 0 cases compared")


def test_the_budget_waits_for_the_samples_of_a_torch_that_is_new_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gate = Gate(Asked("base", tmp_path / "out", ("k",), budget=60.0))
    collected: list[float] = []
    pair = Sides(set())
    pair.about = {"head": {"samples": False, "versions": {"torch": "2.99"}}}  # type: ignore[attr-defined]

    def collect(until: float) -> bool:
        collected.append(until)
        time.sleep(0.2)
        return len(collected) == 1

    pair.collect = collect  # type: ignore[attr-defined]
    before = gate._budget
    gate._collect(pair)  # type: ignore[arg-type]
    assert len(collected) == 1
    assert gate._budget.last >= before.last + 0.2
    assert gate._budget.seconds == 60.0
    (note,) = gate._record.notes
    assert note.startswith("the samples of torch 2.99's operators were collected in 0 s, which the budget is not for")
    assert note.endswith("a SHAKEOUT_CACHE that is kept between jobs spares them")
    gate._collect(pair)  # type: ignore[arg-type]
    assert "they could not be kept, and the campaign collects them again" in gate._record.notes[-1]
    pair.about["head"]["samples"] = True  # type: ignore[attr-defined]
    later = gate._budget
    gate._collect(pair)  # type: ignore[arg-type]
    assert (len(collected), gate._budget) == (2, later)


def test_a_case_that_may_hang_when_the_time_is_over_is_no_green_gate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gate = Gate(Asked("base", tmp_path / "out", ("k",)))
    pair = Sides(set())
    answer = {"reason": "time", "left": [], "overdue": [["k", 12.3]]}
    monkeypatch.setattr(pair, "fuzz", lambda *_: Done(answer), raising=False)
    gate._fuzzed(pair)  # type: ignore[arg-type]
    gate._record.totals = {"k": Totals(generated=90, nontrivial=80)}
    status, said = verdict(gate._asked, gate._record, {})
    assert status is Exit.VACUOUS
    assert said.startswith("vacuous: a case on k was at work for 12 s, far longer than others, and may hang: ")


def hanging(tmp_path: Path, text: str) -> Side:
    """A side whose interpreter is a script."""
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{text}\n")
    python.chmod(0o755)
    return Side("base", "old", python, tmp_path)


def test_an_errand_whose_time_is_over_is_asked_to_end_and_what_it_told_counts(tmp_path):
    side = hanging(
        tmp_path,
        """
import json, os, signal, sys, time
tell = lambda what: os.write(int(sys.argv[4]), json.dumps(what).encode() + b"\\n")
def end(number, frame):
    tell({"done": {"reason": "interrupted"}})
    sys.exit()
signal.signal(signal.SIGTERM, end)
tell({"row": 1})
time.sleep(60)
""",
    )
    began = time.monotonic()
    (done,) = waited([Errand(side, tmp_path / "scratch", {"errand": "replay"}).start()], until=began + 1.0)
    assert (done.late, done.messages, done.answer) == (True, ({"row": 1},), {"reason": "interrupted"})
    assert time.monotonic() - began < 1.0 + ENDING


def test_an_errand_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr("shakeout.fuzz.gate.sending.GIVEN", 0.3)
    side = hanging(
        tmp_path,
        "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.write(int(sys.argv[4]), b'{\"row\": 1}\\n')\ntime.sleep(60)",
    )
    began = time.monotonic()
    errand = Errand(side, tmp_path / "scratch", {"errand": "replay"}).start()
    time.sleep(0.3)  # it ignores the signal by then
    (done,) = waited([errand], until=began + 0.5)
    assert (done.late, done.messages) == (True, ({"row": 1},))
    assert time.monotonic() - began < 5.0


def test_a_base_that_hangs_as_a_whole_is_told(tmp_path):
    text = "import sys, time\nprint(3, 12) if '-c' in sys.argv else time.sleep(60)"
    base, head = hanging(tmp_path, text), replace(hanging(tmp_path, text), role="head")
    pair = Pair(base, head, ("k",), tmp_path / "scratch", 1, 1 << 30, lambda event: None, lambda: False)
    with pytest.raises(Broken, match="did not say what is installed there before the budget was over"):
        pair.look(time.monotonic() + 1.0)
    with pytest.raises(Broken, match=r"its interpreter .* does not run: .*timed out"):
        versions_of(hanging(tmp_path, "import time\ntime.sleep(60)"), time.monotonic() + 0.5)

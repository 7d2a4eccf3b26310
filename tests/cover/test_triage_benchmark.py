"""The scores of the benchmark of triage: what is one cause, what was lost, and what was told twice."""

from collections import Counter
from dataclasses import replace

from tests.benchmarks.campaigns import Row
from tests.benchmarks.triaging import cost, faults, kernels, kill
from tests.benchmarks.triaging.again import STOCK
from tests.faults.mistakes import MISTAKES

BUG = Row("SH-1", "confirmed", "", 3, "value", "wrong value", True, "", ("torch.sin",), ())


def campaign(*bugs: dict) -> dict:
    return {"target": "export", "set": 0, "findings": 9, "waiting": 0, "list": list(bugs)}


def test_a_bug_is_one_cause_if_one_fault_explains_all_of_its_cases() -> None:
    assert faults.judged(BUG, [["sine"], ["sine", "cast"], [], None])["one"]
    assert not faults.judged(BUG, [["sine"], ["cast"]])["one"]
    assert not faults.judged(BUG, [["sine", "cast"], ["sine"], ["cast"]])["one"]
    # A grown network that fails without any fault says nothing of the faults.
    assert faults.judged(BUG, [["sine"], [STOCK]])["one"]
    # What nothing explains is not of the faults, and so no bug that counts.
    assert faults.judged(BUG, [None])["causes"] == []


def test_rows_are_counted_for_each_fault() -> None:
    sine, both = faults.judged(BUG, [["sine"]]), faults.judged(BUG, [["cast", "sine"], ["sine"]])
    mixed, stock = faults.judged(BUG, [["max"], ["cast"]]), faults.judged(BUG, [[STOCK]])
    assert [faults.cause(bug) for bug in (sine, both, mixed, stock)] == ["sine", "sine", "max", ""]
    counts = faults.scores([campaign(sine, both, mixed, stock)])
    assert (counts["bugs"], counts["stock"], counts["planted"], counts["one"], counts["faults"]) == (4, 1, 3, 2, 2)
    told = "\n".join(faults.told([campaign(sine, both, mixed, stock)]))
    assert "2 rows: export: sine" in told
    assert "several causes: export" in told
    assert "0.67" in told
    assert "1.50" in told


def test_the_first_bug_is_the_mistake_only_if_all_of_it_fits() -> None:
    mistake = next(one for one in MISTAKES if one.kind == "NaN")
    bug = replace(BUG, operators=(mistake.target,), symptom="NaN lost")
    assert kernels.is_mistake(mistake, bug, "")
    assert not kernels.is_mistake(mistake, bug, "value/NaN lost"), "it fails where the kernel is mended"
    assert not kernels.is_mistake(mistake, bug, None)
    assert not kernels.is_mistake(mistake, replace(bug, symptom="wrong value"), "")
    assert not kernels.is_mistake(mistake, replace(bug, operators=("torch.relu",)), "")


def left(**changes) -> kill.Left:
    bugs, findings = Counter({"t value wrong confirmed": 1}), Counter({"t value wrong": 2})
    once = Counter({"SH-1": 1})
    return replace(kill.Left(bugs, findings, 2, 0, once, once, frozenset({"SH-1"})), **changes)


def test_what_is_lost_and_what_is_told_twice() -> None:
    def losses(**changes) -> tuple[int, int, int]:
        row = kill.compared(left(**changes), left())
        return row["lost"], row["twice"], row["untold"]

    assert losses() == (0, 0, 0)
    assert losses(waiting=1) == (1, 0, 0)
    assert losses(findings=Counter({"t value wrong": 1})) == (2, 0, 0), "missing, and not what the totals say"
    assert losses(findings=Counter({"t value wrong": 3})) == (0, 2, 0)
    assert losses(bugs=Counter({"t value wrong confirmed": 2})) == (0, 1, 0)
    assert losses(bugs=Counter()) == (1, 0, 0)
    assert losses(confirmed=Counter({"SH-1": 2})) == (0, 1, 0)
    assert losses(opened=Counter()) == (0, 0, 1)


def test_the_cost_of_a_bug_is_a_median() -> None:
    costs = [{"bug": str(n), "core_seconds": float(n)} for n in (1, 2, 30)]
    (_, line) = cost.told([{"target": "export", "how": "triage", "list": costs}])
    assert line.split()[:5] == ["export", "3", "2.0", "11.0", "30.0"]

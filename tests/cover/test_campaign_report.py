"""A campaign's report: what the database has stands in it as values, and its Markdown says all of it."""

from pathlib import Path

import pytest

from shakeout.corpus.database import NAME, Database
from shakeout.corpus.rows import KnownBugReplay, Totals
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.reporting.bug_list import BugList
from shakeout.fuzz.reporting.campaign_report import CampaignReport, Reason, TargetTime, gathered
from shakeout.fuzz.reporting.markdown import markdown, write_report
from shakeout.fuzz.reporting.notes import CountedNote
from shakeout.fuzz.reporting.rules import CountedRule
from shakeout.fuzz.reporting.short_scripts import short_scripts
from shakeout.oracles.verdict import Note, Outcome, Verdict

#: What a worker said before it died while it grew a case.
DYING = {"call": "torch.sin(v1)", "output": "Segmentation fault"}


def failing(case: str, oracle: str, **evidence: object) -> Result:
    verdicts = (Verdict(oracle, Outcome.FAIL, "wrong value", "it is | off", place="output 0", evidence=evidence),)
    return Result(case, "planted", "compared", verdicts)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A campaign with something of everything that a report tells."""
    directory = tmp_path / "some campaign"
    directory.mkdir()
    case = selftest.case("wrong value").on("planted")
    with Database.create(directory / NAME) as database, database.transaction():
        compared = Totals(generated=1, valid=1, executed=1, compared=1, nontrivial=1)
        phases = {"run": 1.5, "waiting": 2.0}
        database.add("planted", compared, operators=["torch.sin", "torch.mul"], fed=["torch.mul"], phases=phases)
        database.add("planted", compared, operators=["torch.sin"])
        stuck = {"status": "unsupported", "reason": "no rule | for it"}
        for _ in range(2):
            database.add("other", Totals(generated=1, unsupported=1), operators=["torch.sin"], **stuck)  # type: ignore[arg-type]
        for _ in range(2):
            database.add("planted", Totals(), status="note", reason="a habit; one may change it")
        database.add("planted", Totals(), status="note", reason="another one")
        database.add("planted", Totals(), status="forgiven", reason="value: next to a pole|torch.sin")
        database.set_meta(spent=61.4, proven={"planted": 1}, related={"scaled": 2, "permuted": 1})
        database.set_meta(programs={"planted": 1}, settings={"planted": 2})
        database.set_meta(disk={"kept": 1_500_000, "compilers": 2_000_000, "headers": 3_000_000})
        database.set_known(KnownBugReplay("k", "an old bug", "https://example.org/1", "fixed", "", "", "planted"))

        def add(name: str, case_id: str, text: str, result: Result, state: str) -> tuple[str, int | None]:
            shown = {"signature": name, "title": f"{name} is wrong", "target": "planted", "oracle": "value"}
            stored = {"case_id": case_id, "case_json": text, "result": result.to_json(), "state": state}
            bug, finding = database.add_finding(**shown, **stored, symptom="wrong value", job=7)  # type: ignore[arg-type]
            return bug.id, finding

        add("dying", "", "", failing("", "crash", **DYING), "history")
        add("own", case.id, case.text, failing(case.id, "value"), "internal")
        for _ in range(2):
            add("unseen", case.id, case.text, failing(case.id, "value"), "new")
        many = [
            add(f"many {number}", case.id, case.text, failing(case.id, "metadata"), "confirmed") for number in range(9)
        ]
        assert len(many) == 9
        add("sure", "a larger one", case.text + " ", failing(case.id, "value", expected=3.0, found=5.0), "new")
        sure, best = add("sure", case.id, case.text, failing(case.id, "value", expected=1.0, found=2.0), "new")
        assert best is not None
        database.judge(best, state="confirmed", k=3, n=3)
    (directory / sure).mkdir()
    (directory / sure / "repro.py").write_text("")
    return directory


def test_the_report_has_what_the_database_has(directory: Path) -> None:
    report = gathered(directory)
    with Database.read(directory / NAME) as database:
        bugs = {bug.signature: bug for bug in database.bugs()}
        assert report.counted.totals == database.totals()
        assert report.counted.bugs == {"bug": 11, "waiting": 1, "internal": 1}
        assert (report.counted.programs, report.counted.settings) == ({"planted": 1}, {"planted": 2})
        assert report.known == tuple(database.known())
        assert sorted(row.operator for row in database.ledger()) == ["torch.mul", "torch.sin", "torch.sin"]
    assert report.name == "some campaign"
    assert report.seconds == 61.4
    assert report.proven == {"planted": 1}
    assert report.related == {"scaled": 2, "permuted": 1}
    assert report.disk == {"kept": 1_500_000, "compilers": 2_000_000, "headers": 3_000_000}
    assert report.times == (TargetTime("planted", {"run": 1.5, "waiting": 2.0}, 2),)
    assert report.times[0].seconds == 3.5
    assert report.times[0].rate == 80.0
    assert report.reasons == {"unsupported": (Reason("other", "no rule | for it", 2),)}
    assert {name: [row.target for row in rows] for name, rows in report.operators.items()} == {
        "torch.sin": ["other", "planted"],
        "torch.mul": ["planted"],
    }
    assert report.fed == 1
    assert report.notes == (
        CountedNote("planted", Note("a habit", "one may change it"), 2, 2),
        CountedNote("planted", Note("another one"), 1, 2),
    )
    assert report.forgiven == (CountedRule("planted", "value: next to a pole", "torch.sin", 1, 2),)
    # Wrong values come first, then what died; what nobody looked at yet is counted, and what is Shakeout's own is
    # nobody's bug.
    assert [shown.bug for shown in report.bugs.ranked[:2]] == [bugs["sure"], bugs["dying"]]
    assert {shown.bug.symptom for shown in report.bugs.ranked[2:]} == {"wrong value"}
    assert report.bugs.waiting == report.counted.waiting == 2
    assert [shown.bug for shown in report.bugs.apart["internal"]] == [bugs["own"]]


def test_a_bug_is_shown_by_its_best_finding(directory: Path) -> None:
    sure, dying, *_ = gathered(directory).bugs.ranked
    assert sure.case == selftest.case("wrong value").on("planted")
    assert sure.result is not None
    assert sure.result.failure is not None
    assert sure.result.failure.evidence["expected"] == 1.0
    assert sure.script == directory / sure.bug.id / "repro.py"
    assert dying.case is None
    assert dying.result is not None
    assert dying.result.verdicts[0].evidence == DYING
    assert dying.script is None


def test_its_markdown_says_all_of_it(directory: Path) -> None:
    report = gathered(directory)
    sure, dying, *others = report.bugs.ranked
    assert sure.case is not None
    text = markdown(report, {sure.case.id: "print('``` inside')"})
    for line in (
        "# Campaign some campaign",
        "| planted | value: next to a pole | torch.sin | 1 | 2 |",
        "1 program under 2.0 settings each, 2 cases compared, 0 bit-exact, 11 new bugs, 0 flaky, 1 internal, 2 findings"
        " waiting for triage; 61 s of fuzzing.",
        "| target | programs | settings | generated | valid | executed | compared | nontrivial | exact | unknown |"
        " unsupported | undefined | invalid | failed | infra | findings |",
        "| planted | 1 | 2 | 2 | 2 | 2 | 2 | 2 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |",
        "| other | - | - | 2 | 0 | 0 | 0 | 0 | 0 | 0 | 2 | 0 | 0 | 0 | 0 | 0 |",
        "Changed by a metamorphic relation and run again: 3 cases (permuted 1, scaled 2).",
        "| planted | 4 | 80 | waiting 57 %, run 43 % |",
        f"### 1. {sure.bug.id} {sure.title}",
        "  rank      silent wrong value at ordinary values and default settings",
        "````python",
        "print('``` inside')",
        "  expected  output 0 = 1.0",
        "  planted   output 0 = 2.0",
        f"  next      shakeout replay {sure.bug.id} · python {sure.script}",
        f"### 2. {dying.bug.id} dying is wrong",
        f"| {others[-1].bug.id} | confirmed | - | 1 | {others[-1].title} | wrong value (metadata) |",
        "2 findings wait for triage; `shakeout triage` works them off.",
        "  growing   last call: torch.sin(v1)",
        "            Segmentation fault",
        "  next      shakeout run with the campaign's seed grows case 7 again",
        "| fixed | an old bug | https://example.org/1 |",
        "## Notes",
        "- planted: a habit in 2 of 2 cases; one may change it",
        "- planted: another one in 1 of 2 cases",
        "## Why unsupported",
        "| other | 2 | no rule \\| for it |",
        "2 operators, 1 of them also fed by another operator's result.",
        "| torch.mul | planted | 1 | 1 | 1 | 0 | 1 |",
    ):
        assert line in text.splitlines(), line
    assert "Bit-exact proven: 1 on planted." in text
    assert "Kept in the campaign's directory: 1.5 MB." in text
    internal = report.bugs.apart["internal"][0]
    assert f"| internal | {internal.bug.id} | 1 | {internal.title} |  |" in text.splitlines()
    assert text.index("## Bugs") < text.index("## Ledger")
    assert all(f"- {package} {version}" in text for package, version in report.packages.items())


def test_of_what_there_is_nothing_it_says_nothing(tmp_path: Path) -> None:
    Database.create(tmp_path / NAME).close()
    report = gathered(tmp_path)
    empty: dict[str, object] = {"bugs": BugList((), 0, {}), "known": (), "reasons": {}, "times": (), "disk": {}}
    assert {name: getattr(report, name) for name in empty} == empty
    heads = [line for line in markdown(report, {}).splitlines() if line.startswith("#")]
    assert heads == [f"# Campaign {tmp_path.name}", "## Bugs", "## Ledger", "## Operators", "## Environment"]


def test_it_is_written_into_the_directory(directory: Path) -> None:
    path = write_report(directory)
    assert path == directory / "report.md"
    report = gathered(directory)
    cases = [shown.case for shown in report.bugs.ranked if shown.case is not None]
    scripts = short_scripts(cases)
    assert path.read_text() == markdown(report, scripts)


def test_it_is_a_value(directory: Path) -> None:
    report: CampaignReport = gathered(directory)
    assert report == gathered(directory)
    with pytest.raises(AttributeError):
        report.name = "another"  # type: ignore[misc]

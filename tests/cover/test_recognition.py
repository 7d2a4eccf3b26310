"""Known bugs recognised in larger cases, counted under a row of their own, and avoided before they run."""

import functools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shakeout.corpus import known, regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.campaign import config
from shakeout.fuzz.campaign.campaign import Campaign
from shakeout.fuzz.campaign.investigation import Investigation
from shakeout.fuzz.campaign.seeds import Seeds
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.counts import counts
from shakeout.fuzz.ground.divergence import Divergence
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.jobs import Grow, Run
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.process.worker import _avoided
from shakeout.fuzz.triage import recognition
from shakeout.fuzz.triage.recognition import Recognition, Remembered, contained, expected
from shakeout.fuzz.triage.shown import Small
from shakeout.fuzz.triage.subprogram import Dissected, leading_to, needs, occurrences
from shakeout.oracles.verdict import Outcome, Verdict

X = torch.tensor([1.0, 2.0])
NAN = torch.tensor([1.0, float("nan")])


def case_of(program: Any, *tensors: torch.Tensor, target: str = "aot_eager", **setting: Any) -> Case:
    return capture(program, lambda: list(tensors), setting=Setting(target, **setting))


def occurs(small: Case, large: Case) -> bool:
    return next(occurrences(Dissected(small), Dissected(large)), None) is not None


# --- sub-programs -----------------------------------------------------------------------------------------------------


def test_an_operator_occurs_in_a_network_that_has_it_in_any_form() -> None:
    small = case_of(lambda x: torch.cumsum(x, 0), X)
    assert occurs(small, small)
    assert occurs(small, case_of(lambda x: x.exp().cumsum(0) + 1, X))
    assert not occurs(small, case_of(lambda x: x.exp() + 1, X))
    assert not occurs(case_of(lambda x: x.exp() + 1, X), small)


@pytest.mark.parametrize(
    ("small", "large", "found"),
    [
        (lambda x: x[-1], lambda x: x.exp()[-2], True),  # both count from the end
        (lambda x: x[-1], lambda x: x.exp()[1], False),
        (lambda x: torch.var(x, correction=-1), lambda x: torch.var(x), False),
        (lambda x: torch.div(x, x), lambda x: torch.div(x, x, rounding_mode="floor"), False),
        (lambda x: x.reshape((1, 2)), lambda x: x.reshape((2, 1, 1)), True),  # sizes are no attribute that matters
        (lambda x: x.mul(2.0), lambda x: x.mul(float("nan")), False),
        (lambda x: x.add_(1), lambda x: x.add(1), False),  # what writes is another thing
    ],
)
def test_attributes_have_to_be_of_the_same_kind(small: Any, large: Any, found: bool) -> None:
    assert occurs(case_of(small, X), case_of(large, X.clone())) == found


def test_dtypes_settings_and_emptiness_have_to_agree() -> None:
    small = case_of(lambda x: x.cosh(), torch.tensor([1]))
    assert occurs(small, case_of(lambda x: x.cosh(), torch.tensor([[1, 2]], dtype=torch.int32)))
    assert not occurs(small, case_of(lambda x: x.cosh(), X))
    assert not occurs(small, case_of(lambda x: x.cosh(), torch.tensor([1]), target="inductor"))
    assert not occurs(small, case_of(lambda x: x.cosh(), torch.empty(0, dtype=torch.int64)))
    dynamic = replace(small, setting=Setting("aot_eager", (("dynamic", True),)))
    assert not occurs(dynamic, small)
    assert occurs(small, dynamic)
    trained = replace(small, setting=Setting("aot_eager", mode="training"))
    assert occurs(small, trained)
    assert not occurs(trained, small)


def test_dataflow_is_followed_through_other_operators_and_writes() -> None:
    small = case_of(lambda x: x.exp().sum(), X)
    assert occurs(small, case_of(lambda x: (x.exp() + 1).sum(), X))
    assert not occurs(small, case_of(lambda x: x.sum().exp(), X))
    assert not occurs(small, case_of(lambda x, y: (x.exp(), y.sum()), X, X))

    def written(x: Any) -> Any:
        x.exp_()
        return x.sum()

    assert occurs(case_of(lambda x: x.exp_().sum(), X.clone()), case_of(written, X.clone()))


def test_where_an_occurrence_leads() -> None:
    large = Dissected(case_of(lambda x: (x.exp() + 1, x.sin()), X))
    first, second = large.case.program.returns
    assert leading_to(large, first) == {0, 1}
    assert leading_to(large, second) == {2}
    assert leading_to(large, 0) == frozenset()
    small = Dissected(case_of(lambda x: x.exp(), X))
    assert list(occurrences(small, large, leading_to(large, first))) == [(0,)]
    assert not list(occurrences(small, large, leading_to(large, second)))


def fed(small: Case, large: Case) -> bool:
    return needs(Dissected(small), Dissected(large))


def test_what_the_small_case_could_not_do_without_has_to_be_there() -> None:
    small = case_of(lambda x: x * 0, NAN)
    assert fed(small, case_of(lambda x: x * 0, NAN))
    assert not fed(small, case_of(lambda x: x * 0, X))
    wide = case_of(lambda x: x * 0, torch.zeros(16))
    assert not fed(wide, small)
    assert fed(wide, case_of(lambda x: x * 0, torch.zeros(3, 64)))
    turned = case_of(lambda x: x * 0, torch.zeros(2, 3).t())
    assert not fed(turned, wide)


# --- findings ---------------------------------------------------------------------------------------------------------

LOST = Failure("aot_eager", "value", "NaN lost")
BUG = Remembered("mul-loses-nan", case_of(lambda x: x * 0, NAN), LOST)


def failing(symptom: str = "NaN lost", place: str = "output 0", oracle: str = "value", **more: Any) -> Result:
    return Result("", "aot_eager", "compared", (Verdict(oracle, Outcome.FAIL, symptom, place=place),), **more)


def test_a_finding_is_known_only_if_failure_and_program_agree() -> None:
    large = case_of(lambda x: ((x * 0).exp(), x.sin()), NAN)
    assert Recognition([BUG]).find(large, failing()) == BUG.id
    assert Recognition([BUG]).find(large, failing("wrong value")) == ""
    assert Recognition([BUG]).find(large, failing(oracle="gradient")) == ""
    assert Recognition([BUG]).find(large, failing(place="output 1")) == ""
    assert Recognition([]).find(large, failing()) == ""
    assert Recognition([BUG]).find(case_of(lambda x: x.sin(), NAN), failing()) == ""


def test_the_first_divergence_has_to_be_of_it() -> None:
    large = case_of(lambda x: (x * 0).exp(), NAN)
    assert Recognition([BUG]).find(large, failing(divergence=Divergence(0, "torch.mul", "", 1))) == BUG.id
    assert Recognition([BUG]).find(large, failing(divergence=Divergence(1, "torch.exp", "", 1))) == ""


def test_every_shipped_case_is_recognised_in_itself() -> None:
    ids = {bug.id for bug in known.load_all()} & {bug.id for bug in regressions.load_all()}
    assert not ids
    for id_, case in recognition.shipped_cases().items():
        assert contained(case, [id_]) == id_


def test_a_status_expires_with_the_release() -> None:
    assert len(expected({"torch": "2.13.0+cpu"})) > 10
    fixed = {bug.id for bug in expected({"torch": "2.13.0"})} - {bug.id for bug in expected({"torch": "2.14.1"})}
    assert "combinations-leaves-pending-symbols" in fixed
    assert expected({"torch": "2.99.0"}) == []


def test_one_finding_is_compared_with_few_of_a_thousand_bugs() -> None:
    words = "exp sin cos tan abs neg sqrt log ceil floor round sign relu erf atan asin acos sinh cosh tanh log1p expm1"
    functions = [getattr(torch, word) for word in words.split()]

    def chain(*path: int) -> Case:
        return case_of(lambda x: functools.reduce(lambda y, i: functions[i](y), path, x), X)

    failure = Failure("aot_eager", "value", "wrong value")
    recognition = Recognition()
    paths = [(i, j, k) for i in range(10) for j in range(10, 20) for k in range(10)]
    for path in paths:
        recognition.add(Remembered(str(path), chain(*path), failure))
    recognition.add(Remembered("once more", chain(*paths[0]), failure))
    for path in paths[::97]:
        assert recognition.find(chain(20, *path, 21), failing("wrong value")) == str(path)
    # What has a family that the finding has not is not compared with it.
    assert recognition.compared < 5 * len(paths[::97])
    recognition.compared = 0
    assert recognition.find(chain(3, 4, 5), failing("wrong value")) == ""
    assert recognition.find(chain(*paths[0]), failing("NaN lost")) == ""
    assert recognition.compared == 0


class Campaigned:
    """The findings of a campaign without workers."""

    def __init__(self, directory: Path) -> None:
        self.told: list[events.Event] = []
        self.database = Database.create(directory / NAME)
        self.investigation = Investigation(self.database, directory, None, self.told.append, memory=1)  # type: ignore[arg-type]

    def find(self, case: Case, result: Result, index: int = 0) -> None:
        job = Grow(number=index, seed=index, target="aot_eager")
        with self.database.transaction():
            self.investigation.found(job, replace(result, case=case.id), case.text, "#", ())

    def seen(self) -> list[events.FindingSeen]:
        return [event for event in self.told if isinstance(event, events.FindingSeen)]


def test_a_known_finding_is_counted_and_not_tried(tmp_path: Path) -> None:
    large = case_of(lambda x: (x * 0).exp(), NAN)
    run = Campaigned(tmp_path)
    run.investigation.store.remember([BUG])
    for index in range(2):
        run.find(large, replace(failing(), signature="coarse"), index)
    assert run.investigation.waiting == 0
    run.find(large, replace(failing("wrong value"), signature="coarse"), 2)
    assert run.investigation.waiting == run.database.waiting() == 1
    assert [(bug.known, bug.state, bug.count) for bug in run.database.bugs()] == [(BUG.id, "known", 2)]
    assert [event.waiting for event in run.seen()] == [False, False, True]


def test_of_one_coarse_signature_the_first_few_are_looked_at_and_then_fewer_and_fewer(tmp_path: Path) -> None:
    run = Campaigned(tmp_path)
    for index in range(40):
        case = case_of(lambda x: x.exp().sin(), torch.tensor([float(index)]))
        run.find(case, replace(failing("wrong value"), signature="coarse"), index)
    assert [event.index + 1 for event in run.seen() if event.waiting] == [1, 2, 3, 4, 8, 16, 32]
    assert run.database.waiting() == 7
    assert run.database.bugs() == []
    assert run.database.group("coarse").pending == 33


def test_a_bug_of_the_campaign_is_recognised_by_its_smallest_case(tmp_path: Path) -> None:
    run = Campaigned(tmp_path)
    store = run.investigation.store
    run.find(case_of(lambda x: (x * 0).exp().sin(), NAN), replace(failing(), signature="coarse"))
    (shown,) = store.waiting(lambda number: Grow(number=number, seed=0, target="aot_eager"))
    small = Small(case_of(lambda x: x * 0, NAN), LOST, failing(), "#")
    bug = store.assign(shown, small)
    assert (run.database.waiting(), bug.count, bug.state) == (0, 1, "new")
    assert (tmp_path / bug.id / "case.min.json").exists()
    assert run.database.smallest_cases()[bug.id].case_json == small.case.text
    run.find(case_of(lambda x: (x * 0).tanh(), NAN), replace(failing(), signature="another"), 1)
    assert (run.database.bug(bug.id).count, run.database.waiting()) == (2, 0)
    # Another campaign process knows it as well.
    with Database.open(tmp_path / NAME) as database:
        again = Investigation(database, tmp_path, None, run.told.append, memory=1)  # type: ignore[arg-type]
        assert again.store._recognised(case_of(lambda x: (x * 0).tanh(), NAN), failing()) == bug.id


def test_one_cause_is_one_bug_and_another_one_of_the_same_coarse_signature_is_not(tmp_path: Path) -> None:
    run = Campaigned(tmp_path)
    store = run.investigation.store
    for index in range(3):
        case = case_of(lambda x: x.exp().sin(), torch.tensor([float(index)]))
        run.find(case, replace(failing("wrong value"), signature="coarse"), index)
    shown = store.waiting(lambda number: Grow(number=number, seed=0, target="aot_eager"))
    failure = Failure("aot_eager", "value", "wrong value")
    made = [case_of(lambda x: x.sin(), X), case_of(lambda x: x.sin(), X.double()), case_of(lambda x: x.exp(), X)]
    smalls = [Small(case, failure, failing("wrong value"), "#") for case in made]
    bugs = [store.assign(*pair) for pair in zip(shown, smalls, strict=True)]
    assert bugs[0].id == bugs[1].id != bugs[2].id
    assert sorted(bug.count for bug in run.database.bugs()) == [1, 2]
    assert [type(event).__name__ for event in run.told].count("BugOpened") == 2
    # What a person splits is not joined again by itself.
    other = run.database.split(bugs[0].id, [shown[1].number])
    assert store.improve(other.id, smalls[1]).id == other.id
    assert len(run.database.bugs()) == 3
    assert run.database.merge(bugs[0].id, other.id).count == 2


SUPERVISOR = """
import sys
from pathlib import Path
from shakeout.corpus.codec import decode
from shakeout.corpus.database import NAME, Database
from shakeout.corpus.user_objects import allow
from shakeout.fuzz.campaign.investigation import Investigation
from shakeout.fuzz.ground.failure import Failure
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.shown import Small
from shakeout.oracles.verdict import Outcome, Verdict

allow("mine.kernels:norm")
directory = Path(sys.argv[1])
case = decode((directory / "case.json").read_text())
verdict = Verdict("value", Outcome.FAIL, "wrong value", place="output 0")
result = Result(case.id, case.setting.target, "compared", (verdict,), signature="coarse")
job = Grow(number=0, seed=0, target=case.setting.target)
with Database.create(directory / NAME) as database:
    investigation = Investigation(database, directory, None, lambda event: None, memory=1)
    with database.transaction():
        investigation.found(job, result, case.text, "#", ())
    (shown,) = investigation.store.waiting(lambda number: job)
    failure = Failure(case.setting.target, "value", "wrong value")
    bug = investigation.store.assign(shown, Small(case, failure, result, "#"))
    with database.transaction():
        investigation.found(job, result, case.text, "#", ())
    assert database.bug(bug.id).count == 2
assert "torch" not in sys.modules
assert "mine" not in sys.modules
"""


@pytest.mark.parametrize("target", ["aot_eager", "mine.kernels:norm"])
def test_the_supervisor_triages_without_torch_and_without_what_a_user_wrote(tmp_path: Path, target: str) -> None:
    case = case_of(lambda x: torch.exp(torch.abs(x)), X, target=target)
    if ":" in target:
        first, second = case.program.calls
        calls = (replace(first, operator=target), second)
        case = replace(case, program=replace(case.program, vocabulary="kernel", calls=calls))
    (tmp_path / "case.json").write_text(case.text)
    subprocess.run([sys.executable, "-c", SUPERVISOR, str(tmp_path)], check=True, timeout=60)


# --- cases that are not run -------------------------------------------------------------------------------------------


def test_a_case_with_a_known_bug_is_not_run_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "shipped_cases", lambda: {BUG.id: BUG.case})
    recognition._dissected.cache_clear()
    large = case_of(lambda x: (x * 0).exp(), NAN)
    job = Grow(seed=0, target="aot_eager", avoid=(BUG.id, "unheard-of"))
    result = _avoided(large, job)
    assert result is not None
    assert result.status == "avoided"
    assert result.reason == f"contains {BUG.id}"
    row = counts(result, 0.0)
    assert (row.generated, row.valid, row.executed, row.compared, row.findings) == (1, 1, 0, 0, 0)
    assert _avoided(case_of(lambda x: x.sin(), NAN), job) is None
    assert _avoided(large, replace(job, avoid=())) is None
    assert _avoided(large, Run(target="aot_eager", case=large.text)) is None, "what is replayed runs"


def test_jobs_stay_away_only_if_asked_and_only_from_their_own_target(tmp_path: Path) -> None:
    settings = config.Config(targets=("aot_eager", "inductor"), cases=4, workers=1)
    for avoid in (False, True):
        with Campaign(replace(settings, avoid_known=avoid), tmp_path / str(avoid)) as campaign:
            campaign.investigation.store.remember([BUG])
            wanted = {"aot_eager": (BUG.id,) if avoid else (), "inductor": ()}
            seeds = Seeds(
                campaign.config,
                campaign.database,
                campaign._ledger,
                campaign.investigation,
                campaign._times,
                lambda event: None,
            )
            for _ in range(4):
                job = seeds.next()
                assert isinstance(job, Grow)
                assert job.avoid == wanted[job.target]


def test_the_wish_survives_in_the_campaign_file(tmp_path: Path) -> None:
    path = tmp_path / "campaign.toml"
    config.write(config.Config(targets=("aot_eager",), avoid_known=True), path)
    assert config.read(path).avoid_known
    path.write_text("[campaign]\navoid_known = 1\n")
    with pytest.raises(config.ConfigError, match="avoid_known: expected true or false"):
        config.read(path)

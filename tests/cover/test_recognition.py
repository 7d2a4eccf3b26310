"""Known bugs recognised in larger cases, counted under a row of their own, and avoided before they run."""

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
from shakeout.fuzz.triage.recognition import Remembered, contained, expected, recognised
from shakeout.fuzz.triage.subprogram import needs, occurrences, reaches
from shakeout.oracles.verdict import Outcome, Verdict

X = torch.tensor([1.0, 2.0])
NAN = torch.tensor([1.0, float("nan")])


def case_of(program: Any, *tensors: torch.Tensor, target: str = "aot_eager", **setting: Any) -> Case:
    return capture(program, lambda: list(tensors), setting=Setting(target, **setting))


def occurs(small: Case, large: Case) -> bool:
    return next(occurrences(small, large), None) is not None


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
    program = case_of(lambda x: (x.exp() + 1, x.sin()), X).program
    assert reaches(program, (0,), program.returns[0])
    assert not reaches(program, (0,), program.returns[1])
    assert not reaches(program, (0,), 0)


def test_what_the_small_case_could_not_do_without_has_to_be_there() -> None:
    small = case_of(lambda x: x * 0, NAN)
    assert needs(small, case_of(lambda x: x * 0, NAN))
    assert not needs(small, case_of(lambda x: x * 0, X))
    wide = case_of(lambda x: x * 0, torch.zeros(16))
    assert not needs(wide, small)
    assert needs(wide, case_of(lambda x: x * 0, torch.zeros(3, 64)))
    turned = case_of(lambda x: x * 0, torch.zeros(2, 3).t())
    assert not needs(turned, wide)


# --- findings ---------------------------------------------------------------------------------------------------------

LOST = Failure("aot_eager", "value", "NaN lost")
BUG = Remembered("mul-loses-nan", case_of(lambda x: x * 0, NAN), LOST)


def failing(symptom: str = "NaN lost", place: str = "output 0", oracle: str = "value", **more: Any) -> Result:
    return Result("", "aot_eager", "compared", (Verdict(oracle, Outcome.FAIL, symptom, place=place),), **more)


def test_a_finding_is_known_only_if_failure_and_program_agree() -> None:
    large = case_of(lambda x: ((x * 0).exp(), x.sin()), NAN)
    assert recognised(large, failing(), [BUG]) == BUG.id
    assert recognised(large, failing("wrong value"), [BUG]) == ""
    assert recognised(large, failing(oracle="gradient"), [BUG]) == ""
    assert recognised(large, failing(place="output 1"), [BUG]) == ""
    assert recognised(large, failing(), []) == ""
    assert recognised(case_of(lambda x: x.sin(), NAN), failing(), [BUG]) == ""


def test_the_first_divergence_has_to_be_of_it() -> None:
    large = case_of(lambda x: (x * 0).exp(), NAN)
    assert recognised(large, failing(divergence=Divergence(0, "torch.mul", "", 1)), [BUG]) == BUG.id
    assert recognised(large, failing(divergence=Divergence(1, "torch.exp", "", 1)), [BUG]) == ""


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


def test_a_known_finding_is_counted_and_not_tried(tmp_path: Path) -> None:
    told: list[events.Event] = []
    large = case_of(lambda x: (x * 0).exp(), NAN)
    common = {"signature": "coarse", "case": large.id}
    with Database.create(tmp_path / NAME) as database:
        investigation = Investigation(database, tmp_path, None, told.append, memory=1)  # type: ignore[arg-type]
        investigation.remembered.append(BUG)
        with database.transaction():
            for index in range(2):
                investigation.found(
                    Grow(number=index, seed=index, target="aot_eager"),
                    replace(failing(), **common),
                    large.text,
                    "#",
                    (),
                )
            assert not investigation.busy
            other = replace(failing("wrong value"), **common)
            investigation.found(Grow(number=2, seed=2, target="aot_eager"), other, large.text, "#", ())
        assert investigation.busy
        bugs = {bug.known: bug for bug in database.bugs()}
    assert {name: (bug.state, bug.count) for name, bug in bugs.items()} == {BUG.id: ("known", 2), "": ("new", 1)}
    assert [event.new for event in told if isinstance(event, events.FindingSeen)] == [False, False, True]


# --- cases that are not run -------------------------------------------------------------------------------------------


def test_a_case_with_a_known_bug_is_not_run_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "shipped_cases", lambda: {BUG.id: BUG.case})
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
            campaign.investigation.remembered.append(BUG)
            wanted = {"aot_eager": (BUG.id,) if avoid else (), "inductor": ()}
            seeds = Seeds(
                campaign.config,
                campaign.database,
                campaign._accounts,
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

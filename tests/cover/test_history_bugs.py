"""What fails only behind other cases is one bug of a user's own, apart from what fails by itself."""

from pathlib import Path

import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.database import NAME, Database
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.triage.shown import Shown
from shakeout.fuzz.triage.store import Store
from shakeout.oracles.verdict import Outcome, Verdict

RUNTIME = "save_on_cpu"


def finding(store: Store, number: int, symptom: str, target: str = RUNTIME) -> Shown:
    """A finding with a coarse signature of its own."""
    case = capture(lambda x: x.sin().cos(), lambda: [torch.ones(number)], setting=Setting(target))
    verdict = Verdict("value", Outcome.FAIL, symptom, "", "output 0", {})
    result = Result("", target, "compared", (verdict,), signature=f"coarse {number}")
    shown = store.found(Grow(number=number, target=target, seed=number), result, case.text, "", ())
    assert shown is not None, "nothing explains it"
    return shown


def test_history_findings_of_one_place_are_one_bug_also_for_the_next_run(tmp_path: Path) -> None:
    with Database.create(tmp_path / NAME) as database:
        store = Store(database, tmp_path, lambda event: None)
        found = [finding(store, 1, "wrong value"), finding(store, 2, "NaN appears")]
        first, second = (store.conclude(shown, "history", 0, 3, "behind others") for shown in found)
        assert first.id == second.id
        again = Store(database, tmp_path, lambda event: None)
        third = again.conclude(finding(again, 3, "NaN lost"), "history", 0, 3, "behind others")
        assert (third.id, third.count) == (first.id, 3)
        # What may fail by itself is not counted there unseen.
        flaky = again.conclude(finding(again, 4, "wrong value"), "flaky", 1, 3, "once")
        assert flaky.id != first.id
        # Of a compiler nobody knows whether they are one.
        others = [again.conclude(finding(again, n, "wrong value", "inductor"), "history", 0, 3, "") for n in (5, 6)]
        assert len({bug.id for bug in others}) == 2

"""Public reports, handed over as their users would: imported, shrunk to the size stated, bisected, and written.

The scripts in ``reports/`` show on torch 2.13.0 (CPU) what the public report that each names is about.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.tiers import some

from shakeout.corpus.case import Case
from shakeout.corpus.user_objects import ALLOWED, find
from shakeout.fuzz.bisect import trials
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.facts import Fact
from shakeout.fuzz.bisect.ladders import taken_apart
from shakeout.fuzz.bisect.stored import Job
from shakeout.fuzz.campaign.schedule import seed_of
from shakeout.fuzz.ground.events import Event, Shrinking
from shakeout.fuzz.ground.failure import failure_of
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.intake.importing import Imported, import_file
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.order import elements
from shakeout.fuzz.minimise.search import Budget, Minimised, minimise
from shakeout.fuzz.reporting.drafting import drafted
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import execute
from shakeout.targets.registry import facts_of, target

FOLDER = Path(__file__).parent / "reports"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a script may write


def imported(file: str, folder: Path, name: str = "", **more: str) -> Imported:
    return import_file(FOLDER / f"{file}.py", name, output=folder, seconds=240, memory=8 << 30, **more)


@dataclass
class Report:
    """A script, what is wrong, how small the case gets, and what is to blame.

    Attributes:
        file: in ``reports/``.
        targets: of the cases that it gives.
        oracle: that fails.
        symptom: of the failure.
        operators: of the smallest case, at most, blocks and regions counted.
        culprits: what the finest culprit has in its name, or what is said in a note; any of them.
        kept: operators that it has to have.
        elements: of its inputs, at most; None for any number.
        case: which of the cases fails.
        objections: why there is no report, in part; empty where there is one.
    """

    file: str
    targets: list[str]
    oracle: str
    symptom: str
    operators: int
    culprits: list[str]
    kept: list[str] = field(default_factory=list)
    elements: int | None = None
    case: int = 0
    objections: str = ""


#: Of the reports, the one of which the whole way takes the least time.
QUICKEST = "autocast_switched_off_inside"

REPORTS = [
    Report("attention_permuted_key", ["inductor"] * 3, "value", "wrong value", 5, ["_sfdp_pattern_2"], elements=20),
    Report("attention_tensor_scale", ["inductor"], "exception", "", 6, ["_sfdp_pattern_"]),
    Report(
        "autocast_switched_off_inside",
        ["aot_eager", "inductor"],
        "gradient",
        "wrong value",
        4,
        ["stage aot_eager"],
        kept=["torch.autocast"],
    ),
    # A clone, the operator with what its two elements ask for, and the argument itself as what is read.
    Report(
        "custom_operator_writes",
        ["inductor"],
        "value",
        "wrong value",
        6,
        ["reinplace_inplaceable_ops"],
        kept=["torch.library.custom_op"],
        elements=2,
    ),
    Report(
        "transposed_product_with_a_vector",
        ["onnxruntime"] * 4,
        "value",
        "wrong value",
        2,
        ["MatmulTransposeFusion"],
        elements=6,
        case=2,
    ),
    # The types of its graph are computed again before it is lowered, and neither of the two takes the number.
    Report(
        "while_loop_with_a_number",
        ["inductor"],
        "exception",
        "",
        4,
        [
            "operator while_loop (while_loop), in FakeTensorUpdater",
            "raises at while_loop (while_loop), in GraphLowering",
        ],
        kept=["torch._higher_order_ops.while_loop"],
    ),
]


@pytest.mark.timeout(600)  # of a busy machine: dozens of compilations, and a script in processes of its own
@pytest.mark.parametrize(
    "report", some(sorted(REPORTS, key=lambda one: one.file != QUICKEST), every=len(REPORTS), name=lambda one: one.file)
)
def test_a_report_is_imported_shrunk_bisected_and_written_as_it_says(report: Report, tmp_path: Path) -> None:
    found = imported(report.file, tmp_path)
    assert not found.refused
    assert [one.case.setting.target for one in found.cases] == report.targets
    smallest = shrunk(found.cases[report.case].case, report)
    assert smallest.failure.oracle == report.oracle
    assert report.symptom in smallest.failure.symptom
    operators = smallest.case.program.operators()
    assert len(operators) <= report.operators
    assert set(report.kept) <= set(operators)
    assert report.elements is None or elements(smallest.case) <= report.elements
    if report.file == "autocast_switched_off_inside":
        assert [block.operator for block in smallest.case.program.around] == ["torch.autocast"]
    if report.file == "attention_permuted_key":  # of another length
        other = failure_of(execute(found.cases[1].case))
        assert other is not None
        assert other.oracle == "exception"

    facts = list(blamed(smallest.case))
    told = "\n".join(str(fact) for fact in facts)
    assert all(name in told for name in report.culprits), told
    draft = drafted(Job(found.cases[report.case].path, smallest.case))
    if report.objections:
        assert any(report.objections in objection for objection in draft.objections), draft.objections
    else:
        assert not draft.objections
        assert draft.text is not None
        assert f"A person brought it ({report.file}.py)" in draft.text


def blamed(case: Case) -> Iterator[Fact]:
    """The facts of a ladder, in this process."""
    ladder = facts_of(case.setting.target).ladder
    assert ladder is not None
    return taken_apart(Ablation(case, trials.in_process), ladder)


def shrunk(case: Case, report: Report | None = None) -> Minimised:
    """The smallest case, or the first one that is as small as a report says: what comes after is mostly its numbers."""
    small = False

    def tell(event: Event) -> None:
        nonlocal small
        if report is not None and isinstance(event, Shrinking) and event.accepted:
            few = report.elements is None or event.elements <= report.elements
            small = few and event.operators <= report.operators

    return minimise(case, in_process, budget=Budget(240.0, 1500), tell=tell, stop=lambda: small)


def test_a_report_is_handed_over_by_the_name_of_what_makes_it(tmp_path: Path) -> None:
    case = imported("attention_permuted_key", tmp_path, "case", mode="inference").cases[0].case
    assert case.program.operators().count("torch.nn.functional.linear") == 4


def test_a_kernel_that_takes_grad_output_for_row_major_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlagOpen/FlagGems#1080: found within two hundred cases, and shrunk to one call and its cotangent."""
    name = "gradient_read_as_contiguous"
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv(ALLOWED, name)
    found = None
    for index in range(200):
        job = Grow(
            number=index,
            target=f"{name}:log_softmax",
            seed=seed_of(1, index),
            recipe={"index": index, "mode": "training", "values": "integers"},
        )
        case = compose(job).case
        result = execute(case, explain=False)
        if result.failure is not None:
            assert result.failure.oracle == "gradient"
            if case.setting.cotangent in ("expanded", "transposed", "sliced"):
                found = case
                break
    assert found is not None
    smallest = shrunk(found)
    assert len(smallest.case.program.operators()) == 1
    assert smallest.case.setting.cotangent != "whole"
    sys.modules.pop(name, None)
    find.cache_clear()
    target.cache_clear()

"""The minimiser: candidates are valid, the search keeps to its reason and budget, and files are written."""

import itertools
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tests.tiers import some

from shakeout.corpus import codec
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.vocabularies import kernel as words
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.cli import main
from shakeout.fuzz.commands.minimise import minimise_command
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.ground.failure import Failure, failure_of
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.minimise import graph, settings, tensors, values
from shakeout.fuzz.minimise.edit import invented
from shakeout.fuzz.minimise.executors import CandidatePool, in_process
from shakeout.fuzz.minimise.order import elements, size
from shakeout.fuzz.minimise.predicate import MOST_REPETITIONS, NotReproduced, Outcome, Reliability, repetitions
from shakeout.fuzz.minimise.search import FIRST, Budget, minimise
from shakeout.generators.choices import SeededChoices
from shakeout.generators.inputsets import tensors_of
from shakeout.generators.network import grow
from shakeout.generators.recipe import Recipe
from shakeout.generators.validity import REQUIREMENTS, InvalidCandidate, Requirements, validated
from shakeout.generators.vocabularies.torch import load_records
from shakeout.oracles.verdict import Outcome as VerdictOutcome
from shakeout.oracles.verdict import Verdict

PASSES = (
    *(settings.device, settings.call_sets, settings.setting, settings.leaves, settings.attributes),
    *(
        graph.unused,
        graph.outputs,
        graph.removal(),
        graph.removal(invented),
        graph.forwarded,
        graph.plainer,
        graph.merged,
    ),
    *(graph.inlined, tensors.capped, tensors.resized, tensors.ranks, tensors.dtypes, tensors.layouts, values.values),
    values.numbers,
)

WRONG = Failure("x", "value", "wrong value")


def grown(seed: int, operators: int = 8, mode: str = "inference", repeat: bool = False) -> Case:
    recipe = Recipe(style="network", operators=operators, mode=mode, dynamic=False, repeat=repeat)  # type: ignore[arg-type]
    made = grow(SeededChoices(seed), recipe, load_records())
    return Case(made.program, made.input_sets, Setting("eager", (), made.mode))


def validated_as_grown(case: Case) -> tuple[Case, Requirements]:
    """The case with the strictest requirements that it keeps."""
    for requirements in REQUIREMENTS:
        try:
            return validated(case, requirements), requirements
        except InvalidCandidate:
            continue
    raise AssertionError("a grown case keeps none of the requirements")


def fails_with(operator: str) -> object:
    """An executor for which every valid case with an operator fails."""

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        found = []
        for case in cases:
            try:
                valid = validated(case, requirements)
            except InvalidCandidate:
                found.append(Outcome("invalid"))
                continue
            failure = WRONG if operator in valid.program.operators() else None
            found.append(Outcome("compared", failure, valid))
        return found

    return run


@pytest.mark.parametrize("seed", some([4, 1, 0, 2, 5, 3], every=2))
def test_every_candidate_is_a_case_that_can_be_stored_and_run_or_is_refused(seed: int) -> None:
    case, requirements = validated_as_grown(grown(seed, mode="training" if seed % 2 else "inference", repeat=seed == 4))
    valid = 0
    for one in PASSES:
        for candidate in itertools.islice(one(case), 12):
            assert codec.decode(candidate.text).text == candidate.text
            try:
                again = validated(candidate, requirements)
            except InvalidCandidate:
                continue
            valid += 1
            assert validated(again, requirements).text == again.text
    assert valid >= 15


def computed(case: Case) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Every value that the reference shows while it runs a case, each time that it changes, and what is returned."""
    values = list(tensors_of(case.input_sets[0], False))
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        for call in case.program.calls:
            seen += [value.clone() for value in values]
            values.extend(words.call(call, values))
    return seen + values, [values[number] for number in case.program.returns]


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("seed", [3, 5, 12])
def test_removal_keeps_what_the_reference_computes(seed: int) -> None:
    case, requirements = validated_as_grown(grown(seed))
    known, _ = computed(case)
    smaller = [made for made in graph.removal()(case) if _validated(made, requirements) is not None]
    assert len(smaller) >= 8
    for made in smaller:
        assert len(made.program.calls) < len(case.program.calls)
        _, returned = computed(made)
        assert returned or not made.program.calls
        assert all(any(same(value, other) for other in known) for value in returned)


def test_what_was_written_is_returned_when_the_writing_goes() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        x[0] = x.sin()[1]
        return x

    case = capture(network, lambda: [torch.ones(3)], setting=Setting("eager"))
    left = [[call.operator for call in candidate.program.calls] for candidate in graph.removal()(case)]
    assert ["torch.Tensor.sin", "torch.Tensor.__getitem__"] in left


@pytest.mark.parametrize(
    "network",
    [
        lambda x, m: x.masked_select(m).relu().reshape(1, 8),
        lambda x, m: x[m].narrow(0, 0, 8),
        lambda x, m: m.nonzero().reshape(16),
    ],
)
def test_what_names_a_size_that_values_decide_follows_them(network: Callable[..., object]) -> None:
    given = [torch.ones(3, 4), torch.tensor([[True], [False], [True]]).repeat(1, 4)]
    case = capture(network, lambda: given, setting=Setting("eager"))
    for found in (tensors.resized(case), values.numbers(case)):
        counts = [one.program.calls[0].results[0].shape[0] for one in map(_validated, found) if one is not None]
        assert set(counts) - {8}


def _validated(case: Case, requirements: Requirements = REQUIREMENTS[0]) -> Case | None:
    try:
        return validated(case, requirements)
    except InvalidCandidate:
        return None


@pytest.mark.parametrize("place", [(0, 0), (2, 10), (1, 4)])
def test_the_element_that_matters_is_left_wherever_it_is(place: tuple[int, int]) -> None:
    given = torch.zeros(3, 11)
    given[place] = math.nan

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        nan = ["nan" in case.text for case in cases]
        return [Outcome("compared", WRONG if n else None, case) for n, case in zip(nan, cases, strict=True)]

    case = capture(lambda x: x.exp(), lambda: [given], setting=Setting("eager"))
    found = minimise(case, run).case
    assert found.input_sets[0].views[0].shape == ()
    assert elements(found) == 1


def test_a_zero_among_few_is_asked_whether_it_has_to_be_one() -> None:
    """Between two elements that matter, in a list too long for each of many zeros to be asked."""
    given = [float(place % 3) for place in range(16)]
    given[2:5] = [70.0, 0.0, 70.0]
    case = capture(torch.sin, lambda: [torch.tensor(given)], setting=Setting("eager", (), "inference"))

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        items = [
            [item for one in tensors_of(case.input_sets[0], False) for item in one.flatten().tolist()] for case in cases
        ]
        return [
            Outcome("compared", WRONG if len(row) == 16 and row[2] == row[4] == 70 else None, one)
            for one, row in zip(cases, items, strict=True)
        ]

    found = minimise(case, run)
    (storage,) = found.case.input_sets[0].storages
    assert storage.values.items[2:5] == (70.0, 4.0, 70.0)
    assert 0.0 not in storage.values.items


def test_an_input_that_no_call_takes_goes() -> None:
    case = capture(lambda x, y: torch.sin(x), lambda: [torch.ones(2), torch.ones(3, 3)], setting=Setting("eager"))
    assert len(case.program.inputs) == 2
    found = minimise(case, fails_with("torch.sin"))  # type: ignore[arg-type]
    assert len(found.case.program.inputs) == len(found.case.input_sets[0].views) == 1


def test_a_size_follows_the_first_of_several_calls_only() -> None:
    masks = [torch.tensor([True, True, False]), torch.tensor([True, False, True])]
    case = capture(
        lambda x, m: x.masked_select(m).reshape(2),
        lambda: [torch.ones(3), masks[0]],
        lambda: [torch.ones(3), masks[1]],
        setting=Setting("eager"),
    )
    assert validated(case).text == case.text
    first = [c for c in values.numbers(case) if c.input_sets[0].storages[1].values.items == (True, True, True)]
    assert first
    assert not any(map(_validated, first))


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_removal_does_not_pass_on_what_torch_warns_of() -> None:
    case = capture(lambda x: torch.nn.functional.softmax(x).exp(), lambda: [torch.ones(3)], setting=Setting("eager"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        left = [[call.operator for call in candidate.program.calls] for candidate in graph.removal()(case)]
    assert ["torch.Tensor.exp"] in left
    assert not told


@pytest.mark.parametrize("seed", range(4))
def test_a_network_shrinks_to_the_operator_that_matters(seed: int) -> None:
    case = grown(20 + seed)
    operator = case.program.calls[4].operator
    found = minimise(case, fails_with(operator), width=2)  # type: ignore[arg-type]
    assert found.complete
    assert found.case.program.operators() == (operator,)
    assert elements(found.case) <= elements(case)
    assert found.reliability == Reliability(5, 5)


def test_the_order_is_total_and_begins_with_operators() -> None:
    small, large = grown(1, 2), grown(1, 8)
    assert size(small) < size(large)
    assert size(small)[0] == 2


def test_other_failures_are_kept_and_not_followed() -> None:
    case = grown(5)
    wanted = case.program.calls[-1].operator
    other = Failure("x", "exception", "RuntimeError")
    inner = fails_with(wanted)

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        found = inner(cases, requirements)  # type: ignore[operator]
        return [Outcome("failed", other, o.case) if o.failure is None and o.case else o for o in found]

    found = minimise(case, run)
    assert found.failure == WRONG
    assert wanted in found.case.program.operators()
    assert [failure for failure, _ in found.others] == [other]


def test_progress_begins_before_anything_is_run() -> None:
    told: list[tuple[int, str]] = []

    def executor(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        assert told
        return [Outcome("compared") for _ in cases]

    case = capture(torch.sin, lambda: [torch.ones(2)], setting=Setting("aot_eager"))
    with pytest.raises(NotReproduced):
        minimise(case, executor, tell=lambda event: told.append((event.tries, event.doing)))  # type: ignore[attr-defined]
    assert told[0] == (0, FIRST)


def test_a_budget_and_a_stop_keep_the_best_so_far() -> None:
    case = grown(6)
    executor = fails_with(case.program.calls[2].operator)
    limited = minimise(case, executor, budget=Budget(tries=8))  # type: ignore[arg-type]
    assert not limited.complete
    assert limited.tries <= 8 + 1
    told: list[Any] = []
    stopped = minimise(case, executor, tell=told.append, stop=lambda: any(p.accepted for p in told))  # type: ignore[arg-type]
    assert not stopped.complete
    assert size(stopped.case) < size(case)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_what_fails_on_the_cpu_too_is_searched_there(elsewhere: bool) -> None:
    case = grown(1)
    case = replace(case, setting=replace(case.setting, device="cuda"))
    asked: list[str] = []

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        """As on a machine that has a GPU, on which whatever settles fails."""
        found = []
        for candidate in cases:
            device = candidate.setting.device
            asked.append(device)
            try:
                valid = validated(replace(candidate, setting=replace(candidate.setting, device="cpu")), requirements)
            except InvalidCandidate:
                found.append(Outcome("invalid"))
                continue
            failure = WRONG if device == "cuda" or elsewhere else None
            found.append(Outcome("compared", failure, replace(valid, setting=candidate.setting)))
        return found

    found = minimise(case, run, wanted=WRONG)
    first = asked.index("cpu")
    assert set(asked[:first]) == {"cuda"}
    assert not elsewhere or set(asked[first:]) == {"cpu"}
    assert found.case.setting.device == ("cpu" if elsewhere else "cuda")


@pytest.mark.long
def test_candidates_run_on_the_device_that_they_name(tmp_path: Path) -> None:
    case = grown(1)
    there = replace(case, setting=replace(case.setting, device="cuda"))
    requirements = validated_as_grown(case)[1]
    with CandidatePool(tmp_path, Setting("eager", device="cuda"), 1) as pool:
        found = pool([case, there], requirements)
    assert found[0].status == "compared"
    assert found[1].status == ("compared" if torch.cuda.is_available() else "infra")
    with CandidatePool(tmp_path, Setting("eager"), 1) as pool:
        assert pool([there], requirements)[0].status == "unsupported"


def test_where_a_tensor_was_is_no_part_of_the_reason() -> None:
    def told(template: str) -> Failure | None:
        verdict = Verdict("exception", VerdictOutcome.FAIL, "RuntimeError", evidence={"template": template})
        return failure_of(Result("", "inductor", "failed", (verdict,)))

    on_gpu = told("symbols {uN} of FakeTensor(..., device='cuda:N', size=(uN, N), dtype=torch.intN)")
    assert on_gpu == told("symbols {uN} of FakeTensor(..., size=(uN, N), dtype=torch.intN)")
    assert on_gpu != told("symbols {uN} of FakeTensor(..., size=(uN, N), dtype=torch.floatN)")


def test_what_does_not_fail_is_not_minimised() -> None:
    with pytest.raises(NotReproduced, match="does not fail"):
        minimise(grown(7), fails_with("torch.no_such"))  # type: ignore[arg-type]
    case = grown(7)
    executor = fails_with(case.program.calls[0].operator)
    with pytest.raises(NotReproduced, match="it fails otherwise"):
        minimise(case, executor, wanted=Failure("x", "hang", "hang"))  # type: ignore[arg-type]


def test_a_flaky_case_is_tried_more_often_and_must_fail_twice() -> None:
    case = grown(8)
    operator = case.program.calls[3].operator
    inner = fails_with(operator)
    count = itertools.count()

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        found = inner(cases, requirements)  # type: ignore[operator]
        return [o if next(count) % 3 == 0 or o.failure is None else Outcome("compared", None, o.case) for o in found]

    found = minimise(case, run)
    assert found.reliability.failed < found.reliability.runs
    assert found.case.program.operators() == (operator,)


def slow(
    inner: object, ran: list[Case], told: Callable[[Case], float], lucky: Callable[[Case], bool] = lambda case: False
) -> Callable[[Sequence[Case], Requirements], list[Outcome]]:
    """An executor that tells how long each run took, and for which some cases fail by luck."""

    def run(cases: Sequence[Case], requirements: Requirements) -> list[Outcome]:
        ran.extend(cases)
        found = [replace(o, seconds=told(c)) for c, o in zip(cases, inner(cases, requirements), strict=True)]  # type: ignore[operator]
        return [
            replace(o, failure=WRONG, case=c) if o.status == "compared" and lucky(c) else o
            for c, o in zip(cases, found, strict=True)
        ]

    return run


def test_a_case_that_takes_long_runs_once_and_is_measured_when_it_is_small() -> None:
    case = grown(21)
    operator = case.program.calls[4].operator
    ran: list[Case] = []
    told: list[Any] = []
    executor = slow(fails_with(operator), ran, lambda c: 30.0 if len(c.program.calls) > 2 else 0.1)
    found = minimise(case, executor, budget=Budget(120.0), tell=told.append)
    assert [one.id for one in ran].count(case.id) == 1
    assert [(one.doing, one.run, one.operators) for one in told[:2]] == [
        (FIRST, run, len(case.program.calls)) for run in (0.0, 30.0)
    ]
    assert found.complete
    assert found.case.program.operators() == (operator,)
    assert found.reliability == Reliability(5, 5)
    measured = [c for c in {one.id: one for one in ran}.values() if [o.id for o in ran].count(c.id) == 5]
    assert [len(c.program.calls) <= 2 for c in measured] == [True]


def test_a_case_that_is_never_quick_is_measured_at_the_end_or_not_at_all() -> None:
    case = grown(21)
    operator = case.program.calls[4].operator
    ran: list[Case] = []
    found = minimise(case, slow(fails_with(operator), ran, lambda c: 100.0), budget=Budget(120.0))
    assert found.complete
    assert found.reliability == Reliability(5, 5)
    assert [one.id for one in ran[-4:]] == [found.case.id] * 4
    told: list[Any] = []
    executor = slow(fails_with(operator), ran, lambda c: 100.0)
    stopped = minimise(case, executor, tell=told.append, stop=lambda: any(p.accepted for p in told))
    assert size(stopped.case) < size(case)
    assert not stopped.complete
    assert stopped.reliability == Reliability(1, 1)


def test_a_small_case_that_failed_by_luck_gives_way_to_the_one_before() -> None:
    case = grown(21)
    operator = case.program.calls[4].operator
    chance = iter([True])

    def lucky(candidate: Case) -> bool:
        """The first candidate without the operator that matters, and nothing after it."""
        return operator not in candidate.program.operators() and next(chance, False)

    ran: list[Case] = []
    executor = slow(fails_with(operator), ran, lambda c: 30.0 if len(c.program.calls) > 2 else 0.1, lucky)
    found = minimise(case, executor, budget=Budget(120.0))
    assert next(chance, None) is None
    assert operator in found.case.program.operators()
    assert found.complete
    assert found.reliability == Reliability(5, 5)


def test_repetitions_follow_the_reliability() -> None:
    assert repetitions(Reliability(5, 5)) == 1
    half = repetitions(Reliability(2, 5))
    assert (1 - 0.4) ** half <= 0.05 < (1 - 0.4) ** (half - 1)
    assert repetitions(Reliability(0, 5)) == MOST_REPETITIONS
    assert math.isclose(Reliability(1, 4).rate, 0.25)


def test_what_is_invalid_is_told_apart() -> None:
    case = grown(9)
    call = case.program.calls[0]
    broken = case.program.calls[0].operator + "_missing"
    calls = (replace(call, operator=broken), *case.program.calls[1:])
    wrong = replace(case, program=replace(case.program, calls=calls))
    assert in_process([wrong], Requirements())[0].status == "invalid"


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "symptom"), [("wrong value", "wrong value"), ("abort", "SIGABRT")])
def test_the_command_writes_the_smallest_case_and_its_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, symptom: str
) -> None:
    file = tmp_path / "case.json"
    file.write_text(selftest.case(fault).text)
    arguments = {"seconds": 60.0, "tries": 60, "workers": 2, "memory": 2 << 30, "plain": True}
    status = minimise_command(file, console=Console(width=200), **arguments)  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert status == Exit.OK
    # The planted target fails whatever it runs, so nothing is left of the network.
    assert "operators 2 -> 0" in said
    assert re.search(r"2 operators, \d+ elements: one run takes \d+\.\d s", said)
    assert symptom in said
    case = codec.decode((tmp_path / "case.min.json").read_text())
    assert not case.program.calls
    compile((tmp_path / "case.min.py").read_text(), "case.min.py", "exec")


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["minimise", "no-such-thing"]) == Exit.USAGE
    assert main(["minimise", str(tmp_path), "--seconds", "0"]) == Exit.USAGE
    assert main(["minimise", str(tmp_path)]) == Exit.USAGE
    (tmp_path / "case.json").write_text("{}")
    assert main(["minimise", str(tmp_path)]) == Exit.USAGE
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4
    assert all(line.startswith("shakeout: ") for line in said)

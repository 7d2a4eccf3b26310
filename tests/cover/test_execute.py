"""One case from text to verdicts, on real targets."""

from collections.abc import Callable

import pytest
import torch
from tests.faults import FAULTS as PLANTED
from tests.faults import planted
from tests.faults.fault import Canary
from tests.faults.graphs import Graph, instead

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Mode, Setting
from shakeout.corpus.standalone import differences
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.search import Budget, minimise
from shakeout.fuzz.running import replicas, runs
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import Shared, execute
from shakeout.oracles.verdict import Outcome
from shakeout.targets.planted import FAULTS


def case(function: Callable, *inputs: torch.Tensor, target: str, mode: Mode = "inference", **knobs) -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    return capture(function, make, setting=Setting(target, tuple(sorted(knobs.items())), mode))


def network(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    y = x.add_(1)
    return x * 2, y.T


#: Faults that end the process are planted through real workers elsewhere.
HARMLESS = [fault for fault in FAULTS if fault not in ("abort", "hang", "out of memory")]


@pytest.mark.parametrize("fault", HARMLESS)
def test_planted_faults_are_seen(fault: str) -> None:
    result = execute(case(network, torch.ones(2, 3), target="planted", fault=fault))
    assert result.failure is not None
    assert result.failure.oracle == FAULTS[fault]
    assert result.signature.startswith("planted | ")


@pytest.mark.parametrize("target", ["eager", "planted", "aot_eager"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_without_a_fault_all_is_quiet(target: str, mode: Mode) -> None:
    x = torch.tensor([[1.0, -2.0], [3.0, 0.5]], requires_grad=mode == "training")
    phases: list[str] = []
    result = execute_with(phases, case(lambda x: (torch.sin(x) * x, x.mT), x, target=target, mode=mode))
    assert (result.status, result.outcome, result.exact, result.trivial) == ("compared", Outcome.PASS, True, False)
    assert phases[:2] == ["reference", "judge"]
    assert set(result.seconds) >= {"reference", "run", "judge"}


def execute_with(phases: list[str], what: Case):
    return execute(what, phases.append)


def test_a_lost_nan_in_inductor() -> None:
    # Public report: torch.compile turns NaN * 0 into 0 (pytorch 186281).
    x = torch.tensor([1.0, float("nan"), 2.0])
    result = execute(case(lambda x: x * 0, x, target="inductor"))
    if result.failure is None:
        pytest.skip("fixed in this version of torch")
    assert result.failure.symptom == "NaN lost"
    assert result.signature == "inductor | value | NaN lost | torch.Tensor.mul"


def test_a_declined_program_is_no_failure() -> None:
    result = execute(case(lambda x: torch.linalg.lstsq(x, x)[0], torch.eye(3), target="aot_eager"))
    assert (result.status, result.failure) == ("unsupported", None)
    assert "DynamicOutputShape" in result.reason


def test_a_program_that_the_reference_rejects_is_invalid() -> None:
    from dataclasses import replace

    good = case(lambda x: x.view(6), torch.ones(2, 3), target="eager")
    bad_call = replace(good.program.calls[0], args=(good.program.calls[0].args[0], 7))
    bad = replace(good, program=replace(good.program, calls=(bad_call,)))
    result = execute(bad)
    assert result.status == "invalid"
    assert "RuntimeError" in result.reason


def test_a_program_without_meaning_is_told() -> None:
    # Eager shows the memory that it happened to get; a target that gets other memory is not wrong.
    result = execute(case(lambda x: torch.empty_like(x), torch.ones(1000), target="planted", fault="wrong value"))
    assert result.status == "undefined"
    assert result.failure is None


def test_the_result_is_json() -> None:
    import json

    text = json.dumps(execute(case(network, torch.ones(2, 3), target="planted", fault="wrong value")).to_json())
    assert '"wrong value"' in text


def test_refusals_are_told_from_failures() -> None:
    # In training, AOTAutograd says that it does not take a change of a leaf's view chain through as_strided.
    from shakeout.targets.dynamo import AOT_EAGER

    namespace: dict = {}
    exec(AOT_EAGER.source(Setting("aot_eager")), {"torch": torch}, namespace)
    declined = namespace["declined"]
    assert declined(RuntimeError("a mutation of an as_strided() view; this behavior is banned in compile."))
    assert declined(AssertionError("aot_autograd() does not yet handle non-differentiable view input mutations."))
    assert declined(NotImplementedError("no meta kernel"))
    assert not declined(RuntimeError("index 3 is out of range"))
    assert not declined(AssertionError("wrong number of dimensions"))


def test_a_compiler_may_draw_in_another_order() -> None:
    # Dropping everything needs no random numbers; eager draws them all the same.
    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(x, p=1.0)

    result = execute(case(network, torch.ones(5), target="aot_eager"))
    assert (result.status, result.failure) == ("compared", None)


def test_the_bits_of_nan_are_nobodys_promise() -> None:
    # The logarithm's NaN may carry any sign and payload; here they are read as other numbers.
    def network(x: torch.Tensor) -> torch.Tensor:
        return x.log_().view(torch.int32)

    one = case(network, torch.tensor([-1.0, 1.0]), target="eager")
    plain = runs.observe(script.load(one))
    moved = replicas.replica(one, 0)
    assert plain.calls[0]["output"][0][0] != moved.calls[0]["output"][0][0]
    assert abs(int(plain.calls[0]["output"][0][1]) - int(moved.calls[0]["output"][0][1])) <= 1


def test_replicas_pass_through_eight_bit_floats() -> None:
    from shakeout.fuzz.running import runs

    made = case(lambda x: (x.to(torch.float8_e4m3fn), x.exp()), torch.ones(64), target="eager")
    (want,), (got,) = runs.observe(script.load(made)).calls, replicas.replica(made, 0).calls
    assert got["output"][0].dtype == torch.float8_e4m3fn
    assert not torch.equal(want["output"][1], got["output"][1])


# --- what the reference showed while the program grew ----------------------------------------------------------------


def test_growing_shows_what_the_text_shows() -> None:
    settings = set()
    for seed in range(150):
        made = compose(Grow(number=seed, target="eager", seed=seed, recipe={"index": seed}))
        told, grown = runs.observe(script.load(made.case)), made.reference
        if grown is None:
            continue  # eager wrote where it should not, and the call was dropped
        assert len(told.calls) == len(grown.calls) == len(made.case.input_sets)
        assert not differences(told.calls, grown.calls, {}, ("bits", "layout")), made.case.program.operators()
        settings.add((made.case.setting.mode, len(made.case.input_sets)))
    assert {("training", 1), ("training", 2), ("inference", 1), ("inference", 3)} <= settings


def test_a_target_that_agrees_with_what_was_grown_needs_no_other_run_of_the_reference() -> None:
    one = case(network, torch.ones(2, 3), target="eager")
    grown = runs.observe(script.load(one))
    result = execute(one, shared=Shared(grown=grown))
    assert (result.status, result.outcome, result.exact) == ("compared", Outcome.PASS, True)
    assert "reference" not in result.seconds


@pytest.mark.parametrize("target", ["eager", "planted"])
def test_nothing_is_blamed_on_a_target_because_of_what_was_grown(target: str) -> None:
    one = case(network, torch.ones(2, 3), target=target)
    for wrong in (torch.zeros(2, 3), torch.ones(3, 2).T):
        grown = runs.observe(script.load(one))
        grown.calls[0]["output"][0] = wrong
        result = execute(one, shared=Shared(grown=grown))
        assert (result.status, result.outcome) == ("compared", Outcome.PASS)
        assert "reference" in result.seconds
    grown = runs.observe(script.load(one))
    grown.calls[0]["aliases"][1] = 7
    assert execute(one, shared=Shared(grown=grown)).outcome is Outcome.PASS


def test_bytes_read_as_another_dtype_have_no_double_precision() -> None:
    def through_bytes(x: torch.Tensor) -> torch.Tensor:
        y = x * 0.3
        y.view(torch.float16).add_(0.5).fill_(-1)
        return y

    one = case(through_bytes, torch.linspace(-1, -0.1, 7, dtype=torch.bfloat16), target="aot_eager")
    assert not runs.baseline(one).calls
    assert execute(one).outcome is Outcome.PASS
    # A baseline would be -1, as far from the reference as the lost write is, and explain it.
    lost = Graph((torch.ops.aten.fill,), instead(lambda x, value: x))
    with lost.planted(Canary()):
        assert execute(one).outcome is Outcome.FAIL
    whole = case(lambda x: x.view(torch.int16) + 1, torch.arange(4, dtype=torch.int32), target="eager")
    assert runs.baseline(whole).calls


def test_what_may_overflow_may_be_the_infinity_that_it_is_compared_with() -> None:
    # -inf * -2.7 is infinity, and 3.4e38 * -3.9 minus infinity, or a number in a wider accumulator.
    x, y = torch.tensor([[-2.7, -3.9]]), torch.tensor([[-float("inf")], [3.4e38]])
    one = case(lambda x, y, z: z != x @ y, x, y, torch.tensor(float("inf")), target="eager")
    said = {bool(replicas.replica(one, number).calls[0]["output"][0]) for number in range(5)}
    assert said == {False, True}


def twice(function: Callable, *inputs: torch.Tensor, target: str) -> Case:
    """A case that calls one artefact with each of the inputs in turn."""
    return capture(function, *(lambda x=x: [x.clone()] for x in inputs), setting=Setting(target))


def test_a_later_call_is_named_only_where_it_needs_the_first() -> None:
    stale = next(fault for fault in PLANTED if fault.name == "a later call shows what the first one computed")
    with planted(stale):
        assert execute(stale.case()).signature.startswith("aot_eager | value | wrong value on a later call")
    nan = next(fault for fault in PLANTED if fault.name == "clamp_min drops NaN")
    both = twice(
        lambda x: torch.clamp_min(x, 0.5), torch.ones(3), torch.tensor([1.0, float("nan"), 2.0]), target="aot_eager"
    )
    with planted(nan):
        failure = execute(both).failure
        assert failure is not None
        assert (failure.symptom, failure.evidence["call"]) == ("NaN lost", 1)
        found = minimise(both, in_process, budget=Budget(60.0, 200))
    assert len(found.case.input_sets) == 1
    assert found.failure.symptom == "NaN lost"
    assert found.complete

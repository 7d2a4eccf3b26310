"""What an artefact has been through before its first call, and what that must not change."""

import contextlib
from typing import Any

import pytest
import torch

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import HISTORY, Case, Setting
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.compose import drawn_knobs
from shakeout.fuzz.running.execute import execute, repro
from shakeout.generators.choices import SeededChoices
from shakeout.oracles.verdict import Outcome
from shakeout.targets.dynamo import AOT_EAGER, INDUCTOR
from shakeout.targets.history import after, switched
from shakeout.targets.registry import target

HISTORIES = [value for knob in AOT_EAGER.knobs() if knob.name == HISTORY for value in knob.values[1:]]


def case(function: Any, *inputs: torch.Tensor, history: str | None, on: str = "aot_eager") -> Case:
    def make() -> list[torch.Tensor]:
        return [x.detach().clone().requires_grad_(x.requires_grad) for x in inputs]

    mode = "training" if any(x.requires_grad for x in inputs) else "inference"
    knobs = () if history is None else ((HISTORY, history),)
    return capture(function, make, setting=Setting(on, knobs, mode))


def state(function: Any) -> tuple[Any, ...]:
    """All that a history may have changed."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        getattr(function, "training", None),
        list(getattr(function, "switch", ())),
    )


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(torch.ones(1).expand(3), requires_grad=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x.add_(1)
        self.p[:1].add_(1)
        return (x * self.p,)


@pytest.mark.parametrize("what", HISTORIES)
def test_the_first_call_is_preceded_by_one_under_another_state(what: str) -> None:
    network = switched(Network()) if what == "python_state" else Network()
    seen: list[Any] = []

    def compiled(x: torch.Tensor) -> Any:
        seen.append((state(network), x.clone(), torch.rand(1, dtype=torch.float32)))
        return network(x)

    x = torch.zeros(3)
    now = state(network)
    torch.manual_seed(3)
    outputs = after(network, compiled, what)(x)
    assert [told[0] == now for told in seen] == [False, True]
    assert state(network) == now
    assert torch.equal(seen[0][1], seen[1][1]), "its arguments were copies"
    assert torch.equal(seen[0][2], seen[1][2]), "the random state is put back"
    assert torch.equal(outputs[0], torch.full((3,), 2.0)), "parameters are put back"
    assert len(outputs) == 1


def test_only_the_first_call_is_preceded_and_an_error_there_is_nobodys() -> None:
    calls = []

    def compiled(x: torch.Tensor) -> Any:
        calls.append(torch.is_autocast_enabled("cpu"))
        if calls[-1]:
            raise RuntimeError
        return (x,)

    run = after(lambda x: (x,), compiled, "autocast")
    run(torch.ones(1))
    run(torch.ones(1))
    assert calls == [True, False, False]


@pytest.mark.parametrize(
    ("what", "training"), [*((what, False) for what in HISTORIES), ("gradients", True), ("autocast", True)]
)
def test_a_right_compiler_does_not_notice(what: str, training: bool) -> None:
    x, y = torch.ones(3, 3, requires_grad=training), torch.ones(3, 3)
    result = execute(case(lambda x, y: (torch.mm(x, x) + torch.ones(3), y.add_(1)), x, y, history=what))
    assert (result.status, result.outcome, result.left) == ("compared", Outcome.PASS, ())


def test_a_warm_cache_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.utils import counters

    monkeypatch.setattr("shakeout.oracles.determinism.TURN", 1 << 40)  # it would compile twice more
    counters.clear()
    result = execute(case(lambda x: torch.sin(x) + 1, torch.ones(5), history="warm_cache", on="inductor"))
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)
    told = counters["inductor"]
    assert told["fxgraph_cache_hit"] >= 1
    assert told["fxgraph_cache_hit"] + told["fxgraph_cache_miss"] == 2, "compiled twice"


def test_a_guard_that_does_not_notice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # The planted fault: a compiler that keeps none of the guards on what Python holds.
    stock = torch.compile

    def stale(function: Any, **options: Any) -> Any:
        ignore = {"guard_filter_fn": lambda guards: [False for _ in guards]}
        return stock(function, **options, options=ignore)

    one = case(lambda x: torch.sin(x), torch.ones(3), history="python_state")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", stale)
        result = execute(one)
        assert execute(case(lambda x: torch.sin(x), torch.ones(3), history=None)).outcome is Outcome.PASS
    assert result.failure is not None
    assert (result.failure.oracle, result.failure.symptom) == ("metadata", "wrong number of outputs")
    assert execute(one).outcome is Outcome.PASS


def test_a_graph_of_another_mode_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # The planted fault: whatever was compiled first answers for good.
    def once(function: Any, **options: Any) -> Any:
        made: list[Any] = []

        def run(*given: torch.Tensor) -> Any:
            if not made:
                made.append((torch.is_autocast_enabled("cpu"), torch.get_default_dtype()))
            autocast, dtype = made[0]
            before = torch.get_default_dtype()
            torch.set_default_dtype(dtype)
            try:
                with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
                    return function(*given)
            finally:
                torch.set_default_dtype(before)

        return run

    monkeypatch.setattr(torch, "compile", once)
    for what in ("autocast", "default_dtype", None):
        one = case(lambda x: (torch.mm(x, x), torch.ones(3)), torch.ones(3, 3), history=what)
        failure = execute(one).failure
        assert (failure is not None) == (what is not None), what
        assert failure is None or failure.symptom == "wrong dtype"


def test_the_script_shows_the_history() -> None:
    one = case(torch.sin, torch.ones(3), history="threads")
    text = repro(one)
    assert "def after(function, compiled, what):" in text
    assert "return after(function, torch.compile(function, backend='aot_eager', fullgraph=True), 'threads')" in text
    seen = runs.observe(script.load(one), target("aot_eager").source(one.setting))
    assert seen.error is None


def test_histories_are_drawn_and_can_be_pinned() -> None:
    for one in (AOT_EAGER, INDUCTOR):
        drawn = [
            dict(drawn_knobs(SeededChoices(seed), one.knobs(), {}, 0.15, 1)[0]).get(HISTORY) for seed in range(400)
        ]
        assert 10 < sum(what is not None for what in drawn) < 60
        pinned = drawn_knobs(SeededChoices(0), one.knobs(), {HISTORY: "eval"}, 0.0, 1)
        assert pinned == [((HISTORY, "eval"),)]

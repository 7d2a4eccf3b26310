"""The limits on real compilers by which bisecting finds a part."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch._inductor.config
from tests.faults import FAULTS
from tests.faults.fault import Canary
from tests.faults.inductor import Compiled, uncached
from torch._inductor import pattern_matcher
from torch._inductor.fx_passes import fuse_attention
from torch.fx.experimental.proxy_tensor import make_fx

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.hooks import Limit, limited
from shakeout.fuzz.bisect.trials import Trial, in_process
from shakeout.targets import limits


def test_a_decomposition_that_is_left_out_is_not_called() -> None:
    case = capture(torch.logit, lambda: [torch.full((3,), 0.25)], setting=Setting("aot_eager_decomp_partition"))
    with limited(case.setting.target, Limit("decomposition")) as names:
        assert in_process([Trial(case)])[0].status == "compared"
    assert any("logit" in name for name in names), names
    shown = in_process([Trial(case, Limit("decomposition", 0)), Trial(case)])
    assert [one.status for one in shown] == ["compared", "compared"]


@pytest.mark.long
def test_the_lowering_in_which_a_fault_is_planted_is_named() -> None:
    fault = next(fault for fault in FAULTS if fault.name == "tanh saturates early")
    assert isinstance(fault.plant, Compiled)
    # Planted without the canary's second compilation, which would be counted too.
    with uncached(), fault.plant.patch(Canary()):
        found = Ablation(fault.case(), in_process).culprit("lowerings", "lowering")
    assert found is not None
    assert found.alone
    assert len(found.names) == 1
    assert found.names[0].startswith("aten.tanh")


@contextlib.contextmanager
def fused_attention_forgets_its_scale() -> Iterator[None]:
    """A mistake in what Inductor puts in the place of attention that is written out, in one pattern of thirty."""
    right, first = fuse_attention._scaled_dot_product_attention, fuse_attention._sfdp_replacement_1.__code__

    def wrong(*args: torch.Tensor, scale: float | None = None, **kwargs: Any) -> Any:
        return right(*args, scale=1.0 if sys._getframe(1).f_code is first else scale, **kwargs)

    with uncached(), mock.patch.object(fuse_attention, "_scaled_dot_product_attention", wrong):
        yield


@pytest.mark.long
def test_a_pass_of_patterns_is_told_as_the_pattern_that_is_wrong() -> None:
    def network(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return torch.matmul(query, key.transpose(-2, -1)).div(4.0).softmax(dim=-1).matmul(value)

    given = [torch.arange(64.0).reshape(2, 2, 4, 4).sub(30 + shift).div(20) for shift in range(3)]
    case = capture(network, lambda: [one.clone() for one in given], setting=Setting("inductor"))
    with fused_attention_forgets_its_scale():
        ablation = Ablation(case, in_process)
        coarse = ablation.culprit("joint_graph_passes", "joint-graph pass")
        fine = ablation.culprit("patterns", "pattern")
    assert coarse is not None
    assert fine is not None
    assert coarse.names == ("pass_pattern_0",)
    (name,) = fine.names
    search, _, rest = name.partition(", replaced by ")
    assert search == "fuse_attention._sfdp_pattern_1"
    replacement = fuse_attention._sfdp_replacement_1
    line = replacement.__code__.co_firstlineno
    place = f"_sfdp_replacement_1 (torch/_inductor/fx_passes/fuse_attention.py:{line}) at aten."
    assert rest.startswith(place)
    assert fine.alone is True


def test_a_pattern_whose_check_of_a_match_raises_is_one_that_can_be_left_out() -> None:
    def check(match: object) -> bool:
        raise ValueError("of a match")

    def handler(match: object, x: object) -> None:
        """Never called."""

    sine = pattern_matcher.CallFunction(torch.ops.aten.sin.default, pattern_matcher.KeywordArg("x"))
    patterns = pattern_matcher.PatternMatcherPass()
    pattern_matcher.register_graph_pattern(sine, extra_check=check, pass_dict=patterns)(handler)
    graph = make_fx(torch.sin, tracing_mode="fake")(torch.ones(2))
    with limited("inductor", Limit("patterns")) as names, pytest.raises(ValueError, match="of a match"):
        patterns.apply(graph)
    (name,) = names
    assert "handler (test_bisect_compilers.py:" in name
    assert name.endswith(" at aten.sin.default (sin)")
    with limited("inductor", Limit("patterns", 0)) as names:
        assert patterns.apply(graph) == 0
    assert names == [name]
    with pytest.raises(ValueError, match="of a match"):
        patterns.apply(graph)


def test_each_kind_of_pattern_has_a_name() -> None:
    def handler(match: object) -> None:
        """Takes a match's place."""

    def registered(search_fn: object, replace_fn: object) -> object:
        """As torch's ``register_replacement`` makes it."""
        return SimpleNamespace(extra_check=lambda match: (search_fn, replace_fn), pattern_name="unique")

    def partial(function: Callable[[object], None]) -> Callable[[], None]:
        bound = functools.partial(function, None)
        return lambda: bound()

    line = handler.__code__.co_firstlineno
    here = f"test_bisect_compilers.test_each_kind_of_pattern_has_a_name.handler (test_bisect_compilers.py:{line})"
    searched = "test_bisect_compilers.test_each_kind_of_pattern_has_a_name.partial"
    assert limits.pattern_name(SimpleNamespace(handler=handler)) == here
    assert limits.pattern_name(SimpleNamespace(handler=functools.partial(handler, None))) == here
    assert limits.pattern_name(SimpleNamespace(handler=partial(handler))) == here
    told = limits.pattern_name(registered(partial, partial(handler)))
    assert told == f"{searched}, replaced by handler (test_bisect_compilers.py:{line})"
    # What another torch holds elsewhere, or does not hold.
    assert limits.pattern_name(SimpleNamespace(extra_check=lambda match: True, pattern_name="unique")) == "unique"
    assert limits.pattern_name(SimpleNamespace(extra_check=print)) == "SimpleNamespace"
    assert limits.pattern_name(registered(None, None)) == "unique"


def test_passes_that_nothing_is_compiled_without_are_not_left_out() -> None:
    asked: list[str] = []

    class Nothing:
        """A gate that lets nothing pass."""

        def begin(self) -> None:
            pass

        def __call__(self, name: str, key: object = None) -> bool:
            asked.append(name)
            return False

    from torch._inductor.compiler_bisector import CompilerBisector

    with limits.post_grad_passes(Nothing()):
        off = [
            CompilerBisector.disable_subsystem("inductor", "post_grad_passes", functools.partial(str, name))
            for name in ("reinplace_inplaceable_ops", "decompose_auto_functionalized")
        ]
    assert off == [True, False]
    assert asked == ["reinplace_inplaceable_ops"]

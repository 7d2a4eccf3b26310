"""The stack's own systems: what is told of them is true, and their kernels are declared and run as a user's are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.benchmarks import systems as measured
from tests.faults.systems import broken, planted

import shakeout
from shakeout.corpus import codec
from shakeout.corpus.user_objects import InvariantBroken, Kernel, NotAllowed, check, find
from shakeout.fuzz.cli import main
from shakeout.fuzz.running import fresh
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome
from shakeout.targets.compilers.conv_bn import Folded
from shakeout.targets.published import PUBLISHED
from shakeout.targets.registry import target
from shakeout.targets.systems import canonical, parts, systems

STORED = sorted((Path(__file__).parent / "systems").glob("*.json"))
KERNELS = [name for name, part in parts().items() if ".kernels." in part.target]

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_table_is_made_of_what_is_there() -> None:
    text = measured.PAGE.read_text(encoding="utf-8")
    assert measured.page(text) == text, "python tests/benchmarks/systems.py --write"
    assert sorted(PUBLISHED) == list(range(1, 68))
    assert len({system.number for system in systems()}) == len(systems())


@pytest.mark.parametrize("name", parts())
def test_a_system_is_whole(name: str) -> None:
    mine = [one for one in broken() if one.part == name]
    assert len(mine) >= 4
    assert len({one.mistake for one in mine}) == len(mine)
    for one in mine:
        assert one.text()
    assert name in [path.stem for path in STORED]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_stored_case_passes(path: Path) -> None:
    result = execute(codec.decode(path.read_text(encoding="utf-8")))
    assert result.outcome is Outcome.PASS, result.verdicts


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_right_on_its_examples(name: str) -> None:
    kernel = find(parts()[name].target)
    assert isinstance(kernel, Kernel)
    assert kernel.examples
    assert kernel.invariants
    for example in kernel.examples:
        found, wanted = (
            kernel.checked(*example.args, **example.kwargs),
            kernel.reference(*example.args, **example.kwargs),
        )
        torch.testing.assert_close(found, wanted, equal_nan=True)


def test_they_are_listed_and_found_by_their_short_names(capsys: pytest.CaptureFixture) -> None:
    assert main(["targets"]) == 0
    assert "gather_rows" in capsys.readouterr().out
    assert main(["targets", "--json"]) == 0
    listed = {one["name"]: one["summary"] for one in json.loads(capsys.readouterr().out)}
    assert set(parts()) <= set(listed)
    assert listed["gather_rows"] == target("gather_rows").facts.summary
    assert canonical("gather_rows") == target("gather_rows").name == "shakeout.targets.kernels.gather:gather_rows"
    assert canonical("mypackage:mine") == "mypackage:mine"


def test_a_file_may_name_what_is_shipped_and_nothing_else() -> None:
    check("shakeout.targets.kernels.nowhere:nothing")
    with pytest.raises(NotAllowed):
        check("shakeout.fuzz.cli:main")
    with pytest.raises(NotAllowed):
        check("shakeout_targets.kernels:nothing")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shakeout.targets.nowhere:nothing", "there is no module shakeout.targets.nowhere"),
        ("shakeout.targets.offload.disk_store:disk_store", "is not declared for Shakeout"),
        ("shakeout.targets.compilers.conv_bn:conv_bn_tune", "is declared, but not as a kernel"),
    ],
)
def test_what_is_shipped_and_no_kernel_is_called_by_no_case(name: str, words: str) -> None:
    (path,) = (one for one in STORED if one.stem == "gather_rows")
    text = path.read_text(encoding="utf-8").replace(parts()["gather_rows"].target, name)
    found = fresh.answer(codec.decode(text).on("aot_eager"), 60)
    assert found.status == fresh.CANNOT_RUN
    assert words in found.lines[0]


def test_a_planted_variant_is_gone_afterwards() -> None:
    variant = next(one for one in broken() if one.part == "gather_rows")
    name = parts()["gather_rows"].target
    right = find(name)
    with planted(variant):
        assert find(name) is not right
    assert find(name) is right


@pytest.mark.parametrize(
    ("x", "weight", "bias"),
    [((1, 4, 5, 5), (2, 1, 3, 3), None), ((1, 4, 5, 5), (2, 4, 3, 3), (1,)), ((1, 1, 2, 5), (1, 1, 3, 3), None)],
)
def test_a_convolution_refuses_what_pytorch_refuses(x: tuple[int, ...], weight: tuple[int, ...], bias: Any) -> None:
    given = torch.ones(x), torch.ones(weight), None if bias is None else torch.ones(bias)
    with pytest.raises(RuntimeError):
        torch.nn.functional.conv2d(*given)
    with pytest.raises(ValueError, match="not "):
        find(parts()["im2win_conv2d"].target)(*given)


def test_what_is_folded_once_is_folded_anew_where_writes_are_not_counted() -> None:
    weight, mean, variance = torch.ones(2, 3), torch.ones(2), torch.ones(2)
    with torch.inference_mode():
        scale = torch.ones(2)
        folded = Folded()
        for factor in (1.0, 2.0):
            scale.fill_(factor)
            found, _ = folded(weight, None, mean, variance, scale, None, 0.0, 1, False)
            assert torch.equal(found, weight * factor)


def shipped(name: str) -> Kernel:
    kernel = find(parts()[name].target)
    assert isinstance(kernel, Kernel)
    return kernel


@pytest.mark.parametrize("name", ["ring_self_attention", "ring_online_attention"])
def test_large_scores_cost_attention_no_digits(name: str) -> None:
    steps = torch.arange(7.0)[:, None]
    query, key, value = 4096 + 8 * steps, 4 + steps / 4096, torch.cat([steps, -steps], -1).requires_grad_()
    kernel = shipped(name)
    told = []
    for function in (kernel, kernel.reference):
        found = function(query, key, value, ranks=3, causal=True, scale=1.0)
        told.append([found, *torch.autograd.grad(found.square().sum(), [value])])
    torch.testing.assert_close(*told, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ring_self_attention", "ring_online_attention"])
def test_a_weight_of_one_has_no_slope(name: str) -> None:
    torch.manual_seed(7)
    query = torch.tensor([[40.0], [-40.0]], requires_grad=True)
    found = shipped(name)(query, query.detach(), torch.randn(2, 33), ranks=2, scale=1.0)
    (slope,) = torch.autograd.grad((found * torch.randn(2, 33)).sum(), query)
    assert not slope.any()


def test_scores_that_overflow_are_not_those_that_are_masked() -> None:
    query, key, value = torch.full((2, 1), 1e30), torch.full((2, 1), -1e30), torch.ones(2, 1)
    for name in ("ring_self_attention", "ring_online_attention"):
        kernel = shipped(name)
        for function in (kernel, kernel.reference):
            assert bool(function(query, key, value, causal=True).isnan().all())


@pytest.mark.parametrize("name", ["parallel_gated_attention", "chunked_gated_attention"])
def test_the_gradient_of_gates_that_are_nearly_closed_is_right(name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn(7, 2, dtype=torch.float64, generator=generator) for _ in range(3))
    gate = torch.full((7, 2), -0.5, dtype=torch.float64, requires_grad=True)
    kernel = shipped(name)
    told = []
    for function in (kernel, kernel.reference):
        found, last = function(query, key, value, gate, temper=0.01, chunk=3, sub=2)
        told += torch.autograd.grad(found.sum() + last.sum(), gate)
    largest = told[1].abs().max().item()
    assert 0 < largest < 1e-30
    torch.testing.assert_close(*told, rtol=0, atol=1e-9 * largest)


def test_a_softmax_in_integers_declines_a_sum_that_does_not_fit() -> None:
    shiftmax = shipped("shiftmax")
    assert shiftmax.checked(torch.zeros(6, dtype=torch.int16), 1e-4).tolist() == [19] * 6
    with pytest.raises(NotImplementedError, match="31 bits"):
        shiftmax(torch.zeros(7, dtype=torch.int16), 1e-4)


# --- invariants -------------------------------------------------------------------------------------------------------


def declared(*invariants: Callable) -> Kernel:
    @shakeout.kernel(reference=torch.neg, examples=[(torch.ones(3),)], invariants=invariants)
    def negated(x: torch.Tensor) -> torch.Tensor:
        return -x

    return negated


def test_an_invariant_is_told_by_its_name_and_sees_no_gradient() -> None:
    def odd(kernel: Callable, x: torch.Tensor) -> str | None:
        assert not x.requires_grad
        x.zero_()  # a copy
        return None if torch.equal(kernel(-x), -kernel(x)) else "not odd"

    def positive(kernel: Callable, x: torch.Tensor) -> str | None:
        return "negative" if bool((kernel(x) < 0).any()) else None

    def elsewhere(kernel: Callable, x: torch.Tensor) -> str | None:
        raise NotImplementedError

    x = torch.ones(3, requires_grad=True)
    assert declared(odd, elsewhere).checked(x).tolist() == [-1.0] * 3
    with pytest.raises(InvariantBroken, match=r"^positive: negative$"):
        declared(odd, positive).checked(x)
    assert declared(positive)(x).tolist() == [-1.0] * 3  # called as ever, nothing is checked


@pytest.mark.parametrize("given", ["text", [int], [3], 3])
def test_what_is_no_invariant_is_refused(given: object) -> None:
    with pytest.raises(TypeError, match="invariant"):
        shakeout.kernel(reference=torch.neg, invariants=given)(torch.neg)


@pytest.mark.parametrize("name", ["ring_self_attention", "ring_online_attention"])
def test_of_a_row_that_is_no_number_what_is_masked_has_no_slope(name: str) -> None:
    from shakeout.targets.kernels import ring_attention

    def slopes(function: Callable[..., Any]) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(0)
        query, key, value = (torch.randn(5, 2, requires_grad=True) for _ in range(3))
        with torch.no_grad():
            query[1], key[0] = 3e38, 10.0  # the score of the second row and the first key overflows
        out = function(query, key, value, causal=True)
        return torch.autograd.grad(out.sum(), (query, key, value))

    found, expected = slopes(getattr(ring_attention, name)), slopes(ring_attention.attention)
    assert expected[1][:2].isnan().any()
    assert not expected[1][2:].isnan().any()
    for one, other in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)

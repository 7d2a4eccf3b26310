"""What people hand over becomes the same program, or is refused with the line and the reason."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import nn

from shakeout.corpus import codec, script
from shakeout.corpus.case import Case, Setting
from shakeout.corpus.intake import beside
from shakeout.corpus.intake.capturing import Captured, capture
from shakeout.corpus.intake.refusal import NotCaptured
from shakeout.corpus.program import Call, Name
from shakeout.fuzz.running.execute import execute
from shakeout.generators.validity import validated
from shakeout.oracles.verdict import Outcome

EAGER = Setting("eager")


def captured(function: Callable[..., Any], *args: Any, **more: Any) -> Captured:
    return capture(function, args, setting=EAGER, **more)


def text(case: Case) -> str:
    return script.network(case.program).partition("\n\n\n")[0]


def leaf(*shape: int) -> torch.Tensor:
    return torch.linspace(-1, 1, max(1, torch.Size(shape).numel())).reshape(shape).requires_grad_()


# --- what is lifted ---------------------------------------------------------------------------------------------------


def test_parameters_are_lifted_and_a_buffer_that_is_written_is_an_input() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    case = captured(module, torch.randn(5, 3)).case
    roles = [given.role for given in case.program.inputs]
    assert roles == ["input", "parameter", "parameter", "input", "input", "input", "parameter", "parameter"]
    assert case.setting.mode == "training"
    assert case.program.operators()[-1] == "torch.nn.functional.batch_norm"
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} is not what it was"
    assert all(parameter.grad is None for parameter in module.parameters())
    assert codec.decode(codec.encode(case)) == case


def test_a_module_in_evaluation_mode_is_captured_for_inference_and_keeps_its_flags() -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    found = captured(module, x, x, x)
    assert found.level == "torch"
    assert found.case.setting.mode == "inference"
    assert "torch.nn.functional.multi_head_attention_forward" in found.case.program.operators()
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert torch.backends.mha.get_fastpath_enabled()


def test_tied_weights_are_one_input() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    case = captured(module, torch.randn(2, 3)).case
    assert len(case.program.inputs) == 4


def test_a_tensor_that_the_source_finds_around_it_is_an_input() -> None:
    scale = torch.tensor([1.0, 2.0])
    case = captured(lambda x: x * scale, leaf(2)).case
    assert [given.role for given in case.program.inputs] == ["input", "input"]


def test_data_that_is_no_argument_of_a_case_becomes_an_input() -> None:
    import numpy

    found = captured(lambda x: x + torch.tensor(numpy.ones(2, dtype="float32")), leaf(2))
    assert len(found.case.program.inputs) == 2
    assert any("became an input" in note for note in found.notes)


def test_keywords_nested_arguments_and_nested_results() -> None:
    def function(pair: tuple[torch.Tensor, torch.Tensor], *, scale: float, more: dict[str, torch.Tensor]) -> Any:
        first, second = pair
        return {"sum": (first + second) * scale, "more": [more["x"] * 2, 3]}

    x, y = leaf(2), leaf(2)
    found = capture(function, ((x, y),), {"scale": 2.0, "more": {"x": x}}, setting=EAGER)
    assert len(found.case.program.inputs) == 2
    assert len(found.case.program.returns) == 2
    assert any("2.0 is written into the program" in note for note in found.notes)
    assert any("flat tuple" in note for note in found.notes)
    assert any("1 of its results is a plain value" in note for note in found.notes)


def test_large_values_are_blobs_where_a_directory_is_given(tmp_path: Path) -> None:
    case = captured(nn.Linear(40, 10), torch.randn(2, 40), directory=tmp_path).case
    assert [s.values.kind for s in case.input_sets[0].storages] == ["literal", "blob", "literal"]
    assert len(list((tmp_path / "blobs").iterdir())) == 1


def test_arguments_that_share_memory_share_it_in_the_case() -> None:
    whole = torch.arange(6.0)

    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        a.add_(1)
        return b * 2

    case = captured(function, whole[:4], whole[2:]).case
    assert len(case.input_sets[0].storages) == 1
    assert torch.equal(whole, torch.arange(6.0))


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_blocks_that_turn_switches_are_blocks_of_the_program() -> None:
    @torch.no_grad()
    def constant(x: torch.Tensor) -> torch.Tensor:
        return x.sin()

    def function(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = x @ x
            with torch.autocast("cpu", enabled=False):
                z = x @ x
        return y + z * constant(x)

    case = captured(function, leaf(2, 2)).case
    assert text(case) == (
        "def program(x0):\n"
        "    with torch.autocast('cpu', dtype=torch.bfloat16):\n"
        "        v1 = x0.matmul(x0)\n"
        "        with torch.autocast('cpu', enabled=False):\n"
        "            v2 = x0.matmul(x0)\n"
        "    with torch.no_grad():\n"
        "        v3 = x0.sin()\n"
        "    v4 = v2.mul(v3)\n"
        "    v5 = v1.add(v4)\n"
        "    return (v5,)"
    )


def test_what_is_written_to_in_a_block_is_itself_behind_it() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        kept = x.clone()
        with torch.no_grad():
            kept.mul_(2)
        return kept + 1

    assert text(captured(function, torch.ones(2)).case) == (
        "def program(x0):\n"
        "    v1 = x0.clone()\n"
        "    with torch.no_grad():\n"
        "        t0 = v1.mul_(2)\n"
        "    v2 = v1.add(1)\n"
        "    return (v2,)"
    )


def test_what_stands_around_the_call_stands_around_the_program() -> None:
    module = nn.Linear(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        case = captured(module, torch.randn(2, 3)).case
    around = Call("torch.autocast", ("cpu",), (("dtype", Name("torch.bfloat16")),), (), "none")
    assert case.program.around == (around,)
    with torch.no_grad():
        assert captured(module, torch.randn(2, 3)).case.setting.mode == "inference"


def test_branches_and_loops_are_regions() -> None:
    from torch._higher_order_ops import while_loop

    def function(x: torch.Tensor) -> Any:
        (y,) = torch.cond(x.sum() > 0, lambda a: (a.sin(),), lambda a: (a.cos() * x,), (x,))
        return while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a + y), (0, torch.zeros_like(x)))

    case = captured(function, torch.ones(2)).case
    assert [call.operator for call in case.program.calls if call.regions] == [
        "torch.cond",
        "torch._higher_order_ops.while_loop",
    ]
    assert " + 1\n" in text(case)


def test_a_checkpoint_is_a_region_of_what_is_computed_anew() -> None:
    from torch.utils.checkpoint import checkpoint

    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return checkpoint(lambda a: (a @ w).sin(), x, use_reentrant=False).cos()

    found = captured(function, leaf(2, 3), leaf(3, 3))
    assert text(found.case) == (
        "def program(x0, x1):\n"
        "    def checkpointed_0():\n"
        "        t0 = x0.matmul(x1)\n"
        "        t1 = t0.sin()\n"
        "        return (t1,)\n"
        "    v2, = torch.utils.checkpoint.checkpoint(checkpointed_0, use_reentrant=False)\n"
        "    v3 = v2.cos()\n"
        "    return (v3,)"
    )
    assert codec.decode(found.case.text) == found.case
    result = execute(found.case)
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)


def test_a_scan_is_a_region() -> None:
    from torch._higher_order_ops.scan import scan

    def function(x: torch.Tensor) -> Any:
        return scan(lambda total, row: (total + row, (total * row).clone()), torch.zeros(2), x)

    case = captured(function, torch.ones(3, 2)).case
    assert "torch._higher_order_ops.scan" in case.program.operators()


def inner_gradient(x: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        wanted = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(wanted.sin().sum(), wanted)
    return found


# --- beneath the source -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.func.jacrev(torch.sin)(x),
        lambda x: torch.func.vmap(torch.sin, out_dims=0, randomness="same")(x),
        inner_gradient,
        lambda x: x.data * 2,
    ],
)
def test_transforms_are_held_by_the_operators_beneath(function: Callable[..., Any]) -> None:
    found = captured(function, torch.linspace(-1, 1, 3))
    assert found.level == "aten"
    assert all(name.startswith("torch.ops.aten.") for name in found.case.program.operators())
    assert "operators of PyTorch's library" in found.notes[0]


def test_transforms_of_plain_functions_are_regions_that_the_source_could_say() -> None:
    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.vmap(torch.func.grad(lambda y: (w @ y).sin().sum()))(x)

    found = captured(function, leaf(4, 3), leaf(3, 3), mode="inference")
    assert found.level == "torch"
    assert text(found.case) == (
        "def program(x0, x1):\n"
        "    def mapped_0(t0):\n"
        "        def differentiated_1(t2):\n"
        "            t3 = x1.matmul(t2)\n"
        "            t4 = t3.sin()\n"
        "            t5 = t4.sum()\n"
        "            return t5\n"
        "        t1 = torch.func.grad(differentiated_1)(t0)\n"
        "        return (t1,)\n"
        "    v2, = torch.func.vmap(mapped_0)(x0)\n"
        "    return (v2,)"
    )
    assert execute(found.case).outcome is Outcome.PASS


def test_operators_of_the_library_are_recorded_as_such() -> None:
    case = captured(lambda x: torch.ops.aten.add.Tensor(x, x, alpha=2), leaf(2)).case
    assert case.program.operators() == ("torch.ops.aten.add.Tensor",)


def test_the_device_that_everything_is_on_is_not_said() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x + torch.zeros(2, device=x.device) + torch.ones_like(x, device="cpu").to(device="cpu")

    case = captured(function, leaf(2)).case
    assert text(case).count("device") == 1  # of ``to``, which is given nothing else


# --- what cannot be held ----------------------------------------------------------------------------------------------


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 3


class Rebinding(nn.Module):
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count = self.count + 1
        return x + self.count


def branching(x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:
        return x.sin()
    return x.cos()


def unseen(x: torch.Tensor) -> torch.Tensor:
    import numpy

    return x + torch.from_numpy(numpy.ones(2, dtype="float32"))


def switching(x: torch.Tensor) -> torch.Tensor:
    torch.set_grad_enabled(False)
    y = x.sin()
    torch.set_grad_enabled(True)
    return y


def checkpointed(x: torch.Tensor) -> torch.Tensor:
    import torch.utils.checkpoint

    return x + torch.utils.checkpoint.checkpoint(torch.sin, x.detach(), use_reentrant=True)


def random_of_python(x: torch.Tensor) -> torch.Tensor:
    import random

    return x * random.random()


def hooked(x: torch.Tensor) -> torch.Tensor:
    y = x.sin()
    y.register_hook(lambda gradient: gradient * 2)
    return y


REFUSED: list[tuple[str, Callable[..., Any], tuple[Any, ...], str, str]] = [
    ("branch", branching, (leaf(2),), "may depend on the data", "if x.sum() > 0:"),
    ("item", lambda x: x * x.sum().item(), (leaf(2),), "item makes a plain value", "x.sum().item()"),
    ("numpy", lambda x: x.detach().numpy(), (leaf(2),), "numpy makes a plain value", "numpy()"),
    ("unseen", unseen, (leaf(2),), "neither an input nor made by an operator", "torch.from_numpy"),
    ("switch", switching, (leaf(2),), "gradient mode was switched by a call", "y = x.sin()"),
    ("checkpoint", checkpointed, (leaf(2),), "say use_reentrant=False", "checkpoint(torch.sin"),
    ("function", Twice.apply, (leaf(2),), "Twice has a backward pass of its own", ""),
    ("rebinding", Rebinding(), (leaf(2),), "binds count to another tensor", ""),
    ("random", random_of_python, (leaf(2),), "called again with the same inputs", ""),
    ("hook", hooked, (leaf(2),), "register_hook is not an operator", "register_hook"),
    ("array", lambda x: x[0], (numpy.ones(2),), "give torch.as_tensor of it", ""),
    ("iterator", lambda x: next(x).sin(), (iter([leaf(2)]),), "the first call uses up", ""),
    ("result", lambda x: iter([x.sin()]), (leaf(2),), "it returns a list_iterator", ""),
    ("function as a result", lambda x: x.sin().add, (leaf(2),), "it returns a builtin_function_or_method", ""),
    ("nothing", lambda x: 3, (leaf(2),), "returns no tensor", ""),
    ("sparse", lambda x: x * 2, (torch.eye(2).to_sparse(),), "torch.sparse_coo", ""),
    ("raises", lambda x: x @ x, (leaf(2, 3),), "the function raises RuntimeError", "x @ x"),
    ("lazy", nn.LazyLinear(3), (leaf(2, 3),), "lazy module", ""),
    ("not callable", 3, (leaf(2),), "expected a function or a module, found int", ""),  # type: ignore[list-item]
    ("custom", lambda x: torch.ops.prims.sin.default(x), (leaf(2),), "torch.ops.prims.sin.default", "prims"),
    ("meta", lambda x: x + torch.ones(2, device="meta"), (leaf(2),), "on meta", "meta"),
]


@pytest.mark.parametrize(
    ("function", "args", "reason", "line"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_cannot_be_held_is_refused_in_words_and_with_the_line(
    function: Callable[..., Any], args: tuple[Any, ...], reason: str, line: str
) -> None:
    with pytest.raises(NotCaptured) as caught:
        captured(function, *args)
    told = str(caught.value)
    assert reason in told
    assert line in told
    if line:
        assert "test_intake.py:" in told


def test_a_backward_pass_of_its_own_is_written_out_where_nobody_asks_for_it() -> None:
    found = captured(Twice.apply, torch.ones(2))
    assert text(found.case).count("mul") == 1
    assert any("Twice" in note for note in found.notes)


def test_another_program_is_never_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "_functions", _swapped(beside._functions))
    with pytest.raises(NotCaptured, match="output 0 has other bits"):
        captured(lambda x: x.sin(), torch.linspace(0, 1, 4))


def _swapped(own: Callable[[Case], dict[str, Any]]) -> Callable[[Case], dict[str, Any]]:
    def functions(case: Case) -> dict[str, Any]:
        return {**own(case), "prepare": lambda network: lambda x: (x.sin() * (1 + 2**-22),)}

    return functions


def test_a_captured_case_runs_as_any_other() -> None:
    case = captured(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.LayerNorm(4)), torch.randn(2, 3)).case
    result = execute(case)
    assert result.status == "compared"
    assert result.outcome is Outcome.PASS


# --- custom operators -------------------------------------------------------------------------------------------------

AROUND = torch.ones(2)


@torch.library.custom_op("shakeout_tests::scaled", mutates_args=("out", "more"))
def scaled(x: torch.Tensor, out: torch.Tensor, more: list[torch.Tensor], by: float) -> list[torch.Tensor]:
    for place in range(len(x)):
        out[len(x) - 1 - place] = x[place] * by
    for one in more:
        one.add_(x)
    return [x + 1, x - 1]


@torch.library.custom_op("shakeout_tests::by_numpy", mutates_args=())
def by_numpy(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() * 2)


@torch.library.custom_op("shakeout_tests::beside", mutates_args=())
def beside_it(x: torch.Tensor) -> torch.Tensor:
    return x + AROUND


@torch.library.custom_op("shakeout_tests::secret", mutates_args=())
def secret(x: torch.Tensor) -> torch.Tensor:
    x.mul_(2)
    return x + 1


@torch.library.custom_op("shakeout_tests::promising", mutates_args=())
def promising(x: torch.Tensor) -> torch.Tensor:
    return x.t().clone()


@promising.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty(x.shape[1], x.shape[0])


@torch.library.custom_op("shakeout_tests::tripled", mutates_args=())
def tripled(x: torch.Tensor) -> torch.Tensor:
    return x * 3


def tripled_wrongly(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
    (x,) = ctx.saved_tensors
    return gradient * ctx.factor + x.sin()


def kept_of_tripled(ctx: Any, inputs: Any, output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)
    ctx.factor = 3


tripled.register_fake(torch.empty_like)
tripled.register_autograd(tripled_wrongly, setup_context=kept_of_tripled)


@torch.library.custom_op("shakeout_tests::summed", mutates_args=())
def summed(x: list[torch.Tensor]) -> torch.Tensor:
    return x[0] + x[1]


summed.register_autograd(lambda ctx, gradient: [gradient, gradient])


@torch.library.triton_op("shakeout_tests::taken_apart", mutates_args={})
def taken_apart(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1


def test_a_custom_operator_is_brought_along() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        kept = y.clone()
        plus, minus = scaled(x, kept, [y], 2.0)
        return kept + plus, minus

    found = captured(function, torch.arange(2.0), torch.ones(2))
    (call,) = (one for one in found.case.program.calls if one.regions)
    assert call.operator == "torch.library.custom_op"
    assert call.args[1:] == ((1, 2),)
    assert len(call.regions[0].parameters) == 3
    assert any("plain arguments" in note for note in found.notes)
    assert codec.decode(found.case.text) == found.case
    result = execute(found.case)
    assert (result.status, result.outcome) == ("compared", Outcome.PASS)


def test_a_custom_operator_of_triton_is_taken_apart_by_compilers() -> None:
    found = captured(lambda x: taken_apart(x) * 2, torch.ones(2))
    assert found.case.program.operators()[0] == "torch.library.triton_op"
    assert execute(found.case).outcome is Outcome.PASS


def test_a_backward_pass_of_a_custom_operator_is_no_matter_in_inference() -> None:
    assert captured(tripled, leaf(2), mode="inference").case.program.operators()[0] == "torch.library.custom_op"


def test_a_backward_pass_of_a_custom_operator_is_brought_along() -> None:
    """Not the derivative, so that nothing else than what it says can give the same."""
    found = captured(lambda x: tripled(x.cos()), leaf(2))
    (call,) = (one for one in found.case.program.calls if one.regions)
    assert call.operator == "torch.library.register_autograd"
    assert [one.operator for one in call.regions[1].calls] == [
        "torch.Tensor.mul",
        "torch.Tensor.sin",
        "torch.Tensor.add",
    ]
    assert codec.decode(found.case.text) == found.case
    valid = validated(found.case)
    assert valid.program == found.case.program
    result = execute(valid)
    assert (result.status, result.outcome, result.reason) == ("compared", Outcome.PASS, "")


def test_a_tensor_that_the_collector_looks_at_no_more_was_there_before() -> None:
    """Whoever has drawn a program before has loaded the operators, which freezes all objects that are there."""
    gc.freeze()
    try:
        found = captured(lambda x: x + AROUND, torch.ones(2))
    finally:
        gc.unfreeze()
    assert len(found.case.program.inputs) == 2


@pytest.mark.parametrize(
    ("function", "given", "reason", "line"),
    [
        (by_numpy, torch.ones(2), "numpy makes a plain value", "x.numpy()"),
        (beside_it, torch.ones(2), "reads a tensor that it is not given", ""),
        (secret, torch.ones(2), "mutates_args do not name", ""),
        (promising, torch.ones(2, 3), "register_fake says float32[3, 2] with strides (2, 1)", ""),
        (lambda x: summed([x, x]), leaf(2), "has a backward pass of its own, and it takes lists", "summed([x, x])"),
    ],
)
def test_a_custom_operator_that_cannot_be_held_is_refused(
    function: Callable[..., Any], given: torch.Tensor, reason: str, line: str
) -> None:
    def called(x: torch.Tensor) -> Any:
        return function(x) + 0

    with pytest.raises(NotCaptured) as caught:
        captured(called, given)
    assert reason in str(caught.value)
    assert "test_intake.py:" in str(caught.value)
    assert (line or "function(x) + 0") in str(caught.value)


def test_an_operator_of_a_library_is_named_as_one() -> None:
    library = torch.library.Library("shakeout_legacy", "DEF")
    library.define("doubled(Tensor x) -> Tensor")
    library.impl("doubled", lambda x: x * 2, "CPU")
    with pytest.raises(NotCaptured, match=r"torch\.ops\.shakeout_legacy\.doubled is an operator of a library"):
        captured(lambda x: torch.ops.shakeout_legacy.doubled(x) + 1, torch.ones(2))


def test_tensors_of_inference_mode_are_as_good_as_others() -> None:
    module = nn.BatchNorm1d(3)
    with torch.inference_mode():
        x = torch.randn(4, 3)
        found = captured(module, x)
    assert found.case.setting.mode == "inference"
    assert "it is called in inference mode; the case is called without gradients" in found.notes
    before = x.clone()
    captured(lambda x: x.mul_(2), x)
    assert torch.equal(x, before)

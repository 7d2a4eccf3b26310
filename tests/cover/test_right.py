"""What a right kernel or runtime of a user's may do is no finding, and what a wrong one does still is."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from tests.right.kernels import KERNELS
from tests.right.runtimes import RUNTIMES

import shakeout
from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Arg, Call, Input, Name, Program, Ref, TensorType
from shakeout.corpus.user_objects import find
from shakeout.corpus.vocabularies import kernel as words
from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running import replicas, runs
from shakeout.fuzz.running.execute import execute
from shakeout.fuzz.running.replicas import replica
from shakeout.oracles import exception, tolerance
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import target

MOST = torch.finfo(torch.float64).max


@shakeout.kernel(reference=torch.mm)
def by_parity(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The even terms, the odd terms, and their sum."""
    return x[:, ::2] @ y[::2] + x[:, 1::2] @ y[1::2]


@shakeout.kernel(reference=torch.mm)
def without_nan(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Wrong: loses what is no number."""
    return (x @ y).nan_to_num(nan=1.0)


def turned(x: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Two products and their difference, each rounded."""
    return x * c - x * s


@shakeout.kernel(reference=turned, examples=[(torch.ones(3), torch.ones(3), torch.ones(3))])
def fused(x: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The same, rounded once."""
    return (x.double() * c.double() - x.double() * s.double()).to(x.dtype)


def pick(x: torch.Tensor) -> torch.Tensor:
    """A reference that calls an operator with ties."""
    return x.topk(2, -1).values + x.div(3)


@shakeout.kernel(reference=pick, examples=[(torch.arange(4.0),)])
def picked(x: torch.Tensor) -> torch.Tensor:
    """The same."""
    return pick(x)


def spectral(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A convolution by Fourier transforms."""
    product = torch.fft.rfft(x) * torch.fft.rfft(w, n=x.shape[-1]).conj()
    return torch.fft.irfft(product, n=x.shape[-1])[..., : x.shape[-1] - w.shape[-1] + 1]


@shakeout.kernel(reference=torch.nn.functional.conv1d, accuracy="normwise")
def declared_normwise(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Right, and says how."""
    return spectral(x, w)


@shakeout.kernel(reference=torch.nn.functional.conv1d)
def undeclared(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The same without saying so."""
    return spectral(x, w)


@shakeout.kernel(reference=torch.nn.functional.conv1d, accuracy="normwise")
def wrong_normwise(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Wrong by a thousandth of the largest element."""
    y = spectral(x, w)
    return y + 1e-3 * y.abs().max()


def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention by its definition, without the largest score."""
    weights = torch.exp(q @ k.mT / math.sqrt(q.shape[-1]))
    return weights @ v / weights.sum(-1, keepdim=True)


@shakeout.kernel(reference=torch.var)
def by_autograd(x: torch.Tensor) -> torch.Tensor:
    """Right: two passes, of which autograd makes the gradient, by way of a mean that is no number."""
    return (x - x.mean()).square().sum() / (x.numel() - 1)


def centred(x: torch.Tensor) -> torch.Tensor:
    """Each row less its mean, by way of its variance."""
    return torch.nn.functional.layer_norm(x, x.shape[1:])


@shakeout.kernel(reference=centred)
def by_first(x: torch.Tensor) -> torch.Tensor:
    """Right for rows of one element: less themselves, and so their gradients."""
    return (x - x) * 1e5**0.5


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return centred(x)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.nan_to_num()


@shakeout.kernel(reference=centred)
def wrong_backward(x: torch.Tensor) -> torch.Tensor:
    """Wrong: the gradient of its result is passed on."""
    return _Wrong.apply(x)  # type: ignore[no-any-return,no-untyped-call]


@shakeout.kernel(reference=torch.nn.functional.scaled_dot_product_attention)
def right_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Right."""
    return attended(q, k, v)


@shakeout.kernel(reference=torch.nn.functional.scaled_dot_product_attention)
def wrong_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Wrong by a thousandth in the gradient of the keys."""
    if k.requires_grad:
        k = k.view_as(k)
        k.register_hook(lambda gradient: gradient * 1.001)  # type: ignore[no-untyped-call]
    return attended(q, k, v)


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    """Whatever module pytest made of this file is found by its name."""
    import sys

    sys.modules.setdefault(__name__, sys.modules[by_parity.__module__])
    yield
    find.cache_clear()
    target.cache_clear()


def run(kernel: object, *values: torch.Tensor, training: bool = False) -> Result:
    return execute(case(kernel, *values, training=training))


def case(kernel: object, *values: torch.Tensor, training: bool = False) -> Case:
    operator = f"{kernel.__module__}:{kernel.__name__}"  # type: ignore[attr-defined]
    with torch.no_grad():
        result = words.kernel(operator).reference(*values)
    types = tuple(TensorType(str(v.dtype).removeprefix("torch."), tuple(v.shape)) for v in (*values, result))
    given: tuple[Arg, ...] = tuple(Ref(n) for n in range(len(values)))
    call = Call(operator, given, (), (types[-1],))
    program = Program(tuple(Input(t, "input") for t in types[:-1]), (call,), (len(values),), "kernel")
    storages = tuple(Storage(t.dtype, v.numel(), Values("literal", items=tuple(v.flatten().tolist())))
                     for t, v in zip(types, values, strict=False))  # fmt: skip
    views = tuple(View(n, t.dtype, t.shape, contiguous(t.shape), 0, training) for n, t in enumerate(types[:-1]))
    mode = "training" if training else "inference"
    return Case(program, (InputSet(storages, views),), Setting(operator, (), mode))


def row(*numbers: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor([numbers], dtype=dtype)


def both(one: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """What the reference gives, and the kernel."""
    want = runs.observe(script.load(one)).calls[0]["output"][0]
    got = runs.observe(script.load(one), target(one.setting.target).source(one.setting)).calls[0]["output"][0]
    return want, got


def test_partial_sums_of_a_kernel_may_overflow_in_another_order() -> None:
    one = case(by_parity, row(MOST, MOST, -math.inf, 0.0), torch.ones(4, 1, dtype=torch.float64))
    want, got = both(one)
    assert bool(want.isnan().all())
    assert bool(got.isneginf().all())
    assert execute(one).outcome is not Outcome.FAIL
    # A number that no sum overflows on the way to has to be right.
    half = case(without_nan, row(0.01 * MOST, -math.inf, math.inf, 0.0), torch.ones(4, 1, dtype=torch.float64))
    assert execute(half).outcome is Outcome.FAIL


def test_what_no_order_explains_is_a_finding() -> None:
    result = run(without_nan, row(1.0, math.nan), torch.ones(2, 1, dtype=torch.float64))
    assert result.failure is not None
    assert result.failure.symptom == "NaN lost"


def test_gradients_of_a_kernel_may_overflow_in_another_order() -> None:
    # The gradient of x is g y', and g counts from -2 to 2: two large terms and -inf, of which the last two in one tile.
    y = torch.tensor([[0.0, -MOST, 0.0, MOST, -math.inf, 0.0]], dtype=torch.float64)
    result = run(KERNEL["blocked_matmul"], torch.ones(1, 1, dtype=torch.float64), y, training=True)
    assert result.outcome is not Outcome.FAIL, result.failure


KERNEL = {name: find(f"tests.right.kernels:{name}") for name in KERNELS}


def test_a_kernel_that_rounds_once_may_overflow_where_each_product_did() -> None:
    given = [row(number, dtype=torch.half) for number in (300.0, 900.0, 300.0)]
    one = case(fused, *given)
    want, got = both(one)
    assert bool(want.isnan())
    assert bool(got.isposinf())
    assert execute(one).outcome is not Outcome.FAIL
    # So do the replicas of the reference that stay in single precision inside.
    (found,) = words.evaluate_fused(one.program, given, lambda call, results: results)[3:]
    assert (found.dtype, found.item()) == (torch.half, math.inf)
    (found,) = words.evaluate(one.program, given, lambda call, results: results)[3:]
    assert bool(found.isnan())


def seen(one: Case) -> set[float]:
    found: set[float] = set()
    for number in range(8):
        found.update(replica(one, number).calls[0]["output"][0].flatten().tolist())
    return found


def test_what_is_near_the_border_of_the_range_may_be_within() -> None:
    edge = torch.tensor(torch.finfo(torch.float32).max, dtype=torch.float64).log().float()
    above = torch.nextafter(edge, torch.tensor(math.inf))
    assert bool(above.exp().isinf())
    most = torch.finfo(torch.float32).max

    def exponential(values: torch.Tensor) -> Case:
        return capture(lambda x: torch.exp(x), lambda: [values], setting=Setting("eager", ()))

    assert {most, math.inf} <= seen(exponential(above.reshape(1)))
    assert seen(exponential(torch.tensor([100.0]))) == {math.inf}
    divided = capture(lambda x: torch.reciprocal(x), lambda: [torch.zeros(1)], setting=Setting("eager", ()))
    assert seen(divided) == {math.inf}


def explained(want: float, got: float, baseline: float, replicas: Sequence[float], dtype: torch.dtype) -> bool:
    def tensor(number: float, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.tensor([number], dtype=dtype)

    return bool(
        tolerance.moved(tensor(want), tensor(got), tensor(baseline, torch.float64), list(map(tensor, replicas))).item()
    )


def test_double_precision_that_no_longer_fits_is_infinite() -> None:
    assert explained(math.nan, math.inf, 1e5, [math.nan], torch.float16)
    assert not explained(math.nan, math.inf, 1e3, [math.nan], torch.float16)
    assert not explained(math.nan, -math.inf, 1e5, [math.nan], torch.float16)


def test_next_to_a_pole_nothing_is_known() -> None:
    wild = [5e11, 2e12, 7e10, 1e12]
    assert explained(1e12, 2.5e13, 4e-8, wild, torch.float32)
    assert not explained(1e12, 2.5e15, 4e-8, wild, torch.float32)
    # What cancels has lost its digits as well; that excuses nothing of another size.
    assert not explained(1e-8, 1.0, 0.0, [2e-8, -1e-8], torch.float32)


def test_a_composed_kernel_has_the_traits_of_what_its_reference_calls() -> None:
    name = f"{picked.__module__}:picked"
    traits = words.traits(name)
    assert {"torch.Tensor.topk", "torch.Tensor.div"} <= set(words.called(name))
    assert (traits.ties, traits.division, traits.finite) == (True, True, False)
    product = f"{by_parity.__module__}:by_parity"
    assert words.called(product) == ("torch.mm",)


def test_a_normwise_kernel_may_blur_what_is_small_and_spread_what_is_not_finite() -> None:
    x = torch.tensor([[[1e9, 1.0, -1e9, 3.0, 1e-3, 2e-3, 0.0, 1.0]]])
    w = torch.tensor([[[1.0, 1.0]]])
    assert run(undeclared, x, w).outcome is Outcome.FAIL
    assert run(declared_normwise, x, w).outcome is not Outcome.FAIL
    infinite = torch.tensor([[[math.inf, 1.0, 2.0, 3.0]]])
    assert run(undeclared, infinite, w).outcome is Outcome.FAIL
    assert run(declared_normwise, infinite, w, training=True).outcome is not Outcome.FAIL
    assert run(wrong_normwise, x, w).outcome is Outcome.FAIL
    assert run(wrong_normwise, torch.tensor([[[1.0, 2.0, 3.0]]]), w).outcome is Outcome.FAIL


def test_the_rounding_inside_of_attention_excuses_no_wrong_gradient() -> None:
    noise = torch.Generator().manual_seed(3)
    given = [torch.randn(2, 5, 4, generator=noise) for _ in range(3)]
    assert run(right_attention, *given, training=True).outcome is not Outcome.FAIL
    result = run(wrong_attention, *given, training=True)
    assert result.failure is not None
    assert (result.failure.oracle, result.failure.symptom) == ("gradient", "wrong value")


def test_an_accuracy_that_nobody_knows_is_refused() -> None:
    with pytest.raises(TypeError, match="'elementwise' or 'normwise'"):
        shakeout.kernel(reference=torch.mm, accuracy="fast")  # type: ignore[arg-type]


def test_eager_with_saved_tensors_laid_out_anew_is_the_measure_of_bits() -> None:
    want, other = torch.tensor([1.0, 1.0, math.nan, 1.0]), torch.tensor([1.0, 1.001, 2.0, math.nan])
    got = torch.tensor([1.0 + 2**-23, 1.002, 2.0, math.nan])
    assert tolerance.spanned(want, got, [other]).tolist() == [False, True, True, True]
    assert tolerance.spanned(want, want + 0.003, [other]).tolist() == [False, False, False, False]


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_right_runtime_may_lay_out_what_it_keeps(name: str) -> None:
    def network(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x.t().std(0) + w.to(memory_format=torch.channels_last).tanh().std((0, 2, 3)).sum()

    def make() -> list[torch.Tensor]:
        noise = torch.Generator().manual_seed(0)
        values = (torch.randn(shape, generator=noise) for shape in ((33, 50), (4, 6, 5, 5)))
        return [one.requires_grad_() for one in values]

    setting = Setting(f"tests.right.runtimes:{name}", (), "training")
    result = execute(capture(network, make, setting=setting))
    assert (result.status, result.failure) == ("compared", None)
    assert result.exact == (name not in ("cloned_contiguous", "as_bytes", "pinned"))
    (gradient,) = (verdict for verdict in result.verdicts if verdict.oracle == "gradient")
    if not result.exact:
        assert (gradient.outcome, gradient.symptom) == (Outcome.UNKNOWN, "unstable")
        assert "rounding errors move the reference by up to" in gradient.message


def test_what_is_computed_again_may_be_written_to_before() -> None:
    def network(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        z = torch.reciprocal(y)
        y.tan_()
        return z + y

    setting = Setting("tests.right.runtimes:recomputed", (), "training")
    result = execute(capture(network, lambda: [torch.ones(3).requires_grad_()], setting=setting))
    assert (result.status, result.failure) == ("compared", None)


def test_what_a_normwise_kernel_spreads_reaches_the_gradients_of_what_is_no_number() -> None:
    # The gradient of a NaN is a sum of the weights, one of which is large; a transform blurs it.
    x = torch.tensor([[[1.0, math.nan, 1.0, 2.0]]])
    w = torch.tensor([[[1.0, 1e20, 1.0]]])
    assert run(undeclared, x, w, training=True).outcome is Outcome.FAIL
    assert run(declared_normwise, x, w, training=True).outcome is not Outcome.FAIL
    (seen,) = {replica(case(declared_normwise, x, w, training=True), 2).calls[0]["gradient"][0][0, 0, 1].item()}
    assert seen != 0.0


@shakeout.kernel(reference=torch.relu)
def by_columns(x: torch.Tensor) -> torch.Tensor:
    """Right, and column by column in memory."""
    return x.t().relu().contiguous().t()


@shakeout.kernel(reference=torch.relu)
def raising(x: torch.Tensor) -> torch.Tensor:
    """Wrong: takes no row alone."""
    if len(x) == 1:
        raise RuntimeError("self.stride(0) must be divisible by 2")
    return x.t().relu().contiguous().t()


def then(one: Case, operator: str, *args: Arg, dtype: str, shape: tuple[int, ...]) -> Case:
    """The case with another call, of which nothing but the result is returned."""
    program, last = one.program, TensorType(dtype, shape)
    number = len(program.inputs) + sum(len(call.results) for call in program.calls)
    calls = (*program.calls, Call(operator, args, (), (last,)))
    return replace(one, program=replace(program, calls=calls, returns=(number,)))


def test_an_operator_that_does_not_take_the_layout_of_a_kernel_is_a_note() -> None:
    def read(kernel: object) -> Result:
        one = case(kernel, row(1.0, 2.0, 3.0, 4.0, dtype=torch.half))
        return execute(then(one, "torch.Tensor.view", Ref(1), Name("torch.float32"), dtype="float32", shape=(1, 2)))

    result = read(by_columns)
    assert (result.outcome, result.status) == (Outcome.UNKNOWN, "undefined")
    assert [note for verdict in result.verdicts for note in verdict.notes] == [exception.LAYOUT]
    # A kernel that raises by itself says nothing of a layout.
    assert read(raising).outcome is Outcome.FAIL


def padded(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A convolution with a frame of zeros."""
    return torch.nn.functional.conv1d(x, w, padding=1)


@shakeout.kernel(reference=padded)
def written_out(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Right: multiplies by the padding."""
    windows = torch.nn.functional.pad(x, (1, 1)).unfold(2, w.shape[2], 1)
    return (windows.unsqueeze(1) * w[None, :, :, None]).sum((2, 4))


@shakeout.kernel(reference=padded)
def skipped(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Right: a window at the border is smaller."""
    places = [slice(max(0, n - 1), n + 2) for n in range(x.shape[2])]
    parts = [w[:, :, one.start - n + 1 : one.stop - n + 1][..., : x[..., one].shape[2]] for n, one in enumerate(places)]
    return torch.stack([(x[:, None, :, one] * part).sum((2, 3)) for one, part in zip(places, parts, strict=True)], -1)


@shakeout.kernel(reference=padded)
def losing(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Wrong: loses what is no number."""
    return written_out(x, w).nan_to_num(nan=1.0, posinf=math.inf, neginf=-math.inf)


def test_a_kernel_may_multiply_its_padding_by_infinity() -> None:
    x, w = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[[1.0, 2.0, math.inf]]])
    assert bool(written_out(x, w)[..., -1].isnan())
    assert bool(skipped(x, w)[..., -1].isfinite())
    # One of them does what PyTorch does, which depends on the machine.
    assert {run(kernel, x, w).outcome for kernel in (written_out, skipped)} <= {Outcome.PASS, Outcome.UNKNOWN}
    # Of what no padding is a part.
    inside = torch.tensor([[[1.0, 0.0, 0.0, 4.0]]])
    result = run(losing, inside, w)
    assert result.failure is not None
    assert result.failure.symptom == "NaN lost"


def gelu(x: torch.Tensor) -> torch.Tensor:
    """PyTorch's."""
    return torch.nn.functional.gelu(x)


@shakeout.kernel(reference=gelu)
def by_erfc(x: torch.Tensor) -> torch.Tensor:
    """Right, and better: nothing cancels."""
    return 0.5 * x * torch.erfc(-x * math.sqrt(0.5))


def test_what_is_left_of_an_activation_where_all_cancels_is_a_rounding_error() -> None:
    one = case(by_erfc, row(-9.0, 2.0))
    inverted = then(one, "torch.reciprocal", Ref(1), dtype="float64", shape=(1, 2))
    want, got = both(inverted)
    assert bool(want[0, 0].isinf())
    assert bool(got[0, 0].isfinite())
    assert execute(inverted).outcome is Outcome.UNKNOWN


def test_what_is_left_where_all_cancels_may_be_what_does_not_cancel() -> None:
    one = case(by_erfc, row(-30.0, 2.0))
    want, got = (float(found[0, 0]) for found in both(one))
    assert want == 0
    assert -1e-190 < got < 0  # whose logarithm, reciprocal or exponent is of another size than that of a rounding error
    assert any(-1e-190 < number < 0 for number in seen(one))


@shakeout.kernel(reference=torch.mm)
def apart_from_nothing(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Right: what has no element depends on nothing."""
    return x @ y if x.numel() else x.new_zeros(len(x), y.shape[1])


def test_a_gradient_of_nothing_is_absent_and_stays_so_behind_infinity() -> None:
    # The gradient of y is a sum of no terms, which times infinity is no number.
    one = case(apart_from_nothing, torch.ones(0, 2), torch.ones(2, 3), training=True)
    program, (given,) = one.program, one.input_sets
    scaled = Call("torch.mul", (Ref(1), math.inf), (), (TensorType("float32", (2, 3)),))
    product = replace(program.calls[0], args=(Ref(0), Ref(2)))
    program = replace(program, calls=(scaled, product), returns=(3,))
    result = execute(replace(one, program=program, input_sets=(given,)))
    assert (result.status, result.failure) == ("compared", None)
    (gradient,) = (verdict for verdict in result.verdicts if verdict.oracle == "gradient")
    assert (gradient.outcome, gradient.symptom) == (Outcome.UNKNOWN, "unstable")


@shakeout.kernel(reference=turned)
def forgetful(x: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Wrong: of its operands only the last has a gradient."""
    return turned(x.detach(), c.detach(), s)


def test_a_gradient_that_is_zero_and_absent_excuses_no_other() -> None:
    # That of the first is c - s times -2, -1 and 0, which is zero, and that of the second is not.
    given = [row(*numbers) for numbers in ((3.0, 2.0, 5.0), (0.0, 1.0, 1.0), (0.0, 1.0, 1.0))]
    result = run(forgetful, *given, training=True)
    assert result.failure is not None
    assert result.failure.symptom == "gradient lost"


scale = [1.0]


def exponential(x: torch.Tensor) -> torch.Tensor:
    """PyTorch's."""
    return torch.exp(x)


@shakeout.kernel(reference=exponential)
def rescaled(x: torch.Tensor) -> torch.Tensor:
    """Right if the factor is nearly one."""
    return x.exp() * scale[0]


def test_the_bytes_of_a_number_that_rounding_moves_are_arbitrary() -> None:
    def read(factor: float) -> Result:
        scale[0] = factor
        one = case(rescaled, row(1.1, 2.3, 5.0))
        one = then(one, "torch.Tensor.view", Ref(1), Name("torch.uint8"), dtype="uint8", shape=(1, 24))
        return execute(one)

    assert read(1 + 3e-9).outcome is Outcome.UNKNOWN
    # The exponent of a number is none of its last bytes.
    assert read(2.0).outcome is Outcome.FAIL


@shakeout.kernel(reference=torch.relu)
def with_other_zeros(x: torch.Tensor) -> torch.Tensor:
    """Right: a product with a mask."""
    return x * (x > 0)


@shakeout.kernel(reference=torch.relu)
def negated(x: torch.Tensor) -> torch.Tensor:
    """Wrong but for zeros."""
    return -x.relu()


def test_which_zero_a_kernel_computes_is_its_own_affair() -> None:
    def signed(kernel: object) -> Result:
        one = case(kernel, row(-1.0, 2.0))
        return execute(then(one, "torch.copysign", Ref(0), Ref(1), dtype="float64", shape=(1, 2)))

    assert signed(with_other_zeros).outcome is Outcome.UNKNOWN
    assert signed(negated).outcome is Outcome.FAIL


@shakeout.kernel(reference=exponential)
def three_units_larger(x: torch.Tensor) -> torch.Tensor:
    """Right but for the last place."""
    y = x.exp()
    for _ in range(3):
        y = torch.nextafter(y, torch.tensor(math.inf, dtype=x.dtype))
    return y


def test_a_comparison_of_numbers_that_are_as_good_as_equal_is_a_decision() -> None:
    x = row(0.1, 0.2)
    bound = float(three_units_larger(x)[0, 0])
    one = then(case(three_units_larger, x), "torch.eq", Ref(1), bound, dtype="bool", shape=(1, 2))
    assert [bool(found[0, 0]) for found in both(one)] == [False, True]
    assert execute(one).outcome is Outcome.UNKNOWN
    # What is further off is compared as ever.
    scale[0] = 1.001
    far = then(case(rescaled, row(1.0, 2.0)), "torch.lt", Ref(1), 2.72, dtype="bool", shape=(1, 2))
    assert [bool(found[0, 0]) for found in both(far)] == [True, False]
    assert execute(far).outcome is Outcome.FAIL


@shakeout.kernel(reference=torch.mm)
def beside_one(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Right where the terms are as large as one: their sum is added to it, which is taken away."""
    return x @ y + 1 - 1


def test_where_all_terms_cancel_nothing_may_be_left() -> None:
    x, y = row(0.1, 0.2, -0.3, 3e-17), torch.ones(4, 1, dtype=torch.float64)

    def lost(x: torch.Tensor) -> Case:
        return then(case(beside_one, x, y), "torch.logical_not", Ref(2), dtype="bool", shape=(1, 1))

    one, small = lost(x), lost(row(0.0, 0.0, 0.0, 3e-17))
    assert [bool(found) for found in both(one)] == [False, True]
    assert execute(one).outcome is Outcome.UNKNOWN
    assert [bool(found) for found in both(small)] == [False, True]
    assert execute(small).outcome is Outcome.FAIL


def test_replicas_that_all_fail_in_our_code_are_told_and_blame_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = row(1.0, math.nan), torch.ones(2, 1, dtype=torch.float64)
    monkeypatch.setattr(replicas, "moved_numbers", None)
    result = run(without_nan, x, y)
    (value,) = (verdict for verdict in result.verdicts if verdict.oracle == "value")
    assert (value.outcome, value.symptom) == (Outcome.UNKNOWN, "SHAKEOUT-INTERNAL")
    assert [note.text.partition(" at ")[0] for note in value.notes] == ["SHAKEOUT-INTERNAL TypeError"]
    assert result.failure is None


def test_where_a_kernel_is_no_number_its_gradient_may_be_any() -> None:
    one = case(by_autograd, torch.tensor([1.0, math.inf, 2.0]), training=True)
    assert execute(one).failure is None
    (gradient,) = (verdict for verdict in execute(one).verdicts if verdict.oracle == "gradient")
    assert (gradient.outcome, gradient.symptom) == (Outcome.UNKNOWN, "unstable")  # NaN for infinity
    infinite, number = torch.tensor([[math.inf]]), torch.tensor([[3.0]])
    assert run(by_first, infinite, training=True).failure is None  # zero for NaN
    # Where it is a number it has a gradient, also beside one that is none.
    for given in (number, torch.cat([infinite, number])):
        result = run(wrong_backward, given, training=True)
        assert result.failure is not None
        assert (result.failure.oracle, result.failure.symptom) == ("gradient", "wrong value")


@shakeout.kernel(reference=torch.mm)
def with_normal_numbers(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Right: takes what is below the smallest normal number for zero."""
    tiny = torch.finfo(x.dtype).tiny
    return torch.where(x.abs() < tiny, 0.0, x) @ torch.where(y.abs() < tiny, 0.0, y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_may_take_what_is_below_the_smallest_normal_number_for_zero(dtype: torch.dtype) -> None:
    tiny, inf = torch.finfo(dtype).tiny, row(math.inf, dtype=dtype)
    one = case(with_normal_numbers, inf, row(tiny / 2, dtype=dtype))
    assert bool(both(one)[1].isnan())
    assert execute(one).failure is None
    assert {number != number for number in seen(one)} == {False, True}
    # Zero itself is no other number.
    assert run(without_nan, inf, row(0.0, dtype=dtype)).failure is not None


def test_any_nan_stands_in_a_replica_for_a_nan() -> None:
    one = capture(lambda x: torch.log(x).view(torch.int64), lambda: [-torch.ones(3, dtype=torch.float64)],
                  setting=Setting("eager", ()))  # fmt: skip
    found = [replica(one, number).calls[0]["output"][0] for number in range(8)]
    # One for all of them, or each its own.
    assert {len({int(bits) for bits in one}) for one in found} == {1, 3}
    assert len({int(one[0]) for one in found}) == 8
    assert all(bool(one.view(torch.float64).isnan().all()) for one in found)

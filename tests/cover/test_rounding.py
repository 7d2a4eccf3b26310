"""The rounding emulator against every code of the small formats, against torch's conversions, and its own laws."""

import math
from fractions import Fraction

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shakeout.oracles.rounding import FORMATS, MODES, Format, chop, rounded

#: Formats that torch has: width in bits.
SMALL = {
    "float16": 16,
    "bfloat16": 16,
    "float8_e4m3fn": 8,
    "float8_e5m2": 8,
    "float8_e4m3fnuz": 8,
    "float8_e5m2fnuz": 8,
}
SYMMETRIC = ("nearest-even", "nearest-away", "nearest-zero", "toward-zero", "odd")


def codes(name: str) -> torch.Tensor:
    """Every code of a format, as float64."""
    bits = SMALL[name]
    dtype = torch.int16 if bits == 16 else torch.uint8
    low = -(2**15) if bits == 16 else 0
    return torch.arange(low, low + 2**bits).to(dtype).view(getattr(torch, name)).to(torch.float64)


def same(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Bit equality, any NaN equal to any other, zeros told apart."""
    return (a.isnan() & b.isnan()) | ((a == b) & (a.signbit() == b.signbit()))


def hard(name: str) -> torch.Tensor:
    """Numbers that are hard to round: each code, the middle between neighbours, and a hair beside either."""
    numbers = codes(name)
    numbers = numbers[numbers.isfinite()].unique()
    middles = (numbers[1:] + numbers[:-1]) / 2
    edge = numbers[-1]
    past = edge + (edge - numbers[-2]) * torch.tensor([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 100.0], dtype=torch.float64)
    tiny = torch.tensor([5e-324, 1e-310, 1e-40, 2.0**-150], dtype=torch.float64)
    exact = torch.cat([numbers, middles, past, -past, tiny, -tiny])
    infinity = torch.full_like(exact, math.inf)
    special = torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, 1.7e308, -1.7e308], dtype=torch.float64)
    return torch.cat([exact, torch.nextafter(exact, infinity), torch.nextafter(exact, -infinity), special])


def neighbours(x: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The next numbers of a format at or below, and at or above, looked up in the list of all its codes."""
    numbers = codes(name)
    numbers = numbers[numbers.isfinite()].unique()
    numbers = torch.cat([torch.tensor([-math.inf]), numbers, torch.tensor([math.inf])]).to(torch.float64)
    at = torch.searchsorted(numbers, x.contiguous())
    above = numbers[at.clamp(max=len(numbers) - 1)]
    below = torch.where(above == x, x, numbers[(at - 1).clamp(min=0)])
    return below, above


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMALL)
def test_every_code_is_kept_in_every_mode(name: str, mode: str) -> None:
    numbers = codes(name)
    assert same(rounded(numbers, name, mode=mode), numbers).all()
    finite = numbers[numbers.isfinite()]
    assert same(rounded(finite, name, mode=mode, saturate=True), finite).all()
    assert same(rounded(numbers.float(), name, mode=mode).double(), numbers).all()


@pytest.mark.parametrize("name", SMALL)
def test_nearest_even_is_what_torch_does(name: str) -> None:
    # By way of float32, because torch itself converts float64 by way of it and rounds twice.
    narrow = hard(name).float()
    want = narrow.to(getattr(torch, name)).float()
    # Newer releases of torch saturate the format without infinities, older ones give NaN.
    saturate = name == "float8_e4m3fn" and bool(torch.tensor(1e9).to(torch.float8_e4m3fn).float() == 448)
    assert same(rounded(narrow, name, saturate=saturate), want).all()


def test_nearest_even_is_what_the_hardware_does() -> None:
    bits = torch.randint(-(2**63), 2**63 - 1, (200_000,), generator=torch.Generator().manual_seed(0))
    doubles = bits.view(torch.float64)
    assert same(rounded(doubles, "float32"), doubles.float().double()).all()
    scaled = torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for spread in (1e-7, 1e-5, 1.0, 3e4):
        numbers = torch.cat([scaled * spread, hard("float16")])
        with numpy.errstate(over="ignore"):
            want = torch.from_numpy(numbers.numpy().astype(numpy.float16).astype(numpy.float64))  # rounds once
        assert same(rounded(numbers, "float16"), want).all()


@pytest.mark.parametrize("name", SMALL)
def test_directed_modes_take_the_neighbours_in_the_list_of_codes(name: str) -> None:
    x = hard(name)
    x = x[x.isfinite()]
    below, above = neighbours(x, name)
    beyond = math.inf if FORMATS[name].infinities else math.nan
    below, above = (torch.where(t.isinf(), beyond * t.sign(), t) for t in (below, above))
    down, up = rounded(x, name, mode="down"), rounded(x, name, mode="up")
    assert ((down == below) | (down.isnan() & below.isnan())).all()
    assert ((up == above) | (up.isnan() & above.isnan())).all()
    zero = rounded(x, name, mode="toward-zero")
    inner = torch.where(x > 0, down, up)
    assert (zero == inner).all()


@pytest.mark.parametrize("name", SMALL)
def test_ties(name: str) -> None:
    numbers = codes(name)
    numbers = numbers[numbers.isfinite()].unique()
    middles = (numbers[1:] + numbers[:-1]) / 2
    below, above = numbers[:-1], numbers[1:]
    away = torch.where(middles > 0, above, below)
    assert (rounded(middles, name, mode="nearest-away") == away).all()
    inwards = torch.where(middles > 0, below, above)
    assert (rounded(middles, name, mode="nearest-zero") == inwards).all()
    odd = rounded(middles, name, mode="odd")
    even = rounded(middles, name)
    assert ((odd == below) | (odd == above)).all()
    assert (odd != even).all()  # of two neighbours one is odd and one even
    assert ((even == below) | (even == above)).all()


@pytest.mark.parametrize(
    ("mode", "positive", "negative"),
    [
        ("nearest-even", math.inf, -math.inf),
        ("nearest-away", math.inf, -math.inf),
        ("toward-zero", 65504.0, -65504.0),
        ("up", math.inf, -65504.0),
        ("down", 65504.0, -math.inf),
        ("odd", 65504.0, -65504.0),
        ("stochastic", math.inf, -math.inf),
        ("nearest-zero", math.inf, -math.inf),
    ],
)
def test_overflow_goes_by_the_mode(mode: str, positive: float, negative: float) -> None:
    big = torch.tensor([65536.0, 100_000.0, 131_071.0, 131_072.0, 1e300], dtype=torch.float64)
    assert (rounded(big, "float16", mode=mode) == positive).all()
    assert (rounded(-big, "float16", mode=mode) == negative).all()
    limit = torch.tensor([1e300, -1e300, math.inf, -math.inf], dtype=torch.float64)
    saturated = rounded(limit, "float16", mode=mode, saturate=True)
    assert saturated.tolist() == [65504.0, -65504.0, 65504.0, -65504.0]
    infinities = torch.tensor([math.inf, -math.inf], dtype=torch.float64)
    assert torch.equal(rounded(infinities, "float16", mode=mode), infinities)


def test_in_a_published_emulator_these_went_wrong() -> None:
    # Values just above the largest became 0, 65520 became 65536, ties of negative numbers went the other way, and what
    # was in the format already moved under rounding to odd.
    past = torch.tensor([65536.0, 70000.0, 131071.0], dtype=torch.float64)
    for mode in MODES:
        assert (rounded(past, "float16", mode=mode).abs() >= 65504).all()
    assert rounded(torch.tensor([65520.0]), "float16").item() == math.inf
    tie = torch.tensor([-(1 + 2.0**-11)], dtype=torch.float64)
    assert rounded(tie, "float16", mode="nearest-zero").item() == -1.0
    assert rounded(tie, "float16", mode="nearest-away").item() == -(1 + 2.0**-10)
    even = torch.tensor([1.0, 1 + 2.0**-9], dtype=torch.float64)
    assert torch.equal(rounded(even, "float16", mode="odd"), even)


def test_the_edge_of_overflow() -> None:
    x = torch.tensor([65519.999, 65520.0], dtype=torch.float64)
    assert rounded(x, "float16").tolist() == [65504.0, math.inf]
    assert rounded(torch.tensor([464.0, 464.1]), "float8_e4m3fn").tolist()[0] == 448.0
    assert rounded(torch.tensor([464.1, math.inf, -1e9]), "float8_e4m3fn").isnan().all()
    assert rounded(torch.tensor([464.1, -1e9]), "float8_e4m3fn", saturate=True).tolist() == [448.0, -448.0]


def test_without_subnormals_zero_and_the_smallest_normal_number_are_neighbours() -> None:
    least = 2.0**-14
    x = torch.tensor([least, 0.75 * least, 0.5 * least, 0.25 * least, -0.75 * least], dtype=torch.float64)

    def flushed(mode: str) -> list[float]:
        return (chop(x, exponent_bits=5, significand_bits=10, subnormals=False, mode=mode) / least).tolist()

    assert flushed("nearest-even") == [1, 1, 0, 0, -1]
    assert flushed("nearest-away") == [1, 1, 1, 0, -1]
    assert flushed("nearest-zero") == [1, 1, 0, 0, -1]
    assert flushed("toward-zero") == [1, 0, 0, 0, 0]
    assert flushed("up") == [1, 1, 1, 1, 0]
    assert flushed("down") == [1, 0, 0, 0, -1]
    assert flushed("odd") == [1, 1, 1, 1, -1]
    assert rounded(x[1:2], "float16").item() == x[1].item()


def test_the_sign_of_zero() -> None:
    x = torch.tensor([-0.0, 0.0, -1e-300, 1e-300], dtype=torch.float64)
    for mode in SYMMETRIC[:4]:
        assert rounded(x, "float16", mode=mode).signbit().tolist() == [True, False, True, False]
    assert not rounded(x, "float8_e4m3fnuz").signbit().any()


def test_bad_input_is_told() -> None:
    x = torch.ones(2, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"torch\.float16 given"):
        rounded(x.half(), "bfloat16")
    with pytest.raises(ValueError, match="unknown rounding mode 'up-ish'"):
        rounded(x, "float16", mode="up-ish")
    with pytest.raises(ValueError, match="unknown format 'float7'"):
        rounded(x, "float7")
    with pytest.raises(ValueError, match="cannot carry"):
        rounded(x.float(), "float64")
    with pytest.raises(ValueError, match="exponent_bits is 12"):
        chop(x, exponent_bits=12, significand_bits=3)
    with pytest.raises(ValueError, match="significand_bits is 53"):
        chop(x, exponent_bits=5, significand_bits=53)


def test_shapes_and_strides() -> None:
    x = torch.randn(3, 4, dtype=torch.float64).mT
    assert torch.equal(rounded(x, "bfloat16"), rounded(x.contiguous(), "bfloat16"))
    assert rounded(x[:0], "bfloat16").shape == (0, 3)
    assert rounded(torch.tensor(1.3), "bfloat16").shape == ()


# --- laws -------------------------------------------------------------------------------------------------------------

NUMBERS = st.floats(width=64, allow_nan=False)
WIDTHS = st.tuples(st.integers(2, 11), st.integers(0, 52))
LAWS = {"x": st.lists(NUMBERS, min_size=1, max_size=20), "widths": WIDTHS, "subnormals": st.booleans()}


def chopped(x: list[float], widths: tuple[int, int], subnormals: bool, mode: str, seed: int = 0) -> torch.Tensor:
    return chop(
        torch.tensor(x, dtype=torch.float64),
        exponent_bits=widths[0],
        significand_bits=widths[1],
        subnormals=subnormals,
        mode=mode,
        generator=torch.Generator().manual_seed(seed),
    )


@given(**LAWS, mode=st.sampled_from(MODES))
def test_what_is_rounded_stays(x: list, widths: tuple, subnormals: bool, mode: str) -> None:
    once = chopped(x, widths, subnormals, mode)
    assert same(chopped(once.tolist(), widths, subnormals, mode, seed=1), once).all()


@given(**LAWS, mode=st.sampled_from([mode for mode in MODES if mode != "stochastic"]))
def test_order_is_kept(x: list, widths: tuple, subnormals: bool, mode: str) -> None:
    got = chopped(sorted(x), widths, subnormals, mode)
    assert (got[1:] >= got[:-1]).all()


@given(**LAWS, mode=st.sampled_from(MODES), seed=st.integers(0, 9))
def test_every_mode_lies_between_down_and_up_which_are_neighbours(
    x: list, widths: tuple, subnormals: bool, mode: str, seed: int
) -> None:
    down, up = (chopped(x, widths, subnormals, way) for way in ("down", "up"))
    numbers = torch.tensor(x, dtype=torch.float64)
    assert ((down <= numbers) & (numbers <= up)).all()
    got = chopped(x, widths, subnormals, mode, seed)
    largest = Format.ieee(*widths).largest
    inside = numbers.abs() <= largest
    assert ((got == down) | (got == up))[inside].all()
    if mode == "nearest-even":
        near = inside & down.isfinite() & up.isfinite()
        assert ((got - numbers).abs() <= torch.minimum(numbers - down, up - numbers))[near].all()


@given(x=st.lists(NUMBERS, min_size=1, max_size=20), widths=WIDTHS)
def test_the_error_is_less_than_one_unit_in_the_last_place(x: list, widths: tuple) -> None:
    form = Format.ieee(*widths)
    for mode in MODES:
        got = chopped(x, widths, True, mode)
        for number, found in zip(x, got.tolist(), strict=True):
            if abs(number) <= form.largest and math.isfinite(found):
                exponent = max(math.frexp(number)[1] - 1 if number else form.least_exponent, form.least_exponent)
                unit = math.ldexp(1.0, exponent - form.significand_bits)
                error = abs(Fraction(found) - Fraction(number))
                assert error < Fraction(unit)
                assert error <= Fraction(unit) / 2 or not mode.startswith("nearest")


@given(**LAWS, mode=st.sampled_from(SYMMETRIC))
def test_the_symmetric_modes_are_odd_functions(x: list, widths: tuple, subnormals: bool, mode: str) -> None:
    mirrored = chopped([-number for number in x], widths, subnormals, mode)
    assert same(mirrored, -chopped(x, widths, subnormals, mode)).all()


@given(**LAWS)
def test_up_and_down_mirror_each_other(x: list, widths: tuple, subnormals: bool) -> None:
    mirrored = chopped([-number for number in x], widths, subnormals, "down")
    assert same(mirrored, -chopped(x, widths, subnormals, "up")).all()


@given(x=NUMBERS, narrow=st.integers(0, 20), exponent=st.integers(4, 10))
def test_rounding_to_odd_first_makes_a_second_rounding_right(x: float, narrow: int, exponent: int) -> None:
    first = chopped([x], (exponent, narrow + 2), True, "odd")
    if first.abs().item() < Format.ieee(exponent, narrow + 2).largest:
        twice = chopped(first.tolist(), (exponent, narrow), True, "nearest-even")
        assert same(twice, chopped([x], (exponent, narrow), True, "nearest-even")).all()


@given(rest=st.floats(0.0, 1.0), sign=st.sampled_from([-1.0, 1.0]), seed=st.integers(0, 2**31))
def test_stochastic_rounding_has_the_right_mean(rest: float, sign: float, seed: int) -> None:
    n, unit = 4000, 2.0**-7
    x = torch.full((n,), sign * (1.0 + rest * unit), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    got = rounded(x, "bfloat16", mode="stochastic", generator=generator)
    # Six standard deviations and one draw: a false alarm once in hundreds of millions of examples.
    assert abs((got.mean() - x[0]).item()) <= unit * (6 * math.sqrt(rest * (1 - rest) / n) + 1 / n)


def test_a_generator_makes_stochastic_rounding_repeatable() -> None:
    x = torch.randn(1000, dtype=torch.float64)
    first, second = (
        rounded(x, "float16", mode="stochastic", generator=torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, rounded(x, "float16", mode="stochastic", generator=torch.Generator().manual_seed(8)))

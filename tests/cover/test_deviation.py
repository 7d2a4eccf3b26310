"""Classes of differences: what each is, and that unlike dtypes do not disturb it."""

import pytest
import torch

from shakeout.oracles.deviation import DEVIATIONS, deviation

RAMP = torch.tensor([[1.0, 2.0, 3.5], [4.0, 7.0, -6.0]])


def classed(want: torch.Tensor, got: torch.Tensor) -> str:
    bad = ~((want == got) | (torch.isnan(want) & torch.isnan(got)))
    assert bad.any()
    return deviation(want, got, bad)


@pytest.mark.parametrize(
    ("want", "got", "expected"),
    [
        (RAMP, torch.where(RAMP > 3, torch.nan, RAMP), "NaN"),
        (torch.where(RAMP > 3, torch.nan, RAMP), RAMP, "NaN"),
        (RAMP, torch.where(RAMP > 3, torch.inf, RAMP), "infinity"),
        (RAMP, torch.where(RAMP > 3, 0.0, RAMP), "zero"),
        (RAMP, torch.where(RAMP > 3, -RAMP, RAMP), "sign"),
        (RAMP, RAMP.roll(1, 1), "index off by one"),
        (RAMP, RAMP.roll(-1, 1), "index off by one"),
        (RAMP, RAMP.t().reshape(2, 3), "permuted"),
        (RAMP, RAMP * 3, "scaled"),
        (RAMP, RAMP + 2, "offset"),
        (RAMP, RAMP * 1.001, "small"),
        (RAMP, RAMP**2 + 0.5, "other"),
        (torch.tensor([1.5]), torch.tensor([7.25]), "other"),
        (torch.tensor([200]), torch.tensor([-56]), "wrapped"),
        (torch.tensor([3, -4]), torch.tensor([4, -5]), "off by one"),
        (torch.tensor([3, 9, 4]), torch.tensor([5, 9, 9]), "other"),
        (torch.tensor([True, True]), torch.tensor([False, True]), "zero"),
        (torch.tensor([False]), torch.tensor([True]), "other"),
        (torch.tensor([1 + 2j]), torch.tensor([1 - 2j]), "other"),
        (torch.tensor([1 + 2j]), torch.tensor([-1 - 2j]), "sign"),
        (torch.tensor(2.0), torch.tensor(0.0), "zero"),
    ],
)
def test_each_class(want: torch.Tensor, got: torch.Tensor, expected: str) -> None:
    assert expected in DEVIATIONS
    assert classed(want, got) == expected


DTYPES = [torch.uint8, torch.uint16, torch.uint64, torch.int64, torch.bool, torch.bfloat16, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_has_a_class(dtype: torch.dtype) -> None:
    want = torch.tensor([1, 0, 1, 1], dtype=torch.int64).to(dtype)
    got = torch.tensor([0, 1, 1, 0], dtype=torch.int64).to(dtype)
    bad = torch.tensor([True, True, False, True])
    assert deviation(want, got, bad) in DEVIATIONS

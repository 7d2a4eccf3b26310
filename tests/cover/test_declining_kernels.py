"""What a user's kernel declines is found out before programs are made of it, whatever else it does."""

import os

import torch

import shakeout
from shakeout.corpus.program import Ref
from shakeout.generators.vocabularies.records import Record, Slot
from shakeout.generators.vocabularies.refusals import accepted

SUM = Record("torch.sum", (Ref(0),), (), (Slot("T", (0, 1)),), (1, 2), (True, True), (), ranks=0b1111)
DTYPES = ("float32", "int32", "complex64", "float64")


def only_floats(x: torch.Tensor) -> torch.Tensor:
    if not x.dtype.is_floating_point:
        raise NotImplementedError("floating-point numbers")
    return x.sum()


@shakeout.kernel(reference=torch.sum)
def floats_of_some_rank(x: torch.Tensor) -> torch.Tensor:
    """Takes no scalar, and none of one row or one column, which is a matter of sizes and not of ranks."""
    if not x.dim() or 1 in x.shape:
        raise NotImplementedError("larger tensors")
    return only_floats(x)


@shakeout.kernel(reference=torch.sum)
def dies_of_complex(x: torch.Tensor) -> torch.Tensor:
    """Ends its process where it might have declined."""
    if x.dtype.is_complex:
        os.abort()
    return only_floats(x)


@shakeout.kernel(reference=torch.sum)
def wrong_of_whole(x: torch.Tensor) -> torch.Tensor:
    """An error is none of support."""
    if not x.dtype.is_floating_point and not x.dtype.is_complex:
        raise RuntimeError("not implemented for 'Int'")
    return only_floats(x)


@shakeout.kernel(reference=torch.sum)
def takes_nothing(x: torch.Tensor) -> torch.Tensor:
    """Not finished yet."""
    raise NotImplementedError("anything")


def asked(name: str, *dtypes: str) -> list[Record]:
    operator = f"{__name__}:{name}"
    record = Record(operator, SUM.args, (), SUM.slots, SUM.sizes, SUM.free, dtypes or DTYPES, ranks=SUM.ranks)
    return accepted(operator, [record])


def test_dtypes_and_ranks_that_a_kernel_declines_are_left_out_and_sizes_are_not() -> None:
    (found,) = asked("floats_of_some_rank")
    assert found.dtypes == ("float32", "float64")
    assert found.ranks == 0b1110  # of rank 3 the first that was tried has a size of one


def test_a_kernel_that_dies_or_raises_has_declined_nothing() -> None:
    (found,) = asked("dies_of_complex")
    assert found.dtypes == ("float32", "complex64", "float64")
    (found,) = asked("wrong_of_whole")
    assert found.dtypes == ("float32", "int32", "float64")


def test_of_a_kernel_that_declines_everything_everything_is_asked() -> None:
    (found,) = asked("takes_nothing")
    assert (found.dtypes, found.ranks) == (DTYPES, SUM.ranks)
    assert asked("floats_of_some_rank", "int32")[0].dtypes == ("int32",)

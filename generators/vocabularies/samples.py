"""PyTorch's own samples of its operators (``op_db``); only for processes of their own, because op_db changes torch.

``torch.testing._internal`` sets global flags and takes hundreds of megabytes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

__all__ = ["dtypes_of", "entries", "errors", "samples", "title"]

#: Entries that draw random numbers on the way through many operators, all of which have entries of their own.
_COMPOSITE = ("pca_lowrank", "svd_lowrank", "lobpcg")


def entries() -> list[Any]:
    """Every entry, in PyTorch's order, with what makes it slow put aside."""
    # Without an accelerator, each seeding is put off until there is one, with a stack trace: half of all the time.
    for module in (torch.cuda, torch.xpu, torch.mtia):
        module.manual_seed_all = _ignore  # type: ignore[attr-defined]
    # Each call for samples looks through the whole stack for the unit test that asks.
    from torch.testing._internal import common_utils
    from torch.testing._internal.opinfo import core

    for inner in (common_utils, core):
        inner.extract_test_fn = _no_test  # type: ignore[attr-defined]
    from torch.testing._internal.common_methods_invocations import op_db

    return list(op_db)


def _ignore(seed: int) -> None:
    pass


def _no_test() -> None:
    return None


def title(info: Any) -> str:
    """The name of an entry with its variant; empty for an entry that is to be left out."""
    if info.name.startswith(_COMPOSITE):
        return ""
    return str(info.name) + (f".{info.variant_test_name}" if info.variant_test_name else "")


def dtypes_of(info: Any) -> set[str]:
    """The dtypes that an entry supports on a CPU."""
    return {str(dtype).removeprefix("torch.") for dtype in info.supported_dtypes("cpu")}


def samples(info: Any, dtype: torch.dtype, limit: int | None = None) -> Iterator[Any]:
    """Up to so many of an entry's samples, the same ones each time."""
    torch.manual_seed(0)
    with contextlib.suppress(Exception):  # some need a package or a device that is not there
        yield from itertools.islice(info.sample_inputs("cpu", dtype, requires_grad=False), limit)


def errors(info: Any) -> Sequence[Any]:
    """What an entry says that torch must reject: samples, each with an error."""
    torch.manual_seed(0)
    found: list[Any] = []
    if info.error_inputs_func is not None:
        with contextlib.suppress(Exception):
            found.extend(info.error_inputs("cpu"))
    return found

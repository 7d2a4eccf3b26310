"""Collects records from PyTorch's own operator samples; run as a process of its own, because op_db changes torch.

``torch.testing._internal`` sets global flags and takes hundreds of megabytes, and an operator that is tried with
other sizes may crash. So this runs as ``python -m shakeout.generators.vocabularies.bootstrap PATH``, says on standard
output which operator comes next, and is started again without that operator if it dies.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from shakeout.corpus.program import Ref
from shakeout.corpus.vocabularies import torch as words
from shakeout.corpus.vocabularies.operator import identify
from shakeout.generators.vocabularies.collecting import collected, pack
from shakeout.generators.vocabularies.drafts import (
    LITERAL,
    PER_OPERATOR,
    PER_STRUCTURE,
    Seen,
    probed,
    shapes_of,
    spaced,
    structure,
    thinned,
)
from shakeout.generators.vocabularies.probe import Draft, DraftSlot, retype
from shakeout.generators.vocabularies.recorder import CallRecorder, Heard, Unrecordable, heard, operator_names
from shakeout.generators.vocabularies.records import Record, Slot
from shakeout.generators.vocabularies.samples import dtypes_of, entries, samples, title

__all__ = ["collect", "main", "records_of_examples"]

#: Samples looked at under a dtype that the records of the first dtype do not carry over to.
FURTHER_SAMPLES = 8
_PLAIN_DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "complex64", "bool"),
    *("uint8", "int8", "int16", "int32", "int64"),
)
_WIDE = ("float", "bfloat", "complex")
_MAIN = ("float32", "complex64", "int32", "int64", "bool", "float64")

# Dunder methods by the operator whose records they take; the reflected and in-place ones as well.
_DUNDERS = {
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift", "truediv": "div", "div": "div", "floordiv": "floor_divide", "mod": "remainder",
    "invert": "bitwise_not",
}  # fmt: skip
# What is behind public functions: some check nothing, and read or write past the end of what does not fit.
_PRIVATE_KERNELS = (
    "native_",
    "batch_norm_",
    "fbgemm",
    "cudnn",
    "miopen",
    "mkldnn",
    "quantize",
    "fake_quantize",
    "fused_",
    "q_",
    "sparse",
)


class _Drafts:
    """Keeps some of what is heard of each operator, and what the values of its operands have in common."""

    def __init__(self) -> None:
        self.main = torch.float32
        self.drafts: dict[str, dict[tuple[Any, ...], list[Draft]]] = {}
        self.seen: dict[tuple[str, int], Seen] = {}
        self.operators: list[str] = []

    def clear(self) -> None:
        """Forget all that was heard."""
        self.drafts, self.seen, self.operators = {}, {}, []

    def __call__(self, call: Heard) -> None:
        """Write down one call."""
        name = call.operator
        slots = tuple(self._slot(tensor) for tensor in call.tensors)
        if not slots and self.operators.count(name) > 200:
            return
        for number, tensor in enumerate(call.tensors):
            self.seen.setdefault((name, number), Seen()).add(tensor.detach())
        self.operators.append(name)
        draft = Draft(name, call.args, call.kwargs, slots, self.main)
        kept = self.drafts.setdefault(name, {}).setdefault(structure(draft), [])
        new_shapes = all(shapes_of(other) != shapes_of(draft) for other in kept)
        new_arguments = all((other.args, other.kwargs) != (draft.args, draft.kwargs) for other in kept)
        if len(kept) < PER_STRUCTURE and (new_shapes or new_arguments):
            kept.append(draft)

    def _slot(self, tensor: torch.Tensor) -> DraftSlot:
        literal = None
        dtype = _name(tensor.dtype)
        if tensor.dtype == self.main:
            dtype = "T"
        elif self.main.is_complex and tensor.dtype == self.main.to_real():
            dtype = "R"
        elif not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= LITERAL:
            literal = tuple(int(item) for item in tensor.flatten().tolist())
        return DraftSlot(dtype, tuple(tensor.shape), literal)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# --- tracing ---------------------------------------------------------------------------------------------------------


def _trace(info: Any, dtype: torch.dtype, drafts: _Drafts, recorder: CallRecorder, limit: int | None) -> None:
    """Hear what the samples of an entry call."""
    drafts.main = dtype
    for sample in samples(info, dtype, limit):
        with contextlib.suppress(Exception):
            recorder.hear(info.op, (sample.input, *sample.args), sample.kwargs)


def _usable(name: str) -> bool:
    identity, traits = identify(name), words.traits(name)
    last = identity.name
    if traits.random and not traits.tamed:
        return False
    if traits.meaningless or "uninitialised" in traits.hazards or identity.private:
        return False
    return (
        not last.startswith(_PRIVATE_KERNELS)
        and "name" not in last
        and not last.startswith("max_unpool")
        and last != "detach_"
    )


def collect(progress: Callable[[str, int, int], None], skip: frozenset[str] = frozenset()) -> dict[str, list[Record]]:
    """Every record, by operator.

    Args:
        progress: told the name of what comes next, how many are done, and of how many.
        skip: names (as told to ``progress``) that are left out because they crash.
    """
    kept = _Drafts()
    recorder = CallRecorder(operator_names(), kept)  # before op_db adds to what there is
    op_db = entries()
    found: dict[str, list[Record]] = {}
    families: dict[str, set[str]] = {}
    for done, info in enumerate(op_db):
        name = title(info)
        if not name or name in skip:
            continue
        progress(name, done, len(op_db))
        supported = dtypes_of(info)
        first = next((name for name in _MAIN if name in supported), None)
        if first is None:
            continue
        kept.clear()
        _trace(info, getattr(torch, first), kept, recorder, None)
        drafts, seen = kept.drafts, kept.seen
        others = sorted(supported)
        fresh: dict[str, list[Record]] = {}
        for name in sorted(drafts):
            if _usable(name):
                fresh[name] = probed(drafts[name], seen, others, found.get(name, ()))
        for dtype in _uncovered(fresh, others):
            kept.clear()
            _trace(info, getattr(torch, dtype), kept, recorder, FURTHER_SAMPLES)
            for name in sorted(set(kept.drafts) & set(fresh)):
                fresh[name] += probed(kept.drafts[name], kept.seen, [dtype], fresh[name])
        for name, records in fresh.items():
            found.setdefault(name, []).extend(records)
        for alias in (info.name, *(alias.name for alias in info.aliases)):
            families.setdefault(_family(alias), set()).update(name for name in drafts if name in found)
    _relatives(found, families, progress, skip)
    return {name: thinned(records) for name, records in sorted(found.items()) if records}


def _uncovered(fresh: dict[str, list[Record]], dtypes: Sequence[str]) -> list[str]:
    """The dtypes that an entry supports and none of its records took."""
    generic = [record for records in fresh.values() for record in records if record.dtypes]
    if not generic:
        return []
    return [dtype for dtype in dtypes if not any(dtype in record.dtypes for record in generic)]


def records_of_examples(
    operator: str,
    calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]],
    dtypes: Sequence[str],
    lost: Callable[[Exception], None] = lambda error: None,
) -> list[Record]:
    """The records that example calls of an operator give; what a case cannot hold is left out.

    A call that cannot be looked at costs its own record, and no other's.

    Args:
        operator: what is called.
        calls: arguments and keyword arguments of each.
        dtypes: those that the main operand is tried at, as far as they are of the example's kind: floating-point and
            complex ones, or whole numbers.
        lost: told the error of each such call.
    """
    records: list[Record] = []
    for args, kwargs in calls:
        try:
            records += _exemplified(operator, args, kwargs, dtypes, records)
        except Exception as error:
            lost(error)
    return records


def _exemplified(
    operator: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    dtypes: Sequence[str],
    known: Sequence[Record],
) -> list[Record]:
    """The records that one example call gives, beside the known ones."""
    drafts = _Drafts()
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    # What is computed with, rather than an index or a mask.
    wide = [tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]
    drafts.main = next((tensor.dtype for tensor in (*wide, *tensors)), torch.float32)
    with contextlib.suppress(Unrecordable):
        drafts(heard(operator, args, kwargs))
    alike = [dtype for dtype in dtypes if dtype.startswith(_WIDE) == _name(drafts.main).startswith(_WIDE)]
    return probed(drafts.drafts.get(operator, {}), drafts.seen, alike, known)


# --- operators that op_db does not call ------------------------------------------------------------------------------


def _family(name: str) -> str:
    last = identify(name).name
    if last.startswith("__") and last.endswith("__"):
        last = last[2:-2]
        for prefix in ("", "r", "i"):
            if last.startswith(prefix) and last[len(prefix) :] in _DUNDERS:
                return _DUNDERS[last[len(prefix) :]]
        for prefix in ("r", "i"):
            if last[1:] in ("add", "sub", "mul", "pow", "matmul") and last.startswith(prefix):
                return last[1:]
    return last.rstrip("_")


def _relatives(
    found: dict[str, list[Record]],
    families: dict[str, set[str]],
    progress: Callable[[str, int, int], None],
    skip: frozenset[str],
) -> None:
    """Methods, in-place forms, aliases and dunders take the records of the operator that they are a form of."""
    for name in list(found):
        families.setdefault(_family(name), set()).add(name)
    plain = _plain()
    todo = [name for name in sorted(words.operators()) if name not in found and _usable(name) and name not in skip]
    for done, name in enumerate(todo):
        progress(name, done, len(todo))
        sources = [record for source in sorted(families.get(_family(name), ())) for record in found[source]]
        records: list[Record] = []
        for source in spaced(sources, PER_OPERATOR):
            bare = [replace(source, kwargs=())] if source.kwargs else []
            for candidate in (source, *bare):
                record = retype(candidate, name)
                if record is not None and record not in records:
                    records.append(record)
                    break
        for candidate in plain if not records else ():
            record = retype(candidate, name)
            if record is not None:
                records.append(record)
        if records:
            found[name] = records


def _plain() -> list[Record]:
    """What an operator that nothing is known about is tried with: a matrix, two of them, a matrix and a number."""
    cell = Slot("T", (0, 1))
    base = Record("", (Ref(0),), (), (cell,), (3, 5), (True, True), ("float32",))
    square = replace(base, slots=(Slot("T", (0, 0)),), sizes=(3,), free=(True,))
    return [
        replace(base, dtypes=_PLAIN_DTYPES),
        replace(square, dtypes=_PLAIN_DTYPES),
        replace(base, args=(Ref(0), Ref(1)), slots=(cell, cell), dtypes=_PLAIN_DTYPES),
        replace(square, args=(Ref(0), Ref(1)), slots=(square.slots[0],) * 2, dtypes=_PLAIN_DTYPES),
        replace(base, args=(Ref(0), 2), dtypes=_PLAIN_DTYPES),
    ]


# --- process ---------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> int:
    """Write the records to ``argv[0]``; further arguments are names to leave out."""
    pack(Path(argv[0]), collected(collect, argv[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

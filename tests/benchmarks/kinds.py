"""Counts what programs are made of: for every kind that real bugs need, the share of programs that have it.

Run it directly: ``python tests/benchmarks/kinds.py --rows FILE [--programs N] [--workers N] [--seconds N]``.
Programs are grown as a campaign's for Inductor are, and no compiler runs. A row of JSON is appended for every batch of
seeds, and a seed range that is there under the same label is not grown again, so it can be killed and goes on; then the
table of all labels is printed. ``--show`` prints the table alone.

A kind is decided by what a case says, its program and the recipe of its inputs, never by how it was drawn: so two
versions of the generator are counted alike.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shakeout.corpus.case import Case
from shakeout.corpus.program import Arg, Call, Ref, Slice, TensorType, scoped
from shakeout.corpus.vocabularies.torch_traits import family
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.running import compose

#: Seeds of one row.
BATCH = 100

#: Whose cases are grown: what it declines and takes decides a little of what is drawn, regions among it.
TARGET = "inductor"

Types = Sequence[TensorType | None]


@dataclass(frozen=True)
class Seen:
    """A case, taken apart once for everything that is asked of it.

    Attributes:
        case: the case.
        calls: every call, with the types of the values that its operands are numbers of.
        makers: for each value of the program itself, the call whose result it is.
    """

    case: Case
    calls: list[tuple[Call, Types]]
    makers: dict[int, Call]

    @staticmethod
    def of(case: Case) -> Seen:
        """Take a case apart."""
        makers: dict[int, Call] = {}
        for call, first in zip(case.program.calls, case.program.firsts(), strict=True):
            makers.update(dict.fromkeys(range(first, first + len(call.results)), call))
        return Seen(case, list(scoped(case.program)), makers)

    def fed(self, names: frozenset[str]) -> Iterator[tuple[Call, Call]]:
        """Calls of operators of these families on a result, each with the call whose result it is."""
        for call in self.case.program.calls:
            if family(call.operator) in names:
                for operand in call.operands():
                    if operand in self.makers:
                        yield call, self.makers[operand]


# --- arguments --------------------------------------------------------------------------------------------------------


def _numbers(arg: Arg) -> Iterator[int | float]:
    if isinstance(arg, tuple):
        for item in arg:
            yield from _numbers(item)
    elif isinstance(arg, int | float) and not isinstance(arg, bool):
        yield arg


def _floats(seen: Seen) -> Iterator[float]:
    for call, _ in seen.calls:
        for arg in (*call.args, *(value for _, value in call.kwargs)):
            yield from (number for number in _numbers(arg) if isinstance(number, float))


def _fraction(number: float) -> bool:
    """Whether bfloat16 does not hold it, which has eight bits."""
    return math.isfinite(number) and math.frexp(number)[0] * 256 % 1 != 0


def _beside_one(number: float) -> bool:
    return number != 1 and abs(abs(number) - 1) < 0.05


def _far(number: float) -> bool:
    return math.isfinite(number) and number != 0 and not 1e-3 < abs(number) < 1e4


def _negative_zero(number: float) -> bool:
    return number == 0 and math.copysign(1, number) < 0


def _any_number(holds: Callable[[float], bool]) -> Callable[[Seen], bool]:
    return lambda seen: any(map(holds, _floats(seen)))


def _uneven(seen: Seen) -> bool:
    """A window, a step, a padding or a factor of its own for each dimension."""
    names = "pool interpolate upsample unfold fold conv gradient pad"
    for call, _ in seen.calls:
        if not any(name in call.operator.rpartition(".")[2] for name in names.split()):
            continue
        for arg in (*call.args[1:], *(value for _, value in call.kwargs)):
            if isinstance(arg, tuple) and len(set(_numbers(arg))) > 1:
                return True
    return False


# --- values -----------------------------------------------------------------------------------------------------------


def _storage(holds: Callable[[Any], bool]) -> Callable[[Seen], bool]:
    return lambda seen: any(holds(storage) for given in seen.case.input_sets for storage in given.storages)


def _large_integers(storage: Any) -> bool:
    values = storage.values
    if not storage.dtype.startswith(("int", "uint")):
        return False
    if values.kind == "literal":
        return any(abs(item) >= 2**24 for item in values.items)
    return bool(values.kind == "ladder" and values.high >= 24) or (values.kind == "integers" and values.high >= 2**24)


# --- indices ----------------------------------------------------------------------------------------------------------


def _ignored(seen: Seen) -> bool:
    """A padding or an ignored class that is none of the defaults."""
    for call, _ in seen.calls:
        asked = dict(call.kwargs)
        if asked.get("padding_idx") is not None or asked.get("ignore_index", -100) != -100:
            return True
    return False


def _few_classes(seen: Seen) -> bool:
    """An index of which one place is always, or nearly always, meant."""
    sets = seen.case.input_sets[0]
    for view in sets.views:
        values = sets.storages[view.storage].values
        several = view.dtype == "int64" and math.prod(view.shape) > 1 and values.kind == "integers"
        if several and values.high - values.low <= 1 and values.low >= 0 and seen_as_index(seen):
            return True
    return False


_INDEXED = frozenset(
    "gather index_select embedding take take_along_dim cross_entropy nll_loss index_add scatter_add getitem "
    "index_put scatter scatter_reduce bincount embedding_bag one_hot".split()
)


def seen_as_index(seen: Seen) -> bool:
    """Whether an operator takes whole numbers as places."""
    return any(family(call.operator) in _INDEXED for call, _ in seen.calls)


def _slices(arg: Arg) -> Iterator[Slice]:
    if isinstance(arg, Slice):
        yield arg
    elif isinstance(arg, tuple):
        for item in arg:
            yield from _slices(item)


def _disordered(seen: Seen) -> bool:
    """A slice whose bounds come the wrong way round, or meet, or lie outside."""
    for call, types in seen.calls:
        operands = call.operands()
        given = types[operands[0]] if operands else None
        for found in _slices(call.args[1:]):
            start, stop = found.start, found.stop
            longest = max(given.shape, default=0) if given is not None else 0
            if isinstance(start, int) and isinstance(stop, int) and start * stop >= 0 and start >= stop:
                return True
            if any(isinstance(bound, int) and abs(bound) > longest for bound in (start, stop)):
                return True
    return False


# --- observers --------------------------------------------------------------------------------------------------------

_SIGNS = frozenset("reciprocal signbit copysign".split())
_GATHERS = frozenset("gather take_along_dim index_select".split())
_PLACES = frozenset("argmax argmin argsort sort topk max min cummax cummin kthvalue mode median unique".split())
_COMPARISONS = frozenset("eq ne lt le gt ge isclose isnan isinf isfinite".split())
_REDUCTIONS = frozenset(
    "sum mean prod amax amin max min var std norm vector_norm logsumexp any all argmax argmin median nansum nanmean "
    "trace count_nonzero dot softmax log_softmax".split()
)


def _after_places(seen: Seen) -> bool:
    return any(family(maker.operator) in _PLACES for _, maker in seen.fed(_GATHERS))


def _factor(seen: Seen) -> bool:
    """A result times a number so large that what was below every tolerance is above it."""
    for call, _ in seen.fed(frozenset(("mul", "div"))):
        if any(abs(number) >= 1e4 or 0 < abs(number) <= 1e-4 for number in _numbers(call.args)):
            return True
    return False


def _after_reduction(seen: Seen) -> bool:
    return any(family(maker.operator) in _REDUCTIONS for _, maker in seen.fed(_COMPARISONS))


# --- writes -----------------------------------------------------------------------------------------------------------


def _overlaps(seen: Seen) -> set[int]:
    """Values whose elements share places, as far as the program says it."""
    found = set()
    for number, view in enumerate(seen.case.input_sets[0].views):
        if any(step == 0 and size > 1 for step, size in zip(view.strides, view.shape, strict=True)):
            found.add(number)
    for number, call in seen.makers.items():
        strides = call.args[2] if family(call.operator) == "as_strided" and len(call.args) > 2 else ()
        again = isinstance(strides, tuple) and 0 in strides
        if again or family(call.operator) in ("expand", "broadcast_to", "expand_as"):
            found.add(number)
    return found


def _writers(seen: Seen) -> Iterator[tuple[int, Call]]:
    for place, call in enumerate(seen.case.program.calls):
        name = call.operator.rpartition(".")[2]
        writes = (name.endswith("_") and not name.endswith("__")) or name == "__setitem__"
        if writes and call.args and isinstance(call.args[0], Ref):
            yield place, call


def _written(call: Call) -> int:
    target = call.args[0]
    assert isinstance(target, Ref)
    return target.index


def _shared_elements(seen: Seen) -> bool:
    overlapping = _overlaps(seen)
    return any(_written(call) in overlapping for _, call in _writers(seen))


def _reinterpreted(seen: Seen) -> bool:
    """A write through another dtype of memory that is read before and behind it under its own."""
    calls = seen.case.program.calls
    for place, call in _writers(seen):
        maker = seen.makers.get(_written(call))
        if maker is None or family(maker.operator) != "view" or isinstance(maker.args[-1], tuple):
            continue
        source = maker.operands()[0]
        before = any(source in one.operands() and one is not maker for one in calls[:place])
        if before and any(source in one.operands() for one in calls[place + 1 :]):
            return True
    return False


def _strided_result(seen: Seen) -> bool:
    """``as_strided`` of what a call made."""
    return any(True for _ in seen.fed(frozenset(("as_strided",))))


def _resized(seen: Seen) -> bool:
    return any(family(call.operator) == "resize" for call, _ in seen.calls)


# --- constants --------------------------------------------------------------------------------------------------------


def _no_input(seen: Seen) -> bool:
    return not seen.case.program.inputs


def _constant(holds: Callable[[Call], bool]) -> Callable[[Seen], bool]:
    return lambda seen: any(not call.operands() and call.results and holds(call) for call, _ in seen.calls)


def _odd_constant(call: Call) -> bool:
    return any(isinstance(n, float) and not math.isfinite(n) for n in _numbers(call.args))


def _scalar_constant(call: Call) -> bool:
    return call.results[0] is not None and call.results[0].shape == ()


def _truth_constant(call: Call) -> bool:
    return call.results[0] is not None and call.results[0].dtype == "bool"


_FOLDED = frozenset(
    "cumsum cumprod cummax cummin logcumsumexp sum prod mean softmax log_softmax max min amax amin argmax argmin div "
    "remainder fmod floordiv var std sort topk logsumexp any all".split()
)


def _fed_constants(seen: Seen) -> bool:
    return any(not maker.operands() for _, maker in seen.fed(_FOLDED))


# --- followers --------------------------------------------------------------------------------------------------------

#: Pairs that everybody writes, by families: what comes of uniform draws is one in 1,185 of each.
PAIRS = frozenset(
    {
        ("matmul", "add"), ("matmul", "softmax"), ("linear", "relu"), ("linear", "gelu"), ("mm", "add"), ("bmm", "add"),
        ("conv2d", "batch_norm"), ("conv2d", "relu"), ("conv1d", "relu"), ("softmax", "matmul"), ("softmax", "bmm"),
        ("transpose", "matmul"), ("permute", "reshape"), ("transpose", "reshape"), ("sub", "exp"), ("exp", "sum"),
        ("sum", "div"), ("amax", "sub"), ("mean", "sub"), ("sub", "pow"), ("pow", "mean"), ("rsqrt", "mul"),
        ("add", "rsqrt"), ("var", "add"), ("sigmoid", "mul"), ("tanh", "mul"), ("silu", "mul"), ("linear", "chunk"),
        ("layer_norm", "linear"), ("batch_norm", "relu"), ("addmm", "relu"), ("exp", "div"),
        ("log_softmax", "nll_loss"),
    }
)  # fmt: skip


def _sensible(seen: Seen) -> bool:
    return any(
        (family(maker.operator), family(call.operator)) in PAIRS
        for call, maker in seen.fed(frozenset(second for _, second in PAIRS))
    )


def _beside_blocks(seen: Seen) -> bool:
    """An input that is transposed, or channels last, of sizes beside a multiple of 8."""
    for view in seen.case.input_sets[0].views:
        if len(view.shape) < 2 or view.strides[-2] <= 0 or view.shape[-2] * view.strides[-2] <= 1:
            continue
        turned = view.strides[-1] > view.strides[-2]
        if turned and any(size > 6 and size % 8 in (1, 7) for size in view.shape):
            return True
    return False


# --- further calls ----------------------------------------------------------------------------------------------------


def _later(holds: Callable[[Any, Any], bool]) -> Callable[[Seen], bool]:
    def asked(seen: Seen) -> bool:
        first, *rest = seen.case.input_sets
        return any(holds(first, other) for other in rest)

    return asked


def _other_strides(first: Any, other: Any) -> bool:
    return any(
        one.shape == two.shape and (one.strides, one.offset) != (two.strides, two.offset)
        for one, two in zip(first.views, other.views, strict=True)
    )


def _other_sharing(first: Any, other: Any) -> bool:
    return [view.storage for view in first.views] != [view.storage for view in other.views]


def _other_gradients(first: Any, other: Any) -> bool:
    return [view.requires_grad for view in first.views] != [view.requires_grad for view in other.views]


def _other_sizes(first: Any, other: Any) -> bool:
    return any(one.shape != two.shape for one, two in zip(first.views, other.views, strict=True))


# --- forms ------------------------------------------------------------------------------------------------------------


def _form(*names: str) -> Callable[[Seen], bool]:
    return lambda seen: any(
        call.operator.endswith(names) for call in (*(call for call, _ in seen.calls), *seen.case.program.around)
    )


KINDS: dict[str, Callable[[Seen], bool]] = {
    "1 number: fraction": _any_number(_fraction),
    "1 number: beside one": _any_number(_beside_one),
    "1 number: far from one": _any_number(_far),
    "1 number: -0.0": _any_number(_negative_zero),
    "1 number: not finite": _any_number(lambda number: not math.isfinite(number)),
    "1 number: one per dimension": _uneven,
    "2 values: ladder": _storage(lambda storage: storage.values.kind == "ladder"),
    "2 values: beside fractions": _storage(lambda storage: storage.values.kind == "beside"),
    "2 values: integers beyond 2**24": _storage(_large_integers),
    "3 index: padding, ignored class": _ignored,
    "3 index: few classes": _few_classes,
    "3 index: bounds in any order": _disordered,
    "4 observer: sign of zero": lambda seen: any(True for _ in seen.fed(_SIGNS)),
    "4 observer: gather of places": _after_places,
    "4 observer: large factor": _factor,
    "4 observer: comparison of a reduction": _after_reduction,
    "5 write: elements share memory": _shared_elements,
    "5 write: reinterpreted": _reinterpreted,
    "5 write: as_strided of a result": _strided_result,
    "5 write: resize_": _resized,
    "6 constants: no input": _no_input,
    "6 constants: 0-dimensional": _constant(_scalar_constant),
    "6 constants: boolean": _constant(_truth_constant),
    "6 constants: not finite": _constant(_odd_constant),
    "6 constants: folded": _fed_constants,
    "7 followers: pairs people write": _sensible,
    "7 followers: turned, beside 8": _beside_blocks,
    "8 further call: other sizes": _later(_other_sizes),
    "8 further call: other strides": _later(_other_strides),
    "8 further call: other sharing": _later(_other_sharing),
    "8 further call: other gradients": _later(_other_gradients),
    "9 form: gradient mode, autocast": _form("no_grad", "enable_grad", "autocast"),
    "9 form: function transforms": _form("func.grad", "func.vmap", "func.jacfwd", "func.jacrev"),
    "9 form: custom operators": _form("custom_op", "register_autograd"),
    "9 form: checkpoint": _form("checkpoint"),
}


def count(seeds: range) -> dict[str, Any]:
    """One row: how many of the programs of these seeds have each kind, how many calls there are, and the time."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found: Counter[str] = Counter()
    calls = proposed = rejected = 0
    begun = time.process_time()
    for seed in seeds:
        made = compose.compose(Grow(target=TARGET, seed=seed))
        seen = Seen.of(made.case)
        found.update(name for name, holds in KINDS.items() if holds(seen))
        calls += len(made.case.program.calls)
        proposed += made.proposed
        rejected += sum(made.rejected.values())
    spent = time.process_time() - begun
    return {
        "first": seeds.start, "programs": len(seeds), "calls": calls, "proposed": proposed, "rejected": rejected,
        "seconds": round(spent, 2), "kinds": dict(sorted(found.items())),
    }  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    """What is there already; a line that was cut off is none."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Shares of programs by kind, a column for each label."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    total = {label: sum(row["programs"] for row in rows if row["label"] == label) for label in labels}
    lines = ["| kind | " + " | ".join(f"{label} ({total[label]} programs)" for label in labels) + " |"]
    lines.append("|---|" + "---|" * len(labels))
    for kind in KINDS:
        shares = []
        for label in labels:
            seen = sum(row["kinds"].get(kind, 0) for row in rows if row["label"] == label)
            shares.append(f"{100 * seen / total[label]:.2f} %")
        lines.append(f"| {kind} | " + " | ".join(shares) + " |")
    for name, over in (("rejected", "proposed"), ("calls", "programs")):
        shares = []
        for label in labels:
            own = [row for row in rows if row["label"] == label]
            shares.append(f"{sum(row[name] for row in own) / max(sum(row[over] for row in own), 1):.3f}")
        lines.append(f"| {name} for each of the {over} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def main() -> None:
    """Grow what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, required=True, help="file of JSON lines, appended to")
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=math.inf, help="no batch is begun after so many")
    parser.add_argument("--label", default="now", help="which version of the generator it is")
    parser.add_argument("--show", action="store_true", help="print the table of what is there")
    options = parser.parse_args()
    begun = time.monotonic()
    there = {row["first"] for row in rows_of(options.rows) if row["label"] == options.label}
    missing = [] if options.show else [first for first in range(0, options.programs, BATCH) if first not in there]
    if missing:
        compose.prepare(lambda text: print(text, flush=True))
        compose.Grower().load_all()
        forked = multiprocessing.get_context("fork").Pool(options.workers)
        with forked as pool, options.rows.open("a") as file:
            if file.tell() and not options.rows.read_text().endswith("\n"):
                print(file=file)  # behind a line that was cut off
            for row in pool.imap_unordered(count, [range(first, first + BATCH) for first in missing]):
                print(json.dumps({"label": options.label, **row}), file=file, flush=True)
                print(f"{row['first']}: {row['calls'] / row['seconds']:.0f} operators a second", flush=True)
                if time.monotonic() - begun > options.seconds:
                    break
    print(table(rows_of(options.rows)))


if __name__ == "__main__":
    main()

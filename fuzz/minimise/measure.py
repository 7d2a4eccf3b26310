"""What smaller means: a total order on cases, most important first. Every accepted step goes strictly down in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shakeout.corpus.case import Case, InputSet, Storage, View, contiguous
from shakeout.corpus.program import Arg, Call, Program, Ref, Slice, walk
from shakeout.corpus.vocabularies import vocabulary
from shakeout.corpus.vocabularies.operator import identify

__all__ = ["DTYPES", "Size", "elements", "item_cost", "simpler_dtypes", "size"]

Size = tuple[float, ...]

#: Dtypes from the simplest: the default of the field, then what is compared most exactly, then what compilers treat
#: least specially. Booleans come behind whole numbers because most operators do not take them; what has few operators
#: or needs a name that readers look up comes last.
DTYPES = (
    "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 uint16 uint32 uint64 "
    "complex32 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
).split()

_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}


def simpler_dtypes(dtype: str) -> tuple[str, ...]:
    """The dtypes that are simpler than this one, simplest first."""
    return tuple(DTYPES[: _RANK.get(dtype, len(DTYPES))])


def size(case: Case) -> Size:
    """How large a case is; tuples of two cases compare as the cases do.

    In order: operators, how special they are and how deep in regions, inputs and returned values, elements, dimensions,
    dtypes, layouts, values, attributes, knobs, input sets, training, parameters and leaves, characters.
    """
    program, setting = case.program, case.setting
    views = [view for inputs in case.calls for view in inputs.views]
    return (
        len(program.operators()) + len(program.around),
        _operator_costs(program) + _depth(program.calls),
        len(program.inputs) + len(program.returns),
        elements(case),
        sum(len(view.shape) for view in views),
        sum(_RANK.get(view.dtype, len(DTYPES)) for view in views),
        sum(_layout_cost(inputs) for inputs in case.calls),
        sum(_storage_cost(storage) for inputs in case.calls for storage in inputs.storages),
        _attribute_cost(program),
        len(setting.knobs),
        len(case.calls),
        setting.mode == "training",
        sum(given.role == "parameter" for given in program.inputs) + sum(view.requires_grad for view in views),
        setting.device != "cpu",
        len(case.text),
    )


def elements(case: Case) -> int:
    """Elements of all inputs of all calls."""
    return sum(math.prod(view.shape) for inputs in case.calls for view in inputs.views)


def _depth(calls: Sequence[Call]) -> float:
    """A half for each region around each call: a call is easier to read outside."""
    return sum(0.5 * len(region.calls) + _depth(region.calls) for call in calls for region in call.regions)


def _operator_costs(program: Program) -> int:
    simplest = {operator: cost for cost, operator in enumerate(vocabulary(program.vocabulary).SIMPLEST)}
    return sum(simplest.get(one, len(simplest) + identify(one).library) for one in program.operators())


def _layout_cost(inputs: InputSet) -> int:
    shared = len(inputs.views) - len({view.storage for view in inputs.views})
    return shared * 8 + sum(_view_cost(view, inputs.storages[view.storage]) for view in inputs.views)


def _view_cost(view: View, storage: Storage) -> int:
    dense = math.prod(view.shape)
    cost = 4 * (view.dtype != storage.dtype) + (view.offset > 0)
    cost += 2 * (view.strides != contiguous(view.shape))
    return cost + (storage.size > dense)


def _storage_cost(storage: Storage) -> float:
    values = storage.values
    if values.kind == "literal":
        return sum(item_cost(item) for item in values.items)
    if values.kind == "blob":
        return 18.0 * storage.size
    if values.low == values.high and values.kind == "integers":
        return item_cost(values.low) * storage.size
    each = {"integers": 8, "uniform": 10, "special": 16}[values.kind]
    return (each + 1.0 * (abs(values.low) > 2 or abs(values.high) > 2)) * storage.size


def item_cost(item: Arg) -> float:
    """How far a number is from being simple."""
    if isinstance(item, complex):
        return item_cost(item.real) + item_cost(item.imag)
    if isinstance(item, bool):
        return int(item)
    if not isinstance(item, int | float):
        return 2
    if not math.isfinite(item):
        return 14 + (item != item) + (item < 0)
    if item == int(item):
        if item == 0:
            return 6 if math.copysign(1, item) < 0 else 0
        # 1, 2, -1, 3, -2 ... and from ten on by the number of digits.
        return min(abs(item), 10 + len(str(int(abs(item)))) / 100) * 0.9 + (item < 0) * 1.5
    return 11 + min(len(repr(item)), 24) / 10


def _attribute_cost(program: Program) -> float:
    return sum(
        _argument_cost(arg) + 0.1
        for call in (*walk(program.calls), *program.around)
        for arg in (*call.args, *(value for _, value in call.kwargs))
        if not isinstance(arg, Ref)
    ) + sum(2 * len(call.kwargs) + len(call.args) for call in (*walk(program.calls), *program.around))


def _argument_cost(arg: Arg) -> float:
    match arg:
        case Ref():
            return 0.1
        case tuple():
            return 1 + sum(_argument_cost(item) for item in arg)
        case Slice(start, stop, step):
            return 1 + sum(_argument_cost(part) for part in (start, stop, step) if part is not None)
        case None:
            return 0.5
    return 1 + item_cost(arg)

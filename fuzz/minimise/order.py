"""What smaller means: a total order on cases, most important first. Every accepted step goes strictly down in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from shakeout.corpus.case import Case, InputSet, Storage, View, contiguous
from shakeout.corpus.program import Arg, Call, Program, Ref, Slice, TensorType
from shakeout.corpus.vocabularies import Vocabulary, vocabulary
from shakeout.corpus.vocabularies.operator import identify
from shakeout.fuzz.minimise.ordinary import Role, argument_cost, counted, item_cost, of_equals, rank_of, role

__all__ = ["COUNTS", "DTYPES", "Size", "element_cost", "elements", "simpler_dtypes", "size"]

Size = tuple[float, ...]

#: Dtypes from the simplest: the default of the field, then what is compared most exactly, then what compilers treat
#: least specially. Booleans come behind whole numbers because most operators do not take them; what has few operators
#: or needs a name that readers look up comes last.
DTYPES = (
    "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128 uint16 uint32 uint64 "
    "complex32 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz"
).split()

_RANK = {dtype: rank for rank, dtype in enumerate(DTYPES)}

#: Bounds from which ordinary numbers are drawn for a tensor that is too large for them to be written out.
COUNTS = (1, 9)

#: A difference or a quotient of equals is always 0 or 1, which looks as if that were the point: a number costs less.
EQUALS = 4


def simpler_dtypes(dtype: str) -> tuple[str, ...]:
    """The dtypes that are simpler than this one, simplest first."""
    return tuple(DTYPES[: _RANK.get(dtype, len(DTYPES))])


def size(case: Case) -> Size:
    """How large a case is; tuples of two cases compare as the cases do.

    In order: operators, how special they are and how deep in regions, inputs and returned values, elements, dimensions,
    dtypes, layouts, values, attributes, knobs, input sets, training, parameters and leaves, characters.
    """
    program, setting = case.program, case.setting
    views = [view for inputs in case.input_sets for view in inputs.views]
    return (
        len(program.operators()) + len(program.around),
        _operator_costs(program) + _depth(program.calls),
        len(program.inputs) + len(program.returns),
        elements(case),
        sum(len(view.shape) for view in views),
        sum(_RANK.get(view.dtype, len(DTYPES)) for view in views),
        sum(_layout_cost(inputs) for inputs in case.input_sets),
        sum(map(_values_cost, case.input_sets)),
        _attribute_cost((*program.calls, *program.around), program.types(), vocabulary(program.vocabulary)),
        len(setting.knobs),
        len(case.input_sets),
        (setting.mode == "training") + (setting.cotangent != "whole"),
        sum(given.role == "parameter" for given in program.inputs) + sum(view.requires_grad for view in views),
        setting.device != "cpu",
        len(case.text),
    )


def elements(case: Case) -> int:
    """Elements of all inputs of all calls."""
    return sum(math.prod(view.shape) for inputs in case.input_sets for view in inputs.views)


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


def _values_cost(inputs: InputSet) -> float:
    """How far the numbers of one set of inputs are from 1, 2, 3 and so on."""
    cost, place = 0.0, 0
    for storage in inputs.storages:
        cost += _storage_cost(storage, place)
        place += storage.size
    return cost


def _storage_cost(storage: Storage, first: int) -> float:
    """The same of one storage, whose first element is at a place among all of the inputs."""
    values = storage.values
    match values.kind:
        case "literal":
            return sum(element_cost(item, first + place, storage.dtype) for place, item in enumerate(values.items))
        case "integers" if (values.low, values.high) == COUNTS:
            return 0.5 * storage.size
        case "integers" if values.low == values.high:
            # Nobody reads the numbers of a large tensor. Zeros in all of it look special, what is drawn does not.
            return (13.5 if values.low == 0 else item_cost(values.low)) * storage.size
        case "blob":
            return 18.0 * storage.size
    far = values.kind != "ladder"  # whose bounds are exponents
    each = {"integers": 8, "uniform": 12, "beside": 14, "ladder": 15, "special": 16}[values.kind]
    return (each + 1.0 * (far and (abs(values.low) > 2 or abs(values.high) > 2))) * storage.size


def element_cost(item: Arg, place: int, dtype: str) -> float:
    """How far an element is from being simple, given its place among all of the inputs."""
    return 0.0 if item == counted(place, dtype) else item_cost(item)


def _attribute_cost(calls: Sequence[Call], types: Sequence[TensorType | None], words: Vocabulary) -> float:
    """The arguments of calls, and of those in their regions, given the types of the values where they stand."""
    cost = 0.0
    for call in calls:
        rank = rank_of(call, types)
        keys = (*range(len(call.args)), *(key for key, _ in call.kwargs))
        for key, arg in zip(keys, (*call.args, *(value for _, value in call.kwargs)), strict=True):
            if not isinstance(arg, Ref):
                numbers = isinstance(arg, int | float | complex | tuple) and not isinstance(arg, bool)
                cost += _argument_cost(arg, role(call, key, words) if numbers else "count", rank) + 0.1
        cost += 2 * len(call.kwargs) + len(call.args) + (EQUALS if of_equals(call, words) else 0)
        cost += sum(_attribute_cost(region.calls, region.types(types), words) for region in call.regions)
    return cost


def _argument_cost(arg: Arg, role: Role, rank: int | None) -> float:
    match arg:
        case Ref():
            return 0.1
        case tuple():
            return 1 + sum(_argument_cost(item, role, rank) for item in arg)
        case Slice(start, stop, step):
            return 1 + sum(_argument_cost(part, "count", None) for part in (start, stop, step) if part is not None)
        case None:
            return 0.5
    return 1 + argument_cost(arg, role, rank)

"""The torch vocabulary: which functions are operators, how they are called, printed and evaluated.

An operator is named by its public qualified name: ``torch.add``, ``torch.nn.functional.pad``,
``torch.Tensor.add_``, ``torch.ops.aten.relu.default``. A property of a tensor is named like a method
(``torch.Tensor.mT``). Names come from stored cases, which anybody may have written, so only what PyTorch itself lists
as overridable on tensors, its operator library, a few factories and the operators with regions of ``structured.py``
resolve; ``torch.load`` and ``os.system`` do not.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator as python
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shakeout.corpus.program import (
    Arg,
    Call,
    Name,
    Program,
    Ref,
    Slice,
    TensorType,
    everywhere,
    references,
    scoped,
    walk,
)
from shakeout.corpus.vocabularies import structured
from shakeout.corpus.vocabularies.structured import STRUCTURES

__all__ = [
    "STRUCTURES",
    "UnknownOperator",
    "argument",
    "evaluate",
    "expression",
    "hazards",
    "resolve",
    "sized_by_values",
    "widened",
    "written",
]

FACTORIES = frozenset(
    f"torch.{name}"
    for name in (
        "arange empty empty_strided eye full linspace logspace ones scalar_tensor tensor zeros tril_indices "
        "triu_indices complex polar cartesian_prod block_diag rand randn randint randperm normal range "
        "bartlett_window blackman_window hamming_window hann_window kaiser_window"
    ).split()
)

# Modules of functions that are made of others, so that torch does not list them as overridable.
_COMPOSED = ("torch.masked", "torch.signal.windows")

# Public functions of tensors that torch does not list as overridable. torch.segment_reduce is left out on purpose: it
# does not check its lengths and offsets, so sizes that do not fit read and write past its operands, and what a process
# does after that is evidence of nothing.
_UNLISTED = (
    "torch.mm torch.as_strided torch.fill torch.Tensor.new_zeros torch.Tensor.new_ones "
    "torch.Tensor.new_full torch.Tensor.unflatten"
).split()

# Overridable, but not a function of tensors alone: they touch files, Python state, devices or the autograd graph.
_FORBIDDEN = frozenset(
    f"torch.Tensor.{name}"
    for name in (
        "numpy __array__ __array_wrap__ __dlpack__ __dlpack_device__ __reduce_ex__ __reduce__ __setstate__ "
        "__deepcopy__ backward register_hook register_post_accumulate_grad_hook share_memory_ set_ data "
        "storage untyped_storage _typed_storage apply_ map_ map2_ cuda xpu mtia ipu hpu pin_memory record_stream "
        "tolist item __format__ __repr__ grad requires_grad_ retain_grad module_load _make_subclass as_subclass "
        "to_sparse to_sparse_csr to_sparse_csc to_sparse_bsr to_sparse_bsc to_sparse_coo to_mkldnn"
    ).split()
)

# Make tensors of another class, or ask for it.
_FORBIDDEN |= {f"torch.masked.{name}" for name in ("as_masked_tensor", "is_masked_tensor", "masked_tensor")}
# Steps of PyTorch's own graph transformations, which happen to be visible.
_FORBIDDEN |= {"torch.slice_inverse", "torch.Tensor.slice_inverse"}
# Views that autograd does not know to be views: by their contract nothing may be written to them or their base.
_FORBIDDEN |= {
    f"{owner}.{name}"
    for owner in ("torch", "torch.Tensor")
    for name in ("unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes")
}

#: Meanings that a case may not depend on, by operator. ``random``: draws from a generator. ``uninitialised``: shows
#: memory that nobody wrote. ``strides``: the values depend on how the operand lies in memory. ``duplicates``: two
#: indices may write to one place and the order is not defined. ``ties``: equal keys may come in any order.
_HAZARDS: dict[str, frozenset[str]] = {
    "random": frozenset(
        "bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial normal normal_ poisson rand "
        "rand_like randint randint_like randn randn_like random_ randperm rrelu rrelu_ uniform_ dropout dropout_ "
        "dropout1d dropout2d dropout3d alpha_dropout alpha_dropout_ feature_alpha_dropout feature_alpha_dropout_ "
        "feature_dropout feature_dropout_ native_dropout fractional_max_pool2d fractional_max_pool3d "
        "fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices gumbel_softmax svd_lowrank "
        "pca_lowrank lobpcg binomial scaled_dot_product_attention multi_head_attention_forward "
        "_fill_mem_eff_dropout_mask_ _sample_dirichlet _standard_gamma".split()
    ),
    "uninitialised": frozenset(
        "empty empty_like empty_permuted empty_strided new_empty new_empty_strided resize_ resize_as_ "
        "empty_quantized _empty_affine_quantized resize resize_as".split()
    ),
    "strides": frozenset("as_strided as_strided_ as_strided_copy as_strided_scatter is_contiguous stride".split()),
    "duplicates": frozenset(
        "scatter scatter_ index_put index_put_ index_copy index_copy_ put put_ index_fill index_fill_ "
        "_unsafe_index_put __setitem__ masked_scatter masked_scatter_".split()
    ),
    "ties": frozenset("sort argsort topk kthvalue mode median nanmedian msort max min cummax cummin".split()),
}

_SIZED_BY_VALUES = frozenset(
    "unique unique_consecutive nonzero nonzero_numpy argwhere masked_select bincount repeat_interleave one_hot "
    "histogramdd".split()
)


class UnknownOperator(ValueError):
    """A name that is not an operator of this vocabulary, or not in this version of torch."""


def hazards(operator: str) -> frozenset[str]:
    """The hazards that an operator declares (see ``_HAZARDS``)."""
    name = _last(operator)
    return frozenset(hazard for hazard, names in _HAZARDS.items() if name in names)


def sized_by_values(operator: str) -> bool:
    """Whether the sizes of an operator's results follow from the values of its operands, not from their sizes alone."""
    return _last(operator) in _SIZED_BY_VALUES


def _last(operator: str) -> str:
    parts = operator.split(".")
    return parts[3] if parts[:3] == ["torch", "ops", "aten"] and len(parts) > 3 else parts[-1]


def written(operation: Call) -> tuple[int, ...]:
    """The operands that a call writes to, by the names that PyTorch gives such operators.

    Of a call with regions all of them, if anything inside writes to anything: it may be a view of any.
    """
    if operation.regions:
        inside = (inner for region in operation.regions for inner in walk(region.calls))
        return operation.operands() if any(written(inner) for inner in inside if not inner.regions) else ()
    last = operation.operator.removesuffix(".default").rpartition(".")[2]
    in_place = (last.endswith("_") and not last.endswith("__")) or last == "__setitem__"
    in_place = in_place or (last.startswith("__i") and last not in ("__invert__", "__index__", "__int__"))
    found = list(references(operation.args[0])) if in_place and operation.args else []
    return (*found, *(number for key, value in operation.kwargs if key == "out" for number in references(value)))


@functools.cache
def operators() -> Mapping[str, Callable[..., Any]]:
    """Every function that torch lets a tensor override, by qualified name."""
    import warnings

    import torch
    from torch import overrides

    found: dict[str, Callable[..., Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # listing them touches deprecated attributes
        for functions in overrides.get_overridable_functions().values():
            for function in functions:
                name = overrides.resolve_name(function)
                if name is None:
                    continue
                # A property is listed by its getter or setter.
                if name.endswith(".__set__"):
                    continue
                name = name.removesuffix(".__get__").replace("torch.functional.", "torch.")
                if name not in _FORBIDDEN:
                    found[name] = function
    # PyTorch's list leaves out a few of its own functions: some activations, and in-place forms like torch.sin_.
    functional = vars(torch.nn.functional)
    for name, function in functional.items():
        public = name[0].islower() and not name.startswith(("boolean_", "assert_"))
        if public and getattr(function, "__module__", "") == "torch.nn.functional":
            found.setdefault(f"torch.nn.functional.{name}", function)
    for name in dir(torch._C._VariableFunctions):
        if name.endswith("_") and not name.startswith("_") and hasattr(torch, name):
            found.setdefault(f"torch.{name}", getattr(torch, name))
    for name in FACTORIES:
        found[name] = getattr(torch, name.removeprefix("torch."))
    for name in _UNLISTED:
        owner = torch.Tensor if name.startswith("torch.Tensor.") else torch
        if hasattr(owner, name.rpartition(".")[2]):
            found[name] = getattr(owner, name.rpartition(".")[2])
    for module in map(importlib.import_module, _COMPOSED):
        for name in module.__all__:
            full = f"{module.__name__}.{name}"
            if full not in _FORBIDDEN and inspect.isfunction(function := getattr(module, name)):
                found[full] = function
    found.pop("torch.spmm", None)  # torch.mm under a name that nobody uses
    return found


@functools.cache
def resolve(operator: str) -> Callable[..., Any]:
    """The function that an operator names.

    Raises:
        UnknownOperator: the name is not an operator here.
    """
    if operator.startswith("torch.ops.aten."):
        import torch

        found: Any = torch.ops.aten
        for part in operator.split(".")[3:]:
            if part.startswith("__") or not hasattr(found, part):
                raise UnknownOperator(f"{operator} is not in this version of torch")
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]
    if operator in operators():
        return operators()[operator]
    if operator in STRUCTURES:
        return structured.resolve(operator)
    raise UnknownOperator(f"{operator} is not an operator of torch {_version()} that a case may call")


def _version() -> str:
    import torch

    return str(torch.__version__)


@functools.cache
def _is_property(operator: str) -> bool:
    import torch

    name = operator.removeprefix("torch.Tensor.")
    return not callable(inspect.getattr_static(torch.Tensor, name, None))


# --- values of arguments -----------------------------------------------------------------------------------------


@functools.cache
def constant(name: str) -> Any:
    """The torch constant behind a name: a dtype, a memory format or a layout."""
    import torch

    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype | torch.memory_format | torch.layout):
        raise UnknownOperator(f"{name} is not a dtype, memory format or layout of torch {_version()}")
    return found


def value(arg: Arg, tensors: Sequence[Any]) -> Any:
    """An argument as Python passes it, given the tensors by number."""
    match arg:
        case Ref(index):
            return tensors[index]
        case Name(name):
            return constant(name)
        case tuple():
            return tuple(value(item, tensors) for item in arg)
        case Slice(start, stop, step):
            return slice(value(start, tensors), value(stop, tensors), value(step, tensors))
    return arg


def call(operation: Call, tensors: Sequence[Any]) -> list[Any]:
    """Run one call on tensors; its results in order, whatever they are.

    One with regions does what its operator is defined to do, call by call; PyTorch's own would compile the regions.
    """
    if operation.regions:
        return structured.stepwise(operation, tensors, value, call)
    function = resolve(operation.operator)
    args = [value(arg, tensors) for arg in operation.args]
    if operation.operator in _SIGNS and type(args[0]) in (bool, int, float):
        function = getattr(python, operation.operator.rpartition(".")[2])  # a number that a loop carries
    kwargs = {key: value(arg, tensors) for key, arg in operation.kwargs}
    result = function(*args, **kwargs)
    if operation.form == "tensor":
        return [result]
    return list(result) if operation.form == "sequence" else []


def evaluate(
    program: Program,
    tensors: Sequence[Any],
    after: Callable[[Call, list[Any]], list[Any]] | None = None,
    run: Callable[[Call, Sequence[Any]], list[Any]] = call,
) -> list[Any]:
    """Interpret a program, call by call; all its values, by number.

    ``after`` sees each call with its results and returns what takes their place (a rounding emulation, a recorder).
    ``run`` runs a call on the values so far. Of a call with regions they see those inside, and not itself.
    Targets never run this: they run the source text.
    """

    def step(operation: Call, values: Sequence[Any]) -> list[Any]:
        if operation.regions:
            return structured.stepwise(operation, values, value, step)
        results = run(operation, values)
        return results if after is None else after(operation, results)

    values: list[Any] = list(tensors)
    for operation in program.calls:
        values.extend(step(operation, values))
    return values


# --- source text ---------------------------------------------------------------------------------------------------


def argument(arg: Arg, names: Sequence[str]) -> str:
    """An argument as Python source; ``names`` are the variables by value number."""
    match arg:
        case Ref(index):
            return names[index]
        case Name(name):
            return name
        case tuple():
            inner = ", ".join(argument(item, names) for item in arg)
            return f"({inner},)" if len(arg) == 1 else f"({inner})"
        case Slice():
            return f"slice({argument(arg.start, names)}, {argument(arg.stop, names)}, {argument(arg.step, names)})"
        case _ if arg is ...:
            return "..."
        case float() if arg != arg or arg in (float("inf"), float("-inf")):
            return {"nan": "nan", "inf": "inf", "-inf": "-inf"}[str(arg)]
        case complex():
            return f"complex({argument(arg.real, names)}, {argument(arg.imag, names)})"
    return repr(arg)


def _index(arg: Arg, names: Sequence[str]) -> str:
    """An argument between square brackets."""
    if isinstance(arg, tuple) and arg:
        # A tuple within is one index, a sequence of places; only the outermost stands without its parentheses.
        inner = (argument(item, names) if isinstance(item, tuple) else _index(item, names) for item in arg)
        return ", ".join(inner) + ("," if len(arg) == 1 else "")
    if isinstance(arg, Slice):
        start, stop, step = ("" if part is None else argument(part, names) for part in (arg.start, arg.stop, arg.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return argument(arg, names)


#: Methods that are written as signs. In-place ones stay methods: ``x += y`` would bind the name anew.
_SIGNS = {
    f"torch.Tensor.__{name}__": sign
    for name, sign in {
        "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
        "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
        "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
    }.items()
}  # fmt: skip


def expression(operation: Call, names: Sequence[str], device: str = "cpu") -> str:
    """A call as Python source: an expression, or the statement of an indexed assignment.

    What makes a tensor from no other one says on which device, unless it is the CPU.
    """
    operator, args = operation.operator, operation.args
    if operator == "torch.Tensor.__getitem__" and len(args) == 2:
        return f"{argument(args[0], names)}[{_index(args[1], names)}]"
    if operator == "torch.Tensor.__setitem__" and len(args) == 3:
        return f"{argument(args[0], names)}[{_index(args[1], names)}] = {argument(args[2], names)}"
    if operator in _SIGNS and len(args) == 2 and not operation.kwargs:
        return f"{argument(args[0], names)} {_SIGNS[operator]} {argument(args[1], names)}"
    pieces = [argument(arg, names) for arg in args]
    pieces += [f"{key}={argument(arg, names)}" for key, arg in operation.kwargs]
    if device != "cpu" and not operation.operands():
        pieces.append(f'device="{device}"')
    if operator.startswith("torch.Tensor.") and args and isinstance(args[0], Ref):
        name = operator.removeprefix("torch.Tensor.")
        if _is_property(operator):
            return f"{pieces[0]}.{name}"
        return f"{pieces[0]}.{name}({', '.join(pieces[1:])})"
    return f"{operator}({', '.join(pieces)})"


# --- higher precision -------------------------------------------------------------------------------------------------

_WIDER = {
    "float16": "float64",
    "bfloat16": "float64",
    "float32": "float64",
    "complex32": "complex128",
    "complex64": "complex128",
}
_WIDER_METHODS = {
    "torch.Tensor.float": "torch.Tensor.double",
    "torch.Tensor.half": "torch.Tensor.double",
    "torch.Tensor.bfloat16": "torch.Tensor.double",
    "torch.Tensor.cfloat": "torch.Tensor.cdouble",
    "torch.Tensor.chalf": "torch.Tensor.cdouble",
}


def wider(dtype: str) -> str:
    """The dtype that a baseline of higher precision uses in place of this one."""
    return _WIDER.get(dtype, dtype)


def widened(program: Program) -> Program | None:
    """The same program with every explicit float dtype raised to double precision, and nothing lowered by autocast.

    None where it reads the bytes of a float as another dtype, or makes a float of bytes: double precision has others.
    """
    from dataclasses import replace

    if any(_reads_bytes(operation, types) for operation, types in scoped(program)):
        return None

    def widen(arg: Arg) -> Arg:
        match arg:
            case Name(name):
                return Name("torch." + wider(name.removeprefix("torch.")))
            case tuple():
                return tuple(widen(item) for item in arg)
        return arg

    def wide(operation: Call) -> Call:
        if operation.operator == "torch.autocast":
            return replace(operation, kwargs=(("enabled", False),))
        return replace(
            operation,
            operator=_WIDER_METHODS.get(operation.operator, operation.operator),
            args=tuple(widen(arg) for arg in operation.args),
            kwargs=tuple((key, widen(arg)) for key, arg in operation.kwargs),
        )

    calls = tuple(everywhere(operation, wide) for operation in program.calls)
    return replace(program, calls=calls, around=tuple(map(wide, program.around)))


def _reads_bytes(operation: Call, types: Sequence[TensorType | None]) -> bool:
    """Whether a call views a tensor as another dtype, and one of the two has a wider form."""
    if operation.operator.rpartition(".")[2] not in ("view", "view_copy"):
        return False
    named = [arg for arg in (*operation.args, *(value for _, value in operation.kwargs)) if isinstance(arg, Name)]
    concerned = (*(types[number] for number in operation.operands()), *operation.results)
    dtypes = [type_.dtype for type_ in concerned if type_ is not None]
    return bool(named) and len(set(dtypes)) > 1 and any(wider(dtype) != dtype for dtype in dtypes)


# --- what a program's source needs beside torch ---------------------------------------------------------------------


def bindings(program: Program) -> list[str]:
    """Further parameters of the program function; none in this vocabulary."""
    return []


def namespace(program: Program) -> dict[str, Any]:
    """Further names that the source uses; none in this vocabulary."""
    return {}


def imports(program: Program) -> list[str]:
    """Import lines that a script needs beside ``import torch``; none in this vocabulary."""
    return []

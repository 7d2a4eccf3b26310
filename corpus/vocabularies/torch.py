"""The torch vocabulary: which functions are operators, how they are called, printed and evaluated.

An operator is named by its public qualified name: ``torch.add``, ``torch.nn.functional.pad``,
``torch.Tensor.add_``, ``torch.ops.aten.relu.default``. A property of a tensor is named like a method
(``torch.Tensor.mT``). Names come from stored cases, which anybody may have written, so only what PyTorch itself lists
as overridable on tensors, its operator library (``aten.py``), a few factories and the operators with regions of
``structured.py`` resolve; ``torch.load`` and ``os.system`` do not. Which names those are is known without torch as well
(``admission.py``).
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator as python
import sys
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
from shakeout.corpus.vocabularies import aten, structured
from shakeout.corpus.vocabularies.operator import identify
from shakeout.corpus.vocabularies.recurrent import checked
from shakeout.corpus.vocabularies.structured import STRUCTURES
from shakeout.corpus.vocabularies.table import constants
from shakeout.corpus.vocabularies.torch_traits import family, traits

__all__ = [
    "REFERENCE",
    "SIMPLEST",
    "STRUCTURES",
    "UnknownOperator",
    "applied",
    "argument",
    "bindings",
    "call",
    "constant",
    "constants",
    "evaluate",
    "expression",
    "family",
    "imports",
    "meaning",
    "namespace",
    "operators",
    "resolve",
    "spelled",
    "traits",
    "value",
    "widened",
    "wider",
    "written",
]

#: The target that shows what a program means.
REFERENCE = "eager"

#: Operators that say nothing about what fails, from the simplest, with how many operands they take.
SIMPLEST = {"torch.clone": 1, "torch.neg": 1, "torch.add": 2}

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
# A switch of the thread, and a class.
_FORBIDDEN |= {"torch.autocast"}
# Steps of PyTorch's own graph transformations, which happen to be visible.
_FORBIDDEN |= {"torch.slice_inverse", "torch.Tensor.slice_inverse"}
# Views that autograd does not know to be views: by their contract nothing may be written to them or their base.
_FORBIDDEN |= {
    f"{owner}.{name}"
    for owner in ("torch", "torch.Tensor")
    for name in ("unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes")
}


class UnknownOperator(ValueError):
    """A name that is not an operator of this vocabulary, or not in this version of torch."""


def meaning(operator: str) -> str:
    """The operator that one of this vocabulary stands for: itself."""
    return operator


def written(operation: Call) -> tuple[int, ...]:
    """The operands that a call writes to.

    Of a public function its name tells, and ``out``; of an operator of a library its schema does, once torch is there.
    Of a call with regions all of them, if anything inside writes to anything: it may be a view of any. A custom
    operator says so itself.
    """
    if operation.regions:
        if STRUCTURES[operation.operator].custom:
            return structured.declared_writes(operation)
        inside = (inner for region in operation.regions for inner in walk(region.calls))
        return operation.operands() if any(written(inner) for inner in inside if not inner.regions) else ()
    if identify(operation.operator).library and "torch" in sys.modules:
        places, keywords = _written(operation.operator)
    else:
        places, keywords = _named(operation.operator)
    found = [number for place, arg in enumerate(operation.args) if place in places for number in references(arg)]
    found += [number for key, arg in operation.kwargs if key in keywords for number in references(arg)]
    return tuple(found)


def _named(operator: str) -> tuple[frozenset[int], frozenset[str]]:
    """Positions and names of the arguments that an operator's name says are written to, and ``out``."""
    return _FIRST if traits(operator).in_place else frozenset(), _OUT


_FIRST, _OUT = frozenset((0,)), frozenset(("out",))


@functools.lru_cache(1 << 12)
def _written(operator: str) -> tuple[frozenset[int], frozenset[str]]:
    """Positions and names of the arguments that the schema of a library's operator marks as written to.

    A name without its overload is taken for each overload that it has.
    """
    try:
        found: Any = resolve(operator)
        overloads = [found] if hasattr(found, "_schema") else [getattr(found, name) for name in found.overloads()]
    except (UnknownOperator, AttributeError):
        return _named(operator)
    marked = [
        (place, argument)
        for overload in overloads
        for place, argument in enumerate(overload._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    places = frozenset(place for place, argument in marked if not argument.kwarg_only)
    return places, frozenset(argument.name for _, argument in marked)


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
        if identify(name).in_place and not name.startswith("_") and hasattr(torch, name):
            found.setdefault(f"torch.{name}", getattr(torch, name))
    for name in FACTORIES:
        found[name] = getattr(torch, name.removeprefix("torch."))
    for name in _UNLISTED:
        identity = identify(name)
        owner = torch.Tensor if identity.namespace == "torch.Tensor" else torch
        if hasattr(owner, identity.name):
            found[name] = getattr(owner, identity.name)
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
    if operator.startswith(aten.PREFIX):
        if (found := aten.overload(operator)) is None:
            raise UnknownOperator(f"{operator} is not an overload of torch {_version()} that a case may call")
        return found  # type: ignore[no-any-return]
    if operator in operators():
        return checked(operator, operators()[operator])
    if operator in STRUCTURES:
        return structured.resolve(operator)
    raise UnknownOperator(f"{operator} is not an operator of torch {_version()} that a case may call")


def _version() -> str:
    import torch

    return str(torch.__version__)


@functools.cache
def _is_property(operator: str) -> bool:
    import torch

    return not callable(inspect.getattr_static(torch.Tensor, identify(operator).name, None))


# --- values of arguments -----------------------------------------------------------------------------------------


@functools.cache
def constant(name: str) -> Any:
    """The torch constant behind a name: a dtype, a memory format or a layout."""
    import torch

    found = getattr(torch, name.removeprefix("torch."), None) if name.startswith("torch.") else None
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
    if operation.operator in _SIGNS and type(value(operation.args[0], tensors)) in (bool, int, float):
        function = getattr(python, identify(operation.operator).name)  # a number that a loop carries
    return applied(operation, function, tensors)


def applied(operation: Call, function: Callable[..., Any], tensors: Sequence[Any]) -> list[Any]:
    """Call a function in the place of a call's operator; its results in order, as the call has them."""
    args = [value(arg, tensors) for arg in operation.args]
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


def spelled(operator: str) -> str | None:
    """The public name of an operator of the library, where there may be one."""
    identity = identify(operator)
    if identity.namespace == "torch.ops.aten" and "." not in identity.overload and not identity.name.startswith("_"):
        return f"torch.{identity.name}"
    return None


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
    identity = identify(operator)
    if identity.namespace == "torch.Tensor" and args and isinstance(args[0], Ref):
        if _is_property(operator):
            return f"{pieces[0]}.{identity.name}"
        return f"{pieces[0]}.{identity.name}({', '.join(pieces[1:])})"
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
            case Name(name) if name.startswith("torch."):  # and no constant of another package
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
    if not traits(operation.operator).reinterprets:
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
    """Further names that the source uses: what makes custom operators, and makes one only once in a process."""
    return {name: functools.partial(_custom, name) for name in _customs(program)}


def imports(program: Program) -> list[str]:
    """Import lines that a script needs beside ``import torch``: of what makes custom operators, and of checkpoints."""
    found = ["import torch.utils.checkpoint"] if "torch.utils.checkpoint.checkpoint" in program.operators() else []
    customs = _customs(program)
    return [*found, f"from torch.library import {', '.join(customs)}"] if customs else found


def _customs(program: Program) -> list[str]:
    """Of what makes custom operators, the functions of ``torch.library`` that a program needs."""
    kinds = {identify(one).name for one in set(program.operators()) if one.startswith("torch.library.")}
    return sorted({"custom_op" if kind == "register_autograd" else kind for kind in kinds})


def _custom(kind: str, name: str, function: Callable[..., Any], **declared: Any) -> Any:
    """Make a custom operator unless there is one of this name, which says what it computes.

    A second definition would take the place of the first, which somebody may be about to call.
    """
    import torch.library
    from torch._library.custom_ops import OPDEFS

    if name not in OPDEFS:
        getattr(torch.library, kind)(name, function, **declared)
    return OPDEFS[name]

"""The kernel vocabulary: a user's kernels, named ``MODULE:NAME``, among the operators of torch.

What a kernel means is what its declared reference does. The source text of a program takes each kernel as a further
parameter that is the reference unless told otherwise; a target hands in the kernel itself.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from shakeout.corpus.layouts import Layout, Watched
from shakeout.corpus.program import Arg, Call, InvalidProgram, Name, Program, Ref, Slice
from shakeout.corpus.user_objects import Kernel, NotDeclared, find, import_lines, local_name
from shakeout.corpus.vocabularies import structured
from shakeout.corpus.vocabularies import torch as plain
from shakeout.corpus.vocabularies.structured import STRUCTURES
from shakeout.corpus.vocabularies.torch import (
    UnknownOperator,
    applied,
    argument,
    constant,
    constants,
    family,
    operators,
    spelled,
    value,
    widened,
    wider,
)
from shakeout.corpus.vocabularies.traits import Hazard, Traits

__all__ = [
    "COPIED",
    "REFERENCE",
    "SIMPLEST",
    "STRUCTURES",
    "UNNAMED",
    "UnknownOperator",
    "argument",
    "bindings",
    "call",
    "called",
    "constant",
    "constants",
    "evaluate",
    "evaluate_fused",
    "expression",
    "family",
    "imports",
    "kernel",
    "meaning",
    "namespace",
    "operators",
    "resolve",
    "spelled",
    "traits",
    "value",
    "watching",
    "widened",
    "wider",
    "written",
]

REFERENCE, SIMPLEST = plain.REFERENCE, plain.SIMPLEST

#: What ``evaluate`` calls the copy of a kernel's operand, which the program does not have.
COPIED = Call("torch.clone", (Ref(0),), (), (None,))

#: What stands for a function that a kernel's reference calls, and that is no operator of the vocabulary.
UNNAMED = Call("torch.clone", (Ref(0),), (), (None,))


def kernel(operator: str) -> Kernel:
    """The declared kernel behind ``MODULE:NAME``.

    Raises:
        UnknownOperator: there is none.
    """
    try:
        found = find(operator)
    except NotDeclared as error:
        raise UnknownOperator(str(error)) from error
    if not isinstance(found, Kernel):
        raise UnknownOperator(f"{operator} is declared, but not as a kernel")
    return found


@functools.cache
def resolve(operator: str) -> Callable[..., Any]:
    """What an operator means: for a kernel its reference, for the rest the operator of torch.

    Raises:
        UnknownOperator: the name is not an operator here.
    """
    if ":" not in operator:
        return plain.resolve(operator)
    declared = kernel(operator)
    return declared.reference if declared.strides else functools.partial(_relaid, declared.reference)


def _relaid(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The results of a call, each row-major: of a kernel that promises no strides."""
    result = function(*args, **kwargs)
    return [item.contiguous() for item in result] if isinstance(result, list | tuple) else result.contiguous()


@functools.cache
def meaning(operator: str) -> str:
    """The operator of torch that a kernel's reference is, or the name itself."""
    if ":" not in operator:
        return operator
    reference = kernel(operator).reference
    return next((name for name, function in operators().items() if function is reference), operator)


#: What a kernel need not have in common with the operator behind it, because it may compute it by another algorithm.
#: Replicas move, and may let overflow, what the operators of its reference add up, which have these traits themselves.
_ALGORITHM: Any = {
    "exactness": "",
    "rounded": False,
    "majorant": "",
    "addition": "",
    "transforms": False,
    "waves": False,
    "homogeneous": False,
    "once": False,
    "elementwise": False,
}

#: What a kernel must not be given, or leaves open, as soon as one of several operators behind it does.
_CARRIED = (
    "division",
    "shift",
    "counts",
    "pairs",
    "loops",
    "finite",
    "pivots",
    "apart",
    "sampled",
    "attends",
    "unwritten",
    "elsewhere",
    "reshapes",
    "places",
    "unordered",
)


@functools.cache
def traits(operator: str) -> Traits:
    """The traits of an operator; of a kernel those that it has in common with what its reference calls.

    What that adds up, and in which way, is not among them: a kernel may compute it by another algorithm.
    """
    if ":" not in operator:
        return plain.traits(operator)
    own, name = plain.traits(operator), meaning(operator)
    if ":" not in name:
        return replace(plain.traits(name), in_place=own.in_place, internal=own.internal, **_ALGORITHM)
    inside = [plain.traits(one) for one in called(operator)]
    carried: Any = {trait: any(getattr(one, trait) for one in inside) for trait in _CARRIED}
    return replace(
        own,
        hazards=frozenset[Hazard]().union(*(one.hazards for one in inside)),
        # Which of its results carries on a result that is ambiguous is only known of an operator itself.
        ambiguous=inside[0].ambiguous if len(inside) == 1 else frozenset(),
        **carried,
    )


def written(operation: Call) -> tuple[int, ...]:
    """The operands that a call writes to; of a kernel its name tells, and ``out``."""
    return plain.written(operation)


def call(operation: Call, tensors: Sequence[Any]) -> list[Any]:
    """Run one call on tensors, a kernel's by its reference; its results in order."""
    if operation.regions:
        return structured.stepwise(operation, tensors, value, call)
    if ":" not in operation.operator:
        return plain.call(operation, tensors)
    return applied(operation, resolve(operation.operator), tensors)


def evaluate(
    program: Program,
    tensors: Sequence[Any],
    after: Callable[[Call, list[Any]], list[Any]] | None = None,
    run: Callable[[Call, Sequence[Any]], list[Any]] = call,
) -> list[Any]:
    """Interpret a program, call by call; all its values, by number.

    ``run`` runs a call of an operator of torch on the values so far; so it does for the operator that a kernel's
    reference is, and for each that it calls. The kernel itself it is given only where that is accurate by norm.

    ``after`` sees each call with its results and returns what takes their place. Of a kernel it also sees copies of the
    operands, as results of ``COPIED``: a kernel may add up in another order, and how much that moves a sum that
    cancels, only its terms tell. Where the reference is made of many operators of torch, ``after`` sees the result of
    each of them as well.
    """
    return _evaluate(program, tensors, after, run, fused=False)


def evaluate_fused(
    program: Program,
    tensors: Sequence[Any],
    after: Callable[[Call, list[Any]], list[Any]] | None = None,
    run: Callable[[Call, Sequence[Any]], list[Any]] = call,
) -> list[Any]:
    """As ``evaluate``, but what lies inside of a kernel's reference is in single precision.

    That is where the operands are in half: a kernel that fuses several operators rounds once, in the end, and so does
    one of what PyTorch computes in several steps (``logsumexp``).
    """
    return _evaluate(program, tensors, after, run, fused=True)


def _evaluate(
    program: Program,
    tensors: Sequence[Any],
    after: Callable[[Call, list[Any]], list[Any]] | None,
    run: Callable[[Call, Sequence[Any]], list[Any]],
    fused: bool,
) -> list[Any]:
    def step(operation: Call, values: Sequence[Any]) -> list[Any]:
        if operation.regions:
            return structured.stepwise(operation, values, value, step)
        if after is None:
            return call(operation, values)
        if ":" not in operation.operator:
            return after(operation, run(operation, values))
        return after(operation, _rounded(operation, values, after, run, fused))

    values: list[Any] = list(tensors)
    for operation in program.calls:
        values.extend(step(operation, values))
    return values


def _rounded(
    operation: Call,
    values: Sequence[Any],
    after: Callable[[Call, list[Any]], list[Any]],
    run: Callable[[Call, Sequence[Any]], list[Any]],
    fused: bool,
) -> list[Any]:
    """A kernel's results by its reference, with ``after`` applied to its operands, and as the traits below tell."""

    def apply(given: Sequence[Any]) -> list[Any]:
        if kernel(operation.operator).accuracy == "normwise":
            return run(operation, given)
        if fused and (wide := _widely(operation, given)) is not None:
            return wide
        return _by_operators(operation, given, after, run)

    moved = {number: after(COPIED, [values[number].clone()])[0] for number in set(operation.operands())}
    versions = {number: tensor._version for number, tensor in moved.items()}
    results = apply([moved.get(number, tensor) for number, tensor in enumerate(values)])
    if any(moved[number]._version != version for number, version in versions.items()):
        return apply(values)  # it writes to its operands, and has to write to the real ones
    return results


def _widely(operation: Call, values: Sequence[Any]) -> list[Any] | None:
    """A kernel's results by its reference in single precision, rounded once; None where nothing is in half."""
    import torch

    half = (torch.float16, torch.bfloat16)
    operands = {n: values[n] for n in operation.operands() if values[n].dtype in half}
    if not operands:
        return None
    wide = {number: tensor.float() for number, tensor in operands.items()}
    try:
        results = call(operation, [wide.get(number, one) for number, one in enumerate(values)])
        if any(tensor._version for tensor in wide.values()):
            return None  # what it writes to is a copy
        return [
            result if type_ is None or not isinstance(result, torch.Tensor) else result.to(getattr(torch, type_.dtype))
            for result, type_ in zip(results, operation.results, strict=True)
        ]
    except Exception:
        return None  # not every reference takes another dtype


# --- traits: what a kernel sums, multiplies and may overflow is what the operators of its reference do ----------------


@functools.cache
def called(operator: str) -> tuple[str, ...]:
    """The operators of torch that make up what a name means, sorted; of an operator of torch itself.

    Of a kernel whose reference is a function these are the operators that it calls on the kernel's examples. Those of a
    kernel whose examples fail, or that has none, are not known.
    """
    name = meaning(operator)
    if ":" not in name:
        return (name,)
    found: set[str] = set()

    def note(call: Call, tensors: Sequence[Any], function: Callable[[], Any]) -> Any:
        found.add(call.operator)
        return function()

    import torch

    with contextlib.suppress(Exception):
        for example in kernel(operator).examples:
            args = [_copied(one) for one in example.args]
            kwargs = {key: _copied(one) for key, one in example.kwargs.items()}
            with torch.no_grad(), watching(note), contextlib.suppress(Exception):
                kernel(operator).reference(*args, **kwargs)
    return tuple(sorted(found))


def _copied(value: Any) -> Any:
    """A tensor of a user's, copied: a reference may write to it."""
    import torch

    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _by_operators(
    operation: Call,
    values: Sequence[Any],
    after: Callable[[Call, list[Any]], list[Any]],
    run: Callable[[Call, Sequence[Any]], list[Any]],
) -> list[Any]:
    """A kernel's results, with ``run`` for each operator of torch that its reference is, or calls.

    ``after`` sees the result of each that it calls. A function of torch that is no operator of the vocabulary runs as
    it is.
    """
    import torch

    name, declared = meaning(operation.operator), kernel(operation.operator)

    def laid_out(results: list[Any]) -> list[Any]:
        return results if declared.strides else [_row_major(result) for result in results]

    if ":" not in name:
        return laid_out(run(replace(operation, operator=name), values))

    def each(inner: Call, tensors: Sequence[Any], function: Callable[[], Any]) -> Any:
        return after(inner, run(inner, tensors))[0]

    def plainly(result: Any) -> Any:
        return after(UNNAMED, [result])[0] if type(result) is torch.Tensor else result

    with watching(each, plainly):
        results = applied(operation, declared.reference, values)
    return laid_out(results)


def _row_major(result: Any) -> Any:
    import torch

    return result.contiguous() if isinstance(result, torch.Tensor) else result


def watching(
    each: Callable[[Call, Sequence[Any], Callable[[], Any]], Any],
    other: Callable[[Any], Any] = lambda result: result,
) -> Any:
    """A mode that hands each call of an operator of torch to ``each``, and what any other function gives to ``other``.

    ``each`` gets the call, whose operands are numbered from 0 and whose one result is whatever the function returns,
    the operands, and what makes the call as it is.
    """
    from torch.overrides import TorchFunctionMode

    class Watching(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            kwargs = kwargs or {}

            def plain() -> Any:
                return func(*args, **kwargs)

            name = _named(func)
            tensors: list[Any] = []
            try:
                stored = tuple(_stored(arg, tensors) for arg in args)
                keywords = tuple(sorted((key, _stored(arg, tensors)) for key, arg in kwargs.items()))
            except InvalidProgram:
                name = None
            if name is None or not tensors:
                return other(plain())
            return each(Call(name, stored, keywords), tensors, plain)

    return Watching()


def _stored(value: Any, tensors: list[Any]) -> Arg:
    """An argument as a call has it; tensors are put into the list and numbered.

    Raises:
        InvalidProgram: a call cannot have it.
    """
    import torch

    match value:
        case torch.Tensor():
            tensors.append(value)
            return Ref(len(tensors) - 1)
        case torch.dtype() | torch.memory_format() | torch.layout():
            return Name(str(value))
        case list() | tuple():
            return tuple(_stored(item, tensors) for item in value)
        case slice():
            parts = (_stored(part, tensors) for part in (value.start, value.stop, value.step))
            return Slice(*parts)
        case None | bool() | int() | float() | complex() | str():
            return value
        case _ if value is ...:
            return ...
    raise InvalidProgram(f"an argument of type {type(value).__name__}")


@functools.cache
def _names() -> dict[int, str]:
    return {id(function): name for name, function in reversed(list(operators().items()))}


def _named(function: Any) -> str | None:
    """The name of a function of torch as an operator; None where it is none."""
    from torch.overrides import resolve_name

    if (name := _names().get(id(function))) is not None:
        return name
    name = (resolve_name(function) or "").removesuffix(".__get__").replace("torch.functional.", "torch.")
    return name if name in operators() else None


def expression(operation: Call, names: Sequence[str], device: str = "cpu") -> str:
    """A call as Python source."""
    if ":" not in operation.operator:
        return plain.expression(operation, names, device)
    pieces = [argument(arg, names) for arg in operation.args]
    pieces += [f"{key}={argument(arg, names)}" for key, arg in operation.kwargs]
    text = f"{local_name(operation.operator)}({', '.join(pieces)})"
    if kernel(operation.operator).strides:
        return text
    return f"{text}.contiguous()" if operation.form == "tensor" else f"[one.contiguous() for one in {text}]"


# --- what a program's source needs beside torch -----------------------------------------------------------------------


def _kernels(program: Program) -> dict[str, str]:
    """The kernels that a program calls, by the name that its text calls them by."""
    found: dict[str, str] = {}
    for operator in program.operators():
        if ":" in operator and found.setdefault(local_name(operator), operator) != operator:
            raise InvalidProgram(f"{operator} and {found[local_name(operator)]} have one name in one program")
    return found


def bindings(program: Program) -> list[str]:
    """A further parameter of the program function for each kernel."""
    return [f"{name}={name}.reference" for name in _kernels(program)]


def namespace(program: Program) -> dict[str, Any]:
    """The kernels by name, and under ``LAYOUTS`` where calls of those that promise no strides left their results."""
    seen: list[tuple[Layout, ...]] = []
    kernels = {name: kernel(operator) for name, operator in _kernels(program).items()}
    return {
        "LAYOUTS": seen,
        **plain.namespace(program),
        **{name: found if found.strides else Watched(found, seen) for name, found in kernels.items()},
    }


def imports(program: Program) -> list[str]:
    """The import of each kernel."""
    lines = [line for operator in _kernels(program).values() for line in import_lines(operator)]
    return [*plain.imports(program), *(["", *dict.fromkeys(lines)] if lines else [])]

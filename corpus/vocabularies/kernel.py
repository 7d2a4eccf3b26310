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

from shakeout.corpus.declared import Kernel, NotDeclared, find, import_lines, local_name
from shakeout.corpus.program import Call, InvalidProgram, Program
from shakeout.corpus.vocabularies import structured
from shakeout.corpus.vocabularies import torch as plain
from shakeout.corpus.vocabularies.structured import STRUCTURES
from shakeout.corpus.vocabularies.torch import (
    UnknownOperator,
    argument,
    constant,
    family,
    operators,
    spelled,
    value,
    widened,
    wider,
)
from shakeout.corpus.vocabularies.traits import Traits

__all__ = [
    "REFERENCE",
    "SIMPLEST",
    "STRUCTURES",
    "UnknownOperator",
    "argument",
    "bindings",
    "call",
    "constant",
    "evaluate",
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
    "widened",
    "wider",
    "written",
]

REFERENCE, SIMPLEST = plain.REFERENCE, plain.SIMPLEST


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


#: What a kernel need not have in common with the operator behind it.
_ALGORITHM: Any = {
    "exactness": "",
    "rounded": False,
    "majorant": "",
    "addition": "",
    "transforms": False,
    "waves": False,
    "homogeneous": False,
    "elementwise": False,
}


@functools.cache
def traits(operator: str) -> Traits:
    """The traits of an operator; of a kernel those that it has in common with the operator behind it.

    What the operator adds up, and in which way, is not among them: a kernel may compute it by another algorithm.
    """
    if ":" not in operator:
        return plain.traits(operator)
    own, known = plain.traits(operator), meaning(operator)
    if ":" in known:
        return own
    return replace(
        plain.traits(known),
        in_place=own.in_place,
        internal=own.internal,
        **_ALGORITHM,
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
    args = [value(arg, tensors) for arg in operation.args]
    kwargs = {key: value(arg, tensors) for key, arg in operation.kwargs}
    result = resolve(operation.operator)(*args, **kwargs)
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

    ``run`` runs a call of an operator of torch on the values so far.

    ``after`` sees each call with its results and returns what takes their place. Of a kernel it also sees copies of the
    operands: a kernel may add up in another order, and how much that moves a sum that cancels, only its terms tell.
    Where the reference is made of many operators of torch, ``after`` sees the result of each of them as well.
    """

    def step(operation: Call, values: Sequence[Any]) -> list[Any]:
        if operation.regions:
            return structured.stepwise(operation, values, value, step)
        if after is None:
            return call(operation, values)
        if ":" not in operation.operator:
            return after(operation, run(operation, values))
        return after(operation, _rounded(operation, values, after))

    values: list[Any] = list(tensors)
    for operation in program.calls:
        values.extend(step(operation, values))
    return values


def _rounded(operation: Call, values: Sequence[Any], after: Callable[[Call, list[Any]], list[Any]]) -> list[Any]:
    """A kernel's results with ``after`` applied to its operands and inside of it."""
    composed = ":" in meaning(operation.operator)

    def run(given: Sequence[Any]) -> list[Any]:
        with _inside(operation, after) if composed else contextlib.nullcontext():
            return call(operation, given)

    moved = {number: after(operation, [values[number].clone()])[0] for number in set(operation.operands())}
    versions = {number: tensor._version for number, tensor in moved.items()}
    results = run([moved.get(number, tensor) for number, tensor in enumerate(values)])
    if any(moved[number]._version != version for number, version in versions.items()):
        return run(values)  # it writes to its operands, and has to write to the real ones
    return results


def _inside(operation: Call, after: Callable[[Call, list[Any]], list[Any]]) -> Any:
    """A mode in which every function of torch has its result replaced by ``after``."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Inside(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            return after(operation, [result])[0] if type(result) is torch.Tensor else result

    return Inside()


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
    """The kernels by name."""
    return {name: kernel(operator) for name, operator in _kernels(program).items()}


def imports(program: Program) -> list[str]:
    """The import of each kernel."""
    lines = [line for operator in _kernels(program).values() for line in import_lines(operator)]
    return ["", *dict.fromkeys(lines)] if lines else []

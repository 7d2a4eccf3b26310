"""A vocabulary: the operators of torch, and ``example.axpy`` and ``example.scale_`` beside them."""

from collections.abc import Callable, Sequence
from typing import Any

from shakeout.corpus.program import Call, Program, references
from shakeout.corpus.vocabularies import torch as plain
from shakeout.corpus.vocabularies.torch import UnknownOperator, argument, value, widened, wider

__all__ = ["UnknownOperator", "argument", "value", "widened", "wider"]

OWN = ("example.axpy", "example.scale_")


def resolve(operator: str) -> Callable[..., Any]:
    if operator not in OWN:
        return plain.resolve(operator)
    from example_stack import operators

    return getattr(operators, operator.removeprefix("example."))


def hazards(operator: str) -> frozenset[str]:
    return frozenset() if operator in OWN else plain.hazards(operator)


def sized_by_values(operator: str) -> bool:
    return operator not in OWN and plain.sized_by_values(operator)


def written(operation: Call) -> tuple[int, ...]:
    if operation.operator == "example.scale_":
        return tuple(references(operation.args[0]))
    return () if operation.operator in OWN else plain.written(operation)


def call(operation: Call, tensors: Sequence[Any]) -> list[Any]:
    if operation.operator not in OWN:
        return plain.call(operation, tensors)
    kwargs = {key: value(arg, tensors) for key, arg in operation.kwargs}
    return [resolve(operation.operator)(*(value(arg, tensors) for arg in operation.args), **kwargs)]


def evaluate(program: Program, tensors: Sequence[Any], after: Any = None, run: Any = call) -> list[Any]:
    return plain.evaluate(program, tensors, after, run)


def expression(operation: Call, names: Sequence[str], device: str = "cpu") -> str:
    if operation.operator not in OWN:
        return plain.expression(operation, names, device)
    pieces = [argument(arg, names) for arg in operation.args]
    pieces += [f"{key}={argument(arg, names)}" for key, arg in operation.kwargs]
    return f"{operation.operator}({', '.join(pieces)})"


def bindings(program: Program) -> list[str]:
    return []


def namespace(program: Program) -> dict[str, Any]:
    from example_stack import operators

    return {"example": operators}


def imports(program: Program) -> list[str]:
    used = any(operator in OWN for operator in program.operators())
    return ["", "from example_stack import operators as example"] if used else []

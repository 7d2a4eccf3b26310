"""A vocabulary: the operators of torch, and ``example.axpy`` and ``example.scale_`` beside them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from shakeout.corpus.program import Arg, Call, Name, Program, references
from shakeout.corpus.vocabularies import torch as plain
from shakeout.corpus.vocabularies.traits import Traits

#: Both multiply and add, so whole numbers stay whole, and their numbers are factors.
OWN = {
    "example.axpy": Traits(exactness="sums", scalars=True, addition="products"),
    "example.scale_": Traits(exactness="sums", scalars=True, in_place=True),
}


def __getattr__(name: str) -> Any:
    """What is not told here is as torch's vocabulary has it."""
    return getattr(plain, name)


def operators() -> Mapping[str, Callable[..., Any]]:
    return {**plain.operators(), **{operator: resolve(operator) for operator in OWN}}


def resolve(operator: str) -> Callable[..., Any]:
    if operator not in OWN:
        return plain.resolve(operator)
    from example_stack import operators

    return getattr(operators, operator.removeprefix("example."))


def traits(operator: str) -> Traits:
    return OWN[operator] if operator in OWN else plain.traits(operator)


def constants() -> Collection[str]:
    return {*plain.constants(), "example.HALF"}


def constant(name: str) -> Any:
    if name != "example.HALF":
        return plain.constant(name)
    from example_stack import operators

    return operators.HALF


def value(arg: Arg, tensors: Sequence[Any]) -> Any:
    return constant(arg.name) if isinstance(arg, Name) else plain.value(arg, tensors)


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
    pieces = [plain.argument(arg, names) for arg in operation.args]
    pieces += [f"{key}={plain.argument(arg, names)}" for key, arg in operation.kwargs]
    return f"{operation.operator}({', '.join(pieces)})"


def namespace(program: Program) -> dict[str, Any]:
    from example_stack import operators

    return {"example": operators}


def imports(program: Program) -> list[str]:
    used = any(operator in OWN for operator in program.operators())
    return ["", "from example_stack import operators as example"] if used else []

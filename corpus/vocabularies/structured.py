"""Operators with regions in the torch vocabulary: branches, loops, blocks, transforms, checkpoints, custom operators.

PyTorch takes branches and loops as functions (``torch.cond``), which read free variables; here a function's free
variables are what its region captures. So it is of the transforms of ``torch.func``. A custom operator is one that a
program brings along: its body is a region, which compilers do not look into (``torch.library.custom_op``) or take apart
(``triton_op``). One with a backward pass of its own (``register_autograd``) has a second region, which is given its
operands, its results and their gradients, and gives those of some operands. Nothing in this module needs torch before
something is run.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shakeout.corpus.program import Arg, Call, InvalidProgram, Program, Ref, walk

if TYPE_CHECKING:
    from shakeout.corpus.vocabularies import Vocabulary

__all__ = [
    "STRUCTURES",
    "Structure",
    "check",
    "declared_writes",
    "forget",
    "resolve",
    "run",
    "stepwise",
    "structures",
    "within",
]

#: Rounds of a loop after which it counts as one that does not end; those of a case have a handful.
MOST_ROUNDS = 10_000

#: Runs one call on the values so far; its results.
Step = Callable[[Call, Sequence[Any]], list[Any]]


def forget() -> None:
    """Have Dynamo forget which sizes changed from one call of a function to the next.

    Eager's ``torch.cond`` is compiled by it, through one function of its own for all branches there are. Without this,
    sizes of a branch are unknown because branches of an earlier case had others, and it is refused.
    """
    if (profile := sys.modules.get("torch._dynamo.pgo")) is not None:
        profile.reset_code_state()


#: Turns an argument into what Python passes, given the values by number.
Value = Callable[[Arg, Sequence[Any]], Any]


@dataclass(frozen=True, slots=True)
class Structure:
    """An operator that has regions.

    Attributes:
        roles: what each region is, which gives its function its name; empty for a ``with`` block, which has one region.
        place: positional arguments that stand before the regions.
        least: positional arguments beside the regions that it needs.
        most: positional arguments that it takes.
        meaning: what it computes, given the regions as functions, the arguments and the keyword arguments.
        bound: which argument fills each parameter of a region, from the call and the region's number; None where it is
            no whole argument, as with a slice that a scan takes.
        custom: whether it is a custom operator: its region is defined outside of the program, and captures nothing.
        transforms: whether it makes a function of its region, which is then called with the arguments.
    """

    meaning: Callable[..., Any]
    bound: Callable[[Call, int], tuple[Arg, ...] | None]
    roles: tuple[str, ...] = ()
    place: int = 0
    least: int = 0
    most: int = 1
    custom: bool = False
    transforms: bool = False

    @property
    def block(self) -> bool:
        """Whether it is a ``with`` block."""
        return not self.roles


def _cond(functions: Sequence[Callable[..., Any]], predicate: Any, operands: Sequence[Any] = ()) -> Any:
    return functions[0 if bool(predicate) else 1](*operands)


def _while_loop(
    functions: Sequence[Callable[..., Any]], carried: Sequence[Any], additional: Sequence[Any] = ()
) -> Sequence[Any]:
    condition, body = functions
    for _ in range(MOST_ROUNDS):
        if not bool(condition(*carried, *additional)[0]):
            return list(carried)
        carried = body(*carried, *additional)
    raise RuntimeError(f"a loop did not end within {MOST_ROUNDS} rounds")


def _scan(
    functions: Sequence[Callable[..., Any]], start: Any, over: Any, *, dim: int = 0, reverse: bool = False
) -> Any:
    import torch

    carried, found = start, []
    parts = torch.unbind(over, dim)
    for part in reversed(parts) if reverse else parts:
        carried, made = functions[0](carried, part)
        found.append(made)
    return [carried, torch.stack(found[::-1] if reverse else found)]


def _custom(functions: Sequence[Callable[..., Any]], operands: Sequence[Any], writes: Sequence[int] = ()) -> Any:
    """What PyTorch asks of a custom operator is asked here too: no result is an operand, all writes are declared."""
    import torch

    given = list(_tensors(operands))
    declared = [one for place in writes for one in _tensors(operands[place])]
    versions = [(one, one._version) for one in given if not any(one is other for other in declared)]
    with torch.no_grad():
        results = functions[0](*given)
    if any(one._version != version for one, version in versions):
        raise RuntimeError("a custom operator writes to an operand that it does not declare as written")
    owners = {one.untyped_storage()._cdata for one in given}
    for one in results:
        if one.untyped_storage()._cdata in owners:
            raise RuntimeError("a custom operator returns an operand, or a view of one")
        owners.add(one.untyped_storage()._cdata)
    return results


def _with_backward(
    functions: Sequence[Callable[..., Any]], operands: Sequence[Any], differentiated: Sequence[int] = ()
) -> Any:
    """A custom operator whose second region is its backward pass.

    Run once with ones for gradients, that is asked to give what it should: otherwise a wrong one shows where a gradient
    is wanted, and there as an error of autograd's.
    """
    import torch

    def gradients(given: Sequence[Any]) -> list[Any]:
        found = list(functions[1](*given))
        for place, one in zip(differentiated, found, strict=True):
            if (one.shape, one.dtype) != (operands[place].shape, operands[place].dtype):
                raise RuntimeError(f"the backward pass gives operand {place} a gradient of another type")
        return found

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *given: Any) -> Any:
            results = _custom(functions[:1], given)
            ctx.save_for_backward(*given, *results)
            gradients([one.detach() for one in (*given, *results, *map(torch.ones_like, results))])
            return tuple(results)

        @staticmethod
        def backward(ctx: Any, *given: Any) -> Any:
            found = dict(zip(differentiated, gradients((*ctx.saved_tensors, *given)), strict=True))
            return tuple(found.get(place) for place in range(len(operands)))

    return list(Own.apply(*operands))  # type: ignore[no-untyped-call]


def _vmap(functions: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """What it is defined to do: the function on each row, and the results of all rows as one tensor."""
    import torch

    rounds = [functions[0](*rows) for rows in zip(*map(torch.unbind, operands), strict=True)]
    return [torch.stack(column) for column in zip(*rounds, strict=True)]


def _grad(functions: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """The gradient by the first argument."""
    import torch

    with torch.enable_grad():
        given = operands[0].detach().requires_grad_()
        (value,) = functions[0](given, *operands[1:])
        (found,) = torch.autograd.grad(value, given, allow_unused=True)
    return [torch.zeros_like(operands[0]) if found is None else found]


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors among an operand, or operands: itself, or those of a list."""
    if isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    else:
        yield value


def declared_writes(call: Call) -> tuple[int, ...]:
    """The values that a custom operator declares to write to."""
    operands, places = call.args[0], call.args[1] if len(call.args) > 1 else ()
    if not isinstance(operands, tuple) or not isinstance(places, tuple) or len(call.regions) > 1:
        return ()
    chosen = (operands[place] for place in places if type(place) is int and 0 <= place < len(operands))
    return tuple(one.index for one in _tensors(tuple(chosen)) if isinstance(one, Ref))


def _given(call: Call, number: int) -> tuple[Arg, ...]:
    return tuple(_tensors(call.args[0]))


def _block(name: str) -> Structure:
    def meaning(functions: Sequence[Callable[..., Any]], *args: Any, **kwargs: Any) -> Any:
        with resolve(name)(*args, **kwargs):
            return functions[0]()

    return Structure(meaning, lambda call, number: (), most=1 if name == "torch.autocast" else 0)


def _all_of(*places: int) -> Callable[[Call, int], tuple[Arg, ...] | None]:
    """Parameters that are the items of some positional arguments."""

    def bound(call: Call, number: int) -> tuple[Arg, ...] | None:
        given = [call.args[place] for place in places if place < len(call.args)]
        return tuple(item for items in given if isinstance(items, tuple) for item in items)

    return bound


#: Public operators that PyTorch has nowhere else stand where every version of it has them.
STRUCTURES: Mapping[str, Structure] = {
    "torch.cond": Structure(_cond, _all_of(1), ("true", "false"), place=1, least=1, most=2),
    "torch._higher_order_ops.while_loop": Structure(_while_loop, _all_of(0, 1), ("condition", "body"), least=1, most=2),
    "torch._higher_order_ops.scan": Structure(_scan, lambda call, number: None, ("combine",), least=2, most=2),
    **{
        f"torch.library.{name}": Structure(_custom, _given, ("computed",), least=1, most=2, custom=True)
        for name in ("custom_op", "triton_op")
    },
    "torch.library.register_autograd": Structure(
        _with_backward,
        lambda call, number: None if number else _given(call, number),
        ("computed", "backward"),
        least=2,
        most=2,
        custom=True,
    ),
    "torch.utils.checkpoint.checkpoint": Structure(
        lambda functions, **options: functions[0](), lambda call, number: (), ("checkpointed",), most=0
    ),
    "torch.func.vmap": Structure(_vmap, lambda call, number: None, ("mapped",), least=1, most=8, transforms=True),
    "torch.func.grad": Structure(
        _grad, lambda call, number: call.args, ("differentiated",), least=1, most=8, transforms=True
    ),
    "torch.no_grad": _block("torch.no_grad"),
    "torch.enable_grad": _block("torch.enable_grad"),
    "torch.autocast": _block("torch.autocast"),
}


def structures(words: Vocabulary) -> Mapping[str, Structure]:
    """Those of ``STRUCTURES`` that a vocabulary has: what its own ``STRUCTURES`` names, and none if it has no such."""
    known = getattr(words, "STRUCTURES", ())
    return STRUCTURES if known is STRUCTURES else {name: one for name, one in STRUCTURES.items() if name in known}


@functools.cache
def resolve(operator: str) -> Callable[..., Any]:
    """The function or context manager that such an operator names."""
    import importlib

    module, _, name = operator.rpartition(".")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def check(program: Program, words: Vocabulary) -> None:
    """Whether each operator has the regions that it needs.

    Raises:
        InvalidProgram: which one has others, or none.
    """
    known = structures(words)
    for call in walk(program.calls):
        if (reason := _misfit(call, known.get(call.operator))) is not None:
            raise InvalidProgram(f"{call.operator} {reason}")
    for call in program.around:
        found = known.get(call.operator)
        if found is None or not found.block or len(call.args) > found.most:
            raise InvalidProgram(f"{call.operator} is no block that a program can stand in")


def _misfit(call: Call, found: Structure | None) -> str | None:
    if found is None:
        return f"takes no regions, and is given {len(call.regions)}" if call.regions else None
    wanted = len(found.roles) or 1
    if len(call.regions) != wanted:
        return f"needs {wanted} region{'s' if wanted > 1 else ''}, and is given {len(call.regions)}"
    if not found.least <= len(call.args) <= found.most:
        counts = f"{found.least} to {found.most}" if found.least < found.most else f"{found.most}"
        return f"takes {counts} arguments beside its regions, and is given {len(call.args)}"
    if found.block and len(call.operands()) > len(call.regions[0].captures):
        return "takes no values but those that its block captures"
    if call.form == "tensor":
        return "gives a sequence of results, or none"
    if found.custom and (reason := _misfit_of_custom(call)) is not None:
        return reason
    for number, region in enumerate(call.regions):
        given = found.bound(call, number)
        if given is not None and len(given) != len(region.parameters):
            return f"fills {len(given)} parameters of region {number}, which has {len(region.parameters)}"
    if found.transforms and len(call.args) != len(call.regions[0].parameters):
        return f"calls a function of {len(call.regions[0].parameters)} parameters with {len(call.args)} arguments"
    if call.operator == "torch.func.grad" and len(call.results) != 1:
        return f"gives the gradient by its first argument, and has {len(call.results)} results"
    if "condition" in found.roles and len(call.regions[0].returns) != 1:
        return f"asks for one value of its condition, which returns {len(call.regions[0].returns)}"
    if found.block and len(call.regions[0].returns) != len(call.results):
        return f"returns {len(call.regions[0].returns)} values from its block as {len(call.results)} results"
    return None


def _misfit_of_custom(call: Call) -> str | None:
    region, operands, places = call.regions[0], call.args[0], call.args[1] if len(call.args) > 1 else ()
    if any(one.captures for one in call.regions):
        return "is defined outside of the program, and can capture nothing of it"
    if call.kwargs:
        return "takes no keyword arguments"
    if not isinstance(operands, tuple) or not all(isinstance(one, Ref) for one in _tensors(operands)):
        return "takes a tuple of tensors, or of tuples of them"
    if not isinstance(places, tuple) or not all(type(one) is int and 0 <= one < len(operands) for one in places):
        does = "gives gradients" if len(call.regions) > 1 else "writes"
        return f"says to which of its {len(operands)} operands it {does} by their places"
    if len(region.returns) != len(call.results):
        return f"returns {len(region.returns)} values from its body as {len(call.results)} results"
    if len(call.regions) > 1:
        backward, given = call.regions[1], len(operands) + 2 * len(call.results)
        if not call.results or not all(isinstance(one, Ref) for one in operands):
            return "has a backward pass, so it takes single tensors and gives some"
        if (len(backward.parameters), len(backward.returns)) != (given, len(places)) or len(set(places)) < len(places):
            return f"gives {len(places)} gradients, from {given} values that its backward pass is given"
    return None


# --- meaning ----------------------------------------------------------------------------------------------------------


def run(call: Call, values: Sequence[Any], value: Value, inside: Callable[[int, list[Any]], list[Any]]) -> list[Any]:
    """The results of a call with regions, as the operator defines them; its operands may not be written to by loops.

    Args:
        call: what to run.
        values: that exist where it stands, by number.
        value: turns an argument into what Python passes.
        inside: runs the region of that number on its parameters and captures, and gives what it returns.
    """
    found = STRUCTURES[call.operator]

    def function(number: int) -> Callable[..., list[Any]]:
        captured = [values[one] for one in call.regions[number].captures]
        return lambda *parameters: inside(number, [*parameters, *captured])

    functions = [function(number) for number in range(len(call.regions))]
    args = [value(arg, values) for arg in call.args]
    kwargs = {key: value(arg, values) for key, arg in call.kwargs}
    return list(found.meaning(functions, *args, **kwargs))


def stepwise(call: Call, values: Sequence[Any], value: Value, step: Step) -> list[Any]:
    """The same with each call inside run by ``step``."""

    def inside(number: int, given: list[Any]) -> list[Any]:
        region = call.regions[number]
        for inner in region.calls:
            given.extend(step(inner, given))
        return [given[one] for one in region.returns]

    return run(call, values, value, inside)


@contextlib.contextmanager
def within(program: Program, value: Value) -> Iterator[None]:
    """The blocks around a program as one context manager."""
    with contextlib.ExitStack() as stack:
        for call in program.around:
            args = [value(arg, ()) for arg in call.args]
            stack.enter_context(resolve(call.operator)(*args, **{key: value(arg, ()) for key, arg in call.kwargs}))
        yield

"""What the reference refuses and takes while a program grows, as traces."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from shakeout.corpus.program import Arg, Program, TensorType, renumbered
from shakeout.generators.rules.trace import Trace

__all__ = ["MOST_REFUSED", "observed_call", "taken", "template"]

#: Refused calls that are told of one program.
MOST_REFUSED = 4
SOURCE = "campaign"
#: Characters of an error's template.
_LONGEST = 160


def observed_call(
    operator: str,
    args: tuple[Arg, ...],
    kwargs: tuple[tuple[str, Arg], ...],
    operands: Sequence[int],
    types: Mapping[int, TensorType],
    *,
    error: str,
) -> Trace:
    """A refused call of a program as a trace, whose operands are numbered from 0.

    Args:
        operator: what was called.
        args: positional arguments, with ``Ref`` to values of the program.
        kwargs: keyword arguments.
        operands: the values that it uses.
        types: of those values.
        error: template of the message.
    """
    places = {number: place for place, number in enumerate(dict.fromkeys(operands))}
    return Trace(
        operator,
        tuple(renumbered(arg, places) for arg in args),
        tuple(sorted((key, renumbered(arg, places)) for key, arg in kwargs)),
        tuple(types[number] for number in places),
        error=error,
        source=SOURCE,
    )


def taken(program: Program) -> list[Trace]:
    """Every call of a program as a trace; a result of which nothing is defined has no type there.

    One with regions is none: its regions are no arguments that a rule could be about.
    """
    types = program.types()
    found = []
    for call in program.calls:
        if call.regions:
            continue
        places = {number: place for place, number in enumerate(dict.fromkeys(call.operands()))}
        operands = [type_ for number in places if (type_ := types[number]) is not None]
        found.append(
            Trace(
                call.operator,
                tuple(renumbered(arg, places) for arg in call.args),
                tuple((key, renumbered(arg, places)) for key, arg in call.kwargs),
                tuple(operands),
                call.results,
                call.form,
                source=SOURCE,
            )
        )
    return found


def template(error: BaseException) -> str:
    """An error's class and the first line of its message, with every number replaced."""
    lines = str(error).strip().splitlines()
    text = re.sub(r"-?\d+(\.\d+)?", "#", lines[0]) if lines else ""
    return f"{type(error).__name__}: {text}"[:_LONGEST]

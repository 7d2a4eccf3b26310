"""What a recorded call becomes: shapes for its operands, its arguments, and one of them changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from shakeout.corpus.program import Arg, Name, Ref, rebuilt, reference
from shakeout.corpus.vocabularies import kernel as words
from shakeout.corpus.vocabularies.operator import identify
from shakeout.generators.calls import Rejected
from shakeout.generators.choices import Choices
from shakeout.generators.growth_config import LARGE, LATTICE, MAX_ELEMENTS, MIXED, GrowthConfig
from shakeout.generators.numbers import Reach, python_number
from shakeout.generators.values import DTYPES
from shakeout.generators.vocabularies.records import Record

__all__ = ["bound", "mutated", "shapes"]


def shapes(
    record: Record, choices: Choices, config: GrowthConfig, focus: tuple[tuple[int, ...], int] | None
) -> list[tuple[int, ...]]:
    """A shape for each slot.

    Args:
        record: the call.
        choices: decides.
        config: how often sizes are other ones than were recorded.
        focus: a shape and the slot that has it.

    Raises:
        Rejected: that slot takes no such shape.
    """
    slots = record.slots
    if focus is None:
        if record.ranks and choices.boolean(config.resize):
            rank = choices.pick([r for r in range(6) if record.ranks >> r & 1])
            shape = tuple(
                0 if choices.boolean(config.zero) else choices.pick(LATTICE[: 17 if rank < 3 else 6])
                for _ in range(rank)
            )
            if config.large and rank:
                shape = (*(min(size, 2) for size in shape[:-1]), choices.pick(LARGE))
            if math.prod(shape) > MAX_ELEMENTS and not config.large:
                shape = tuple(min(size, 9) for size in shape)
            return _broadcast(record, choices, [shape] * len(slots), -1)
        sizes = _sizes(record, choices, config)
        return [tuple([sizes[c] for c in slot.classes]) for slot in slots]
    shape, place = focus
    if record.ranks >> len(shape) & 1:
        return _broadcast(record, choices, [shape] * len(slots), place)
    sizes = list(record.sizes)
    fixed: set[int] = set()
    for number, size in zip(slots[place].classes, shape, strict=True):
        if sizes[number] != size:
            if number in fixed or not record.free[number]:
                raise Rejected("sizes do not fit")
            sizes[number] = size
        fixed.add(number)
    return [tuple([sizes[c] for c in slot.classes]) for slot in slots]


def _sizes(record: Record, choices: Choices, config: GrowthConfig) -> list[int]:
    """A size for each class: recorded, or another where that is free."""
    sizes = list(record.sizes)
    changed = False
    for number, free in enumerate(record.free):
        if free and choices.boolean(config.resize):
            sizes[number] = 0 if choices.boolean(config.zero) else choices.pick(LATTICE)
            changed = True
    if config.large and any(record.free):
        number = choices.pick([i for i, free in enumerate(record.free) if free])
        for other, free in enumerate(record.free):
            if free:
                sizes[other] = min(sizes[other], 3)
        sizes[number] = choices.pick(LARGE)
    elif changed:
        # Keep the largest operand small: shrink what was drawn large, largest first.
        for slot in record.slots:
            while math.prod(sizes[c] for c in slot.classes) > MAX_ELEMENTS:
                sizes[max((c for c in slot.classes), key=lambda c: sizes[c])] //= 4
    return sizes


def _broadcast(record: Record, choices: Choices, shapes: list[tuple[int, ...]], keep: int) -> list[tuple[int, ...]]:
    """Make some operands smaller, where the record allows it."""
    if not record.broadcasts:
        return shapes
    for number in range(0 if record.broadcasts & 2 and not record.mutates else 1, len(shapes)):
        if number == keep or not choices.boolean(0.3):
            continue
        shape = shapes[number]
        shape = shape[choices.integer(0, len(shape)) :]
        shapes[number] = tuple(1 if choices.boolean(0.3) else size for size in shape)
    return shapes


def bound(
    record: Record, numbers: Sequence[int], scalars: Mapping[int, bool | int | float]
) -> tuple[tuple[Arg, ...], tuple[tuple[str, Arg], ...]]:
    """The record's arguments with its slots replaced by values."""

    def bind(arg: Arg) -> Arg:
        if type(arg) is not Ref:
            return arg
        place = arg.index
        return scalars[place] if place in scalars else reference(numbers[place])

    args = tuple([rebuilt(arg, bind) for arg in record.args])
    return args, tuple([(key, rebuilt(value, bind)) for key, value in record.kwargs])


#: Operators that take a number for all dimensions, or one for each, as many as their name says.
_BY_DIMENSION = ("pool2d", "pool3d", "conv2d", "conv3d", "transpose2d", "transpose3d", "unfold", "fold", "interpolate")


def _dimensions(operator: str) -> int:
    """How many numbers may stand in the place of one; 0 where that is not known."""
    name = operator.rpartition(".")[2]
    return (3 if name.endswith("3d") else 2) if name.endswith(_BY_DIMENSION) else 0


def mutated(
    choices: Choices,
    operator: str,
    args: tuple[Arg, ...],
    kwargs: tuple[tuple[str, Arg], ...],
    reach: Reach = "plain",
) -> tuple[tuple[Arg, ...], tuple[tuple[str, Arg], ...]]:
    """The same arguments with one attribute changed; ``reach`` says how far Python numbers go."""
    functional = identify(words.meaning(operator)).namespace == "torch.nn.functional"
    paths: list[tuple[tuple[int | str, ...], Arg]] = []

    def walk(arg: Arg, path: tuple[int | str, ...]) -> None:
        if isinstance(arg, tuple):
            for position, item in enumerate(arg):
                walk(item, (*path, position))
        elif isinstance(arg, bool):
            # Among the positional flags of functionals is inplace, which would write unannounced.
            if not functional or path[0] == "":
                paths.append((path, arg))
        elif isinstance(arg, int | float) or (isinstance(arg, Name) and arg.name.removeprefix("torch.") in DTYPES):
            paths.append((path, arg))

    for position, arg in enumerate(args):
        walk(arg, (position,))
    for key, value in kwargs:
        if key not in ("inplace", "sorted", "training", "train"):
            walk(value, ("", key))
    if not paths:
        return args, kwargs
    path, old = choices.pick(paths)
    new: Arg
    if isinstance(old, bool):
        new = not old
    elif isinstance(old, int | float) and (wide := _dimensions(operator)) > 1 and choices.boolean(0.3):
        new = tuple([old + choices.integer(-1, 2) for _ in range(wide)])
    elif isinstance(old, int):
        new = choices.pick((old + 1, old - 1, 0, 1, -1, 2, -old, 3))
    elif isinstance(old, float):
        near = (0.0, 1.0, -1.0, 0.5, 2.0, -0.0, old * 2, -old)
        new = choices.pick(near) if reach == "plain" or choices.boolean(0.4) else float(python_number(choices, reach))
    else:
        new = Name(f"torch.{choices.pick(MIXED)}")

    def put(arg: Arg, rest: tuple[int | str, ...]) -> Arg:
        if not rest:
            return new
        assert isinstance(arg, tuple)
        assert isinstance(rest[0], int)
        return (*arg[: rest[0]], put(arg[rest[0]], rest[1:]), *arg[rest[0] + 1 :])

    if path[0] == "":
        return args, tuple((key, put(value, path[2:]) if key == path[1] else value) for key, value in kwargs)
    result = put(args, path)
    assert isinstance(result, tuple)
    return result, kwargs

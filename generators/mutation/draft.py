"""A case on its way to another one: how its inputs are given, which calls are run again, and what is done between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from shakeout.corpus.case import Case, InputSet, contiguous
from shakeout.corpus.vocabularies.kernel import written
from shakeout.generators.growth_config import MAX_ELEMENTS
from shakeout.generators.values import Given, row_major

if TYPE_CHECKING:
    from shakeout.generators.mutation.following import Follower

__all__ = ["Action", "Draft", "draft", "givens", "overwritten"]

#: Something done while the program is run again; whether it added what it was to add.
Action: TypeAlias = "Callable[[Follower], bool]"


@dataclass(slots=True)
class Draft:
    """What is going to be run. Mutators change it; nothing of it has been run.

    Attributes:
        case: the parent.
        partner: another case, of which parts may be taken; None if there is none.
        given: the parent's inputs, as they will be given.
        actions: in order; at first one for each call of the parent, which runs it again.
        training: whether gradients are asked for.
        special: NaN and infinities are wanted.
        sizes: of sizes that were changed, from what they were to what they are.
        dtypes: the same of dtypes.
        stands: for a result of the parent, another value of the parent that takes its place.
    """

    case: Case
    partner: Case | None
    given: list[Given]
    actions: list[Action]
    training: bool
    special: bool
    sizes: dict[int, int] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    stands: dict[int, int] = field(default_factory=dict)

    @property
    def large(self) -> bool:
        """Whether it has inputs beyond the usual sizes."""
        return any(math.prod(given.shape) > MAX_ELEMENTS for given in self.given)


def draft(case: Case, partner: Case | None) -> Draft:
    """A case as it is, to be run again without any change."""
    actions: list[Action] = [_again(position) for position in range(len(case.program.calls))]
    special = any(
        storage.values.kind == "special" or any(not _finite(item) for item in storage.values.items)
        for storage in case.input_sets[0].storages
    )
    return Draft(case, partner, givens(case), actions, case.setting.mode == "training", special)


def _again(position: int) -> Action:
    return lambda follower: follower.follow(position)


def _finite(item: complex) -> bool:
    return math.isfinite(item.real) and math.isfinite(item.imag)


def givens(case: Case) -> list[Given]:
    """The inputs of a case's first call, each as one that could have been drawn."""
    inputs = case.input_sets[0]
    owners: dict[int, int] = {}
    found = []
    for number, (view, one) in enumerate(zip(inputs.views, case.program.inputs, strict=True)):
        owner = owners.setdefault(view.storage, number)
        storage = inputs.storages[view.storage]
        given = Given(
            view.dtype,
            view.shape,
            None,
            storage.values,
            storage.dtype,
            None if owner == number else owner,
            (view.strides, view.offset),
            one.role == "parameter",
            view.requires_grad,
            storage.size if owner == number else None,
        )
        found.append(_plainly(given, inputs, view.storage))
    return found


def _plainly(given: Given, inputs: InputSet, storage: int) -> Given:
    """The same without a window, where it is all of its storage in row-major order."""
    alone = sum(view.storage == storage for view in inputs.views) == 1
    whole = given.size == math.prod(given.shape) and given.window == (contiguous(given.shape), 0)
    if alone and whole and given.storage_dtype == given.dtype:
        return replace(given, layout=row_major(len(given.shape)), window=None, size=None)
    return given


def overwritten(case: Case) -> set[int]:
    """Numbers of the inputs that a call of the program writes to by their own name."""
    return {number for call in case.program.calls for number in written(call) if number < len(case.program.inputs)}

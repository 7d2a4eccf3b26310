"""What is asked of growth, and what it gives: a recipe, and a program that the reference accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from shakeout.corpus.case import InputSet, Mode
from shakeout.corpus.observation import Observation
from shakeout.corpus.program import Program
from shakeout.generators.rules.trace import Trace

__all__ = ["Grown", "Recipe", "Style", "ValuesKind"]

Style = Literal["small", "network"]
ValuesKind = Literal["integers", "uniform", "special"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is asked for; what is None is drawn.

    Attributes:
        style: ``small`` or ``network``.
        operators: how many.
        mode: ``inference`` or ``training``; a case whose backward pass is rejected becomes inference all the same.
        dynamic: further input sets with other sizes.
        repeat: a further input set with other values.
        values: kind of the inputs.
        index: number of the case; small programs then visit every operator in turn.
        avoid: operators that are left out.
        foreign: dtypes that are left out.
        refused: operators with dtypes of their operands of which no call is proposed.
        writes: whether inputs may be written to.
        overwrites: whether calls may write to what the backward pass needs, which eager refuses.
        only: the operators that are proposed; None for all. Small programs then draw theirs whatever ``index`` is.
    """

    style: Style | None = None
    operators: int | None = None
    mode: Mode | None = None
    dynamic: bool | None = None
    repeat: bool | None = None
    values: ValuesKind | None = None
    index: int | None = None
    avoid: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    refused: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
    writes: bool = True
    overwrites: bool = False
    only: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.operators is not None and not 1 <= self.operators <= 1000:
            raise ValueError(f"a recipe asks for 1 to 1000 operators, not {self.operators}")


@dataclass(frozen=True, slots=True)
class Grown:
    """A program that the reference accepts, with its inputs.

    Attributes:
        program: the program.
        input_sets: its input sets; the first is the one it was grown on.
        mode: ``training`` only if the backward pass ran as well.
        style: how it was grown.
        exact: every input is made of small whole numbers.
        dynamic: the further input sets have other sizes.
        overwrites: calls write to what the backward pass needs; the reference kept copies of that.
        fed: the operators that took another operator's result, once for each call.
        proposed: how many calls were tried.
        rejected: how many of them were dropped, by reason.
        refused: some of those that torch rejected.
        reference: what the reference showed of each call while the program grew; None if that is not what it shows.
    """

    program: Program
    input_sets: tuple[InputSet, ...]
    mode: Mode
    style: Style
    exact: bool
    dynamic: bool
    overwrites: bool
    fed: tuple[str, ...]
    proposed: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[Trace, ...] = ()
    reference: Observation | None = field(default=None, compare=False, repr=False)

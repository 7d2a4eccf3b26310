"""The space of cases as a source of coverage: operators and how they are called, which one feeds which, dtypes,
layouts, what settings vary, and what came of it. Nothing has to be armed, so it is there for every target.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from shakeout.corpus.program import Call, Ref, TensorType, walk
from shakeout.fuzz.coverage.hits import Hits
from shakeout.fuzz.coverage.source import Armed

if TYPE_CHECKING:
    from shakeout.corpus.case import Case
    from shakeout.corpus.program import Arg
    from shakeout.corpus.storage import View

__all__ = ["SpaceSource", "features", "words"]


def features(case: Case, status: str = "") -> frozenset[str]:
    """All of a case's features, each ``KIND:WORD``: ``edges:torch.add > torch.relu``.

    Args:
        case: the case, whether it was run or not.
        status: of its result, if there is one.
    """
    return frozenset(f"{kind}:{word}" for kind, some in words(case, status).items() for word in some)


def words(case: Case, status: str = "") -> Mapping[str, frozenset[str]]:
    """All of a case's features, by kind.

    * ``operators``, and ``variants`` of them: the dtype and rank of each tensor that a call is given, and the kind of
      everything else (``torch.sum(float32 2, dim=int)``);
    * ``edges``: the operator that makes a value and the one that uses it, those within a region among themselves;
    * ``dtypes`` of inputs and results, ``layouts`` of inputs;
    * ``knobs`` with their values, with mode, device and whether sizes vary from call to call, by target;
    * ``statuses``, by target.
    """
    found = _made_of(_Same(case))
    return {**found, "statuses": frozenset([f"{case.setting.target}: {status}"])} if status else found


@dataclass(frozen=True, slots=True)
class _Same:
    """A case by what it is, not by what it says, which would take as long to compare as to tell."""

    case: Case

    def __hash__(self) -> int:
        return id(self.case)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.case is other.case


@functools.lru_cache(1)  # a worker tells a case to its source of coverage, and once more to who decides the next one
def _made_of(one: _Same) -> Mapping[str, frozenset[str]]:
    case = one.case
    program, setting = case.program, case.setting
    calls = list(walk(program.calls))
    return {
        "operators": frozenset(call.operator for call in (*calls, *program.around)),
        "variants": frozenset(_variants(program.calls, program.types())),
        "edges": frozenset(_edges(program.calls, len(program.inputs))),
        "dtypes": frozenset(
            one.dtype
            for one in (*(given.type for given in program.inputs), *(o for call in calls for o in call.results))
            if one is not None
        ),
        "layouts": frozenset(word for inputs in case.input_sets for word in _layouts(inputs.views)),
        "knobs": frozenset(
            f"{setting.target}: {word}"
            for word in (
                *(f"{name}={value}" for name, value in setting.knobs),
                setting.mode,
                f"on {setting.device}",
                *(
                    ["several sizes"]
                    if len({tuple(v.shape for v in inputs.views) for inputs in case.input_sets}) > 1
                    else []
                ),
            )
        ),
    }


def _variants(calls: Sequence[Call], types: Sequence[TensorType | None]) -> Iterator[str]:
    for call in calls:
        given = [_shown(arg, types) for arg in call.args]
        given += [f"{name}={_shown(arg, types)}" for name, arg in call.kwargs]
        yield f"{call.operator}({', '.join(given)})"
        for region in call.regions:
            yield from _variants(region.calls, region.types(types))


def _shown(arg: Arg, types: Sequence[TensorType | None]) -> str:
    """An argument as far as it makes a variant: a program with other numbers in it is the same."""
    match arg:
        case Ref(index):
            one = types[index]
            return "tensor" if one is None else f"{one.dtype} {len(one.shape)}"
        case tuple():
            # Any number of the same is alike.
            return f"({', '.join(dict.fromkeys(_shown(item, types) for item in arg))})"
        case bool() | None:
            return str(arg)
        case str():
            return repr(arg[:40])
        case _ if hasattr(arg, "name"):
            return str(arg.name)
        case _:
            return type(arg).__name__


def _edges(calls: Sequence[Call], inputs: int) -> Iterator[str]:
    makers: list[str] = [""] * inputs
    for call in calls:
        yield from (f"{makers[value]} > {call.operator}" for value in call.operands() if makers[value])
        for region in call.regions:
            # What a region captures was made outside, and what it is given by the operator itself.
            around = [makers[value] for value in region.captures]
            yield from (f"{maker} > {call.operator}" for maker in around if maker)
            yield from _edges(region.calls, len(region.parameters) + len(region.captures))
        makers += [call.operator] * len(call.results)


def _layouts(views: Sequence[View]) -> Iterator[str]:
    if len({view.storage for view in views}) < len(views):
        yield "shared storage"
    for view in views:
        if view.offset:
            yield "offset"
        yield _layout(view)


def _layout(view: View) -> str:
    """In what order a view's elements lie, and whether anything lies between them."""
    if 0 in view.shape:
        return "empty"
    # Dimensions of one element may have any stride.
    given = [(step, size) for step, size in zip(view.strides, view.shape, strict=True) if size > 1]
    ordered = sorted(given, reverse=True)
    # How far each dimension steps beyond what the next inner one covers.
    beyond = [outer - step * size for (outer, _), (step, size) in pairwise([*ordered, (1, 1)])]
    if any(step == 0 for step, _ in given):
        return "expanded"
    if any(one < 0 for one in beyond):
        return "overlapping"
    if any(beyond):
        return "strided"
    if given == ordered:
        return "row-major" if view.shape else "scalar"
    return "channels last" if len(view.shape) in (4, 5) and view.strides[1] == 1 else "permuted"


class SpaceSource:
    """Tells what the cases of one process are made of."""

    name = "space"

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()
        self._fresh: set[tuple[str, str]] = set()
        self._armed = False

    def arm(self) -> tuple[Armed, ...]:
        """Nothing has to be."""
        told = () if self._armed else (Armed("operators, edges, dtypes, layouts and knobs of the cases"),)
        self._armed = True
        return told

    def begin(self, case: Case) -> None:
        """Nothing: all is told at the end."""

    def end(self, case: Case, status: str) -> None:
        """Note what the case is made of, and what came of it; one that was avoided was not run."""
        if status == "avoided":
            return
        every = {(kind, word) for kind, some in words(case, status).items() for word in some}
        self._fresh |= every - self._known
        self._known |= every

    def take(self) -> tuple[Hits, ...]:
        """What no case of this process had, nor one that the campaign knew when it was forked."""
        kinds: dict[str, list[str]] = {}
        for kind, word in sorted(self._fresh):
            kinds.setdefault(kind, []).append(word)
        self._fresh.clear()
        return tuple(Hits(self.name, "", "", kind, tuple(some)) for kind, some in kinds.items())

    def rearm(self, keys: Collection[int]) -> frozenset[int]:
        """None: what was told is not told again."""
        return frozenset()

    def look_closer(self, seconds: float) -> None:
        """Nothing."""

    def before_fork(self, known: Sequence[Hits]) -> None:
        """What the campaign has seen is not told again."""
        self._fresh.clear()
        for hits in known:
            if hits.source == self.name:
                self._known.update((hits.kind, str(word)) for word in hits.keys)

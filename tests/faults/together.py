"""Several faults at once in one compiler, as it has several bugs: what whole campaigns are measured with.

``planted`` (``tests.faults.fault``) plants one fault and runs everything twice, so that its canary sees whether the
fault changed anything. Here faults only have their effect, and a canary counts how often the code of each was reached.
Those of one set never replace the same operator, because what a smallest program shows would then be any of them.

Each process that finds the folder ``planting`` on its path plants the faults that ``SHAKEOUT_PLANTED`` names, by number
in ``FAULTS``, as soon as torch is loaded: workers of a campaign, and the scripts that it runs in fresh processes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from tests.faults import FAULTS, Canary, Fault
from tests.faults.graphs import Graph, Site
from tests.faults.inductor import Compiled, uncached
from tests.faults.onnxruntime import Model
from tests.faults.tvm import Relax

__all__ = ["PLANTED", "PLANTING", "environment", "plant", "sets", "together"]

#: The environment variable with the numbers of the faults that a process plants.
PLANTED = "SHAKEOUT_PLANTED"

#: The folder whose ``sitecustomize`` plants them.
PLANTING = Path(__file__).parent / "planting"

#: Faults of one set at most: a campaign of some minutes has to have a chance to meet each of them.
MOST = 12

#: Faults with which a campaign would not use the target: it gets the control wrong (``shakeout.fuzz.campaign.sanity``).
REFUSED = ("strides of a result are not those of eager",)

#: Faults that are not reached beside others, whose case fails for another one of the set.
HIDDEN = (
    "a loop ends one element early",
    "the last vector is stored one lane short",
)

Canaries = Mapping[str, Canary]


def sets(target: str) -> list[tuple[Fault, ...]]:
    """The faults of a target that can be planted beside others, in sets in which no two replace one operator."""
    found: list[list[Fault]] = []
    for fault in FAULTS:
        if fault.target != target or fault.missed or fault.name in (*REFUSED, *HIDDEN):
            continue
        if not isinstance(fault.plant, Graph | Compiled | Model | Relax):
            continue
        free = (one for one in found if len(one) < MOST and not any(_clash(fault, other) for other in one))
        place = next(free, None)
        if place is None:
            found.append(place := [])
        place.append(fault)
    return [tuple(one) for one in found]


def _clash(one: Fault, other: Fault) -> bool:
    """Whether two faults would replace one operator; those that patch a compiler in other ways do not meet."""
    if not isinstance(one.plant, Graph) or not isinstance(other.plant, Graph):
        return False
    return not {_packet(o) for o in one.plant.operators}.isdisjoint(_packet(o) for o in other.plant.operators)


def _packet(operator: Any) -> Any:
    return getattr(operator, "overloadpacket", operator)


@contextlib.contextmanager
def together(faults: Sequence[Fault]) -> Iterator[Canaries]:
    """Plant faults of one target; the canaries by name."""
    canaries = {fault.name: Canary() for fault in faults}
    plants = [(fault.plant, canaries[fault.name]) for fault in faults]
    kinds = {
        Graph: lambda: _graphs([(p, c) for p, c in plants if isinstance(p, Graph)]),
        Compiled: lambda: _compiled([(p, c) for p, c in plants if isinstance(p, Compiled)]),
        Model: lambda: _models([(p, c) for p, c in plants if isinstance(p, Model)]),
        Relax: lambda: _modules([(p, c) for p, c in plants if isinstance(p, Relax)]),
    }
    with contextlib.ExitStack() as stack:
        for kind, planted in kinds.items():
            if any(isinstance(one, kind) for one, _ in plants):
                stack.enter_context(planted())
        yield canaries


@contextlib.contextmanager
def _graphs(plants: Sequence[tuple[Graph, Canary]]) -> Iterator[None]:
    """One fault that is at each call the one that is made for it."""

    def wrong(site: Site, op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for number, (graph, canary) in enumerate(plants):
            own = replace(site, memory=site.memory.setdefault(number, {}))
            if not graph.at(site.node) or not graph.when(own, args):
                continue
            # A fault that is not made for these arguments is none.
            with contextlib.suppress(Exception):
                found = graph.wrong(own, op, args, kwargs)
                canary.reached += 1
                return found
        return op(*args, **kwargs)

    (seam,) = {graph.seam for graph, _ in plants}
    every = tuple(operator for graph, _ in plants for operator in graph.operators)
    with Graph(every, wrong, seam=seam).planted(Canary()):
        yield


@contextlib.contextmanager
def _compiled(plants: Sequence[tuple[Compiled, Canary]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(uncached())
        for one, canary in plants:
            stack.enter_context(one.patch(canary))
        yield


@contextlib.contextmanager
def _models(plants: Sequence[tuple[Model, Canary]]) -> Iterator[None]:
    import onnx
    import onnxruntime
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    make = onnxruntime.InferenceSession

    def session(model: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            changed = onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)
        except DecodeError:
            return make(model, *args, **kwargs)  # ONNX Runtime's own format: made of a model that was changed already
        places = 0
        for one, canary in plants:
            found = one.change(changed)
            canary.reached += found
            places += found
        return make(changed.SerializeToString() if places else model, *args, **kwargs)

    with mock.patch.object(onnxruntime, "InferenceSession", session):
        yield


@contextlib.contextmanager
def _modules(plants: Sequence[tuple[Relax, Canary]]) -> Iterator[None]:
    from tvm import relax

    build = relax.build

    def built(module: Any, *args: Any, **kwargs: Any) -> Any:
        for one, canary in plants:
            module, places = one._changed(module)
            canary.reached += places
        return build(module, *args, **kwargs)

    with mock.patch.object(relax, "build", built):
        yield


# --- in every process of a campaign -----------------------------------------------------------------------------------


def environment(faults: Sequence[Fault]) -> dict[str, str]:
    """What a campaign needs in its environment so that the faults are planted in its processes."""
    path = [str(PLANTING), str(PLANTING.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {PLANTED: ",".join(str(FAULTS.index(fault)) for fault in faults), "PYTHONPATH": os.pathsep.join(path)}


def plant() -> None:
    """Plant what the environment names, in this process until it ends."""
    faults = [FAULTS[int(number)] for number in os.environ.get(PLANTED, "").split(",") if number]
    _kept.enter_context(together(faults))


_kept = contextlib.ExitStack()

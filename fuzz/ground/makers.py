"""Makers: what loads the pieces that jobs need before workers are forked, and what grows cases in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from shakeout.corpus.case import Case, Setting
from shakeout.corpus.observation import Observation
from shakeout.fuzz.ground.jobs import Make

__all__ = ["GROWER", "INSTRUMENTING", "MODEL_GROWER", "RUNS_ONLY", "Made", "Maker", "RunsOnly", "maker"]

#: The maker of campaigns, and that of workers which are given their cases.
GROWER = "shakeout.fuzz.running.compose:Grower"
#: The same where all targets take ONNX models: nothing is loaded of torch's operators.
MODEL_GROWER = "shakeout.fuzz.running.compose:ModelGrower"
RUNS_ONLY = "shakeout.fuzz.ground.makers:RunsOnly"

#: The maker of campaigns whose cases an engine of others decides; modules that are instrumented stand behind it.
INSTRUMENTING = "shakeout.fuzz.engines.instrumented:Instrumenting"


@dataclass(frozen=True, slots=True)
class Made:
    """A case, and what its making showed.

    Attributes:
        case: the case.
        further: settings under which the same program is tried as well.
        fed: operators that took another operator's result.
        proposed: calls that were tried.
        rejected: how many of them were dropped, by reason.
        traces: rows of calls that the reference refused, and of one program in so many those that it took.
        reference: what the reference showed meanwhile.
        mutators: that made it of another case, in order.
    """

    case: Case
    further: tuple[Setting, ...] = ()
    fed: tuple[str, ...] = ()
    proposed: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    traces: tuple[Any, ...] = ()
    reference: Observation | None = None
    mutators: tuple[str, ...] = ()


class Maker(Protocol):
    """What a pool's workers need beside the targets; there is one in the zygote and one in each worker."""

    def begin(self) -> None:
        """Start, in processes of their own, what takes long; while the targets are warmed."""

    def prepare(self, say: Callable[[str], None]) -> None:
        """Load what jobs need; once, in the zygote, before any fork.

        Args:
            say: told what takes its time.
        """

    def load_all(self) -> None:
        """Load what jobs come to need in the end; in the zygote, before a worker is forked for one that has ended."""

    def compose(self, job: Make, before_call: Callable[[str], None] | None = None) -> Made:
        """The case of a job; the same job on the same versions gives the same case.

        Args:
            job: what is wanted.
            before_call: told of each call of an operator before it runs.
        """


class RunsOnly:
    """Of workers that are given their cases, and grow none."""

    def begin(self) -> None:
        """Nothing takes long."""

    def prepare(self, say: Callable[[str], None]) -> None:
        """Load what replays inputs and validates candidates."""
        import shakeout.generators.inputsets  # noqa: F401

    def load_all(self) -> None:
        """That was all."""

    def compose(self, job: Make, before_call: Callable[[str], None] | None = None) -> Made:
        """No case is grown here."""
        raise TypeError("these workers run cases, and grow none")


def maker(name: str) -> Maker:
    """The maker of a name, ``MODULE:CLASS``: a name crosses processes, what it loads does not.

    What the class is to be told stands behind it, with commas between: ``MODULE:CLASS:tvm.relax,tvm.tir``.
    """
    module, _, rest = name.partition(":")
    kind, _, told = rest.partition(":")
    found: Maker = getattr(import_module(module), kind)(*filter(None, told.split(",")))
    return found

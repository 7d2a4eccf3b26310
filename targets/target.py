"""What a target is: a thing under test, and all that is known of it, in one place.

A target is told in source text: ``source(setting)`` defines ``prepare(function)``, which compiles or wraps the
network, and ``declined(error)``, which says whether an exception means "not supported" rather than "broken". The
worker executes that text and the report prints it, so both run the same thing.

What else there is to know of it are its ``facts``: how often its turn comes, whose form a report takes, how it is taken
apart. Nobody else in Shakeout knows a target by its name, so one of another package has all that ours have.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shakeout.corpus.case import REFUSALS, Case, KnobSpace, Mode, Promise, Scalar, Setting
from shakeout.targets.packages import module_available

if TYPE_CHECKING:
    import torch

__all__ = [
    "LIBTORCH",
    "Facts",
    "Gate",
    "Hook",
    "Ladder",
    "Levels",
    "Part",
    "Short",
    "Target",
    "Tell",
    "UnknownKnob",
    "UnknownTarget",
    "Witness",
    "check_knobs",
    "module_available",
]


class UnknownKnob(ValueError):
    """A setting varies what its target does not let it vary; the message says what it may."""


class UnknownTarget(ValueError):
    """A name under which no target is registered; the message lists those there are."""


# --- how it is taken apart --------------------------------------------------------------------------------------------


class Gate(Protocol):
    """Decides which of the things of one kind a compiler may do, and counts them; it comes from ``shakeout bisect``."""

    def begin(self) -> None:
        """The program is compiled anew: what was counted and decided is forgotten."""

    def __call__(self, name: str, key: Any = None) -> bool:
        """Whether the compiler may do this one.

        Args:
            name: what a person calls it (``aten.add (add_1)``).
            key: what comes again under the same key is decided as before, and not counted; None for each anew.
        """


class Hook(Protocol):
    """Has a compiler of this process ask a gate about each thing of one kind, as long as the context is open."""

    def __call__(self, gate: Gate, /) -> AbstractContextManager[Any]:
        """The context."""


class Tell(Protocol):
    """Is told what a compiler did."""

    def __call__(self, kind: str, word: str, happened: bool = True, /) -> None:
        """One thing.

        Args:
            kind: of thing, in the plural (``patterns``).
            word: what a person calls it.
            happened: False if it only could have.
        """


class Witness(Protocol):
    """Has a compiler of this process tell what it does, until the process ends. It changes nothing of that."""

    def __call__(self, tell: Tell, /) -> Callable[[], None] | None:
        """What is called after each case, to tell what is only known then; None if that is nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """The things of one kind that a compiler can do without, one by one: passes, patterns, lowerings.

    Attributes:
        kind: its name among the target's parts (``patterns``).
        label: what a person calls a single one (``pattern``).
        hook: the ``Hook`` as ``MODULE:NAME``, imported where it is used.
        finer: whether it is asked even if a part before it is to blame already: it tells more of the same. Others are
            asked only as long as none was found.
    """

    kind: str
    label: str
    hook: str
    finer: bool = False


@dataclass(frozen=True, slots=True)
class Levels:
    """A knob by whose values, from the least on, a target does ever more.

    Attributes:
        knob: its name.
        values: from the least on; the last is the knob's default, if a setting leaves it alone.
        label: what the first value with which a case fails is called as a culprit; empty if it is none by itself.
        off: what is said of a case that fails at the least value, which has nothing left that could be to blame; empty
            if the parts are asked all the same.
    """

    knob: str
    values: tuple[Scalar, ...]
    label: str = ""
    off: str = ""


@dataclass(frozen=True, slots=True)
class Ladder:
    """How a target is taken apart by ``shakeout bisect``, from what is coarse to what is fine.

    Attributes:
        below: other targets that do less of the same, from the least on; the first with which it fails is the stage,
            and its parts are asked.
        levels: the knob that turns its optimisation off.
        parts: what it can do without, in the order in which it is asked.
        raising: what it raises at, asked where no part is to blame for an exception; None if nothing can tell.
        single: the knob that leaves out a single one of them; empty if there is none.
        otherwise: what is said where no part is to blame; empty for nothing.
    """

    below: tuple[str, ...] = ()
    levels: Levels | None = None
    parts: tuple[Part, ...] = ()
    raising: Part | None = None
    single: str = ""
    otherwise: str = ""


# --- what is known of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Short:
    """How a target is called in the script of a report: as its users call it, and nothing around it.

    Attributes:
        prepare: source of ``prepare(network)``, which gives what is called in the network's place.
        imports: lines of import that it needs beside torch.
        harness: what of it a user would not write, by the name that a reader knows it by: the settings under which
            every case runs here, so that a machine's cores and the like decide nothing. Each is a piece of ``prepare``
            that can be left out.
    """

    prepare: str
    imports: tuple[str, ...] = ()
    harness: Mapping[str, str] = field(default_factory=dict)

    def without(self, names: Collection[str]) -> Short:
        """The same without some of what a user would not write."""
        prepare = self.prepare
        for name in names:
            prepare = prepare.replace(self.harness[name], "", 1)
        return replace(self, prepare=prepare)


#: What PyTorch's operators, its autograd and the native half of Dynamo are implemented in.
LIBTORCH = ("libtorch_cpu.so", "libtorch_python.so")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a target beside what it does; each default is right for a target that says nothing.

    Attributes:
        summary: one line for listings.
        vocabulary: of the programs that it takes.
        promises: what it promises beside equal meaning.
        packages: distributions beside torch that make up what is tested, the product itself last; reports name their
            versions, and the releases of the last are bisected.
        called: what a sentence calls it, where its name is no word that people know; its name if empty.
        owner: the project that reads reports of it, in whose form they are written if it has one here (``pytorch``).
        compiler: it compiles whole networks: a campaign tests it if nobody says what, and it has to get two small
            networks right before a campaign uses it.
        hidden: it is not for campaigns, and stands in no list.
        turns: how often it comes in one round of a campaign's targets. A compiler takes ten times as long as graph
            capture alone; with one turn to two, it still gets most of the time, and the quick ones many of the cases.
        settings: that are tried on one program, where preparing the program costs more than a setting.
        slow: warming it takes long, and leaves files that every later process uses; it is warmed last.
        accelerator: it may use an accelerator although no tensor of a case is on one. So may whatever nobody knows
            better: then no process is forked from one that may have used it.
        shortcuts: of ``shakeout.targets.shortcuts``, those that make many compilations of it faster.
        foreign: dtypes that it hardly takes in any operator; the generator leans away from them.
        support: directory of ``NAME.json``, which ``shakeout operators --target NAME --write`` has written: operators
            of which it takes no call are drawn less often. None for Shakeout's own directory.
        mode: how cases are made for it, if nobody asks for something else.
        regions: it takes what has regions: blocks that turn gradient mode or autocast, branches, custom operators.
        ladder: how it is taken apart; None if there is nothing that could be left out.
        behind: stages that come after the model which the product itself is given: what goes wrong in one of them can
            be shown with that model alone (``Target.model``).
        libraries: names of shared libraries in which it is implemented, or patterns of them (``libtvm*.so``): a
            campaign watches which of their functions and basic blocks its cases reach.
        modules: names of Python packages or modules in which it is implemented (``torch._inductor``): a campaign
            watches which of their lines its cases reach.
        witness: the ``Witness`` of what it decides, its passes and patterns, as ``MODULE:NAME``; empty if it has none.
        instrumented: modules of Python in which its work is decided: a fuzzing engine that needs instrumented code has
            it in them and in those below them. ``-MODULE`` leaves one out.
    """

    summary: str = ""
    vocabulary: str = "torch"
    promises: frozenset[Promise] = frozenset()
    packages: tuple[str, ...] = ()
    called: str = ""
    owner: str = ""
    compiler: bool = False
    hidden: bool = False
    turns: int = 2
    settings: int = 1
    slow: bool = False
    accelerator: bool = True
    shortcuts: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    support: Path | None = None
    mode: Mode | None = None
    regions: bool = False
    ladder: Ladder | None = None
    behind: frozenset[str] = frozenset()
    libraries: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    witness: str = ""
    instrumented: tuple[str, ...] = ()

    @property
    def product(self) -> str:
        """The distribution whose releases are bisected."""
        return self.packages[-1] if self.packages else "torch"


class Target(abc.ABC):
    """A thing under test; who writes one says what it has, and inherits the rest.

    Nothing heavy is imported before ``warm`` or ``source``, so that listing targets is quick and the supervisor of a
    campaign, which asks for facts only, imports no compiler.

    Attributes:
        name: the name on the command line, under which it is registered.
        facts: what is known of it.
    """

    __slots__ = ()

    name: str
    facts: Facts

    def knobs(self) -> KnobSpace:
        """What a setting may vary here, defaults first."""
        return ()

    def unavailable(self) -> str | None:
        """Why it cannot run here, with the line that installs what is missing; None if it can."""
        return None

    def warm(self) -> None:
        """Load and run the thing once, so that the first case costs what the next one does."""
        from shakeout.targets.printed import run_once

        run_once(self.source(Setting(self.name)))

    def warm_with(self, shortcuts: Collection[str], door: int) -> None:
        """Warm it in a process from which workers are forked, with what makes many compilations faster.

        Args:
            shortcuts: names in ``shakeout.targets.shortcuts`` that are wanted.
            door: descriptor of the socket of the server that compiles jointly; -1 for none.
        """
        self.warm()

    def patterns(self) -> Sequence[Case]:
        """Programs that it is for: networks are mostly grown around one of them; none for any network."""
        return ()

    @abc.abstractmethod
    def source(self, setting: Setting) -> str:
        """Source text of ``prepare(function)`` and ``declined(error)`` under a setting."""

    def short(self, setting: Setting) -> Short | None:
        """How its users call it under a setting; None where that takes more than a few lines."""
        return None

    def model(
        self, setting: Setting, kept: Mapping[str, Any], given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]
    ) -> str | None:
        """A script of the model that the product itself is given, without what made it; None where there is none.

        Like the short script it exits 0 (no difference) or 1.

        Args:
            setting: under which the program was prepared.
            kept: what the target's source left in ``KEPT``.
            given: what the program is called with.
            expected: what it returns on the reference.
        """
        return None


def check_knobs(subject: Target, setting: Setting) -> None:
    """Raise UnknownKnob unless a setting gives knobs of the target values that the target declares.

    A setting may come from anybody, and what it says is printed into the text that prepares a program, or handed to a
    compiler, of which some switches name commands to run and files to write.
    """
    if not setting.knobs:
        return
    space = {REFUSALS: (False, True), **{knob.name: knob.values for knob in subject.knobs()}}
    for name, value in setting.knobs:
        if name not in space:
            raise UnknownKnob(f"{subject.name} has no knob {name!r} here (see: shakeout targets --knobs)")
        if not any(type(value) is type(one) and value == one for one in space[name]):
            wanted = ", ".join(map(str, space[name]))
            raise UnknownKnob(f"{subject.name}: the knob {name} takes {wanted}; found {value!r:.80}")

"""What operators mean: how each vocabulary resolves, evaluates and prints them, and what it knows of them.

``Vocabulary`` is the protocol, ``vocabulary`` finds one by its name, ``owner`` the one that an operator is of.
``torch`` is PyTorch's functions and methods, ``kernel`` has a user's kernels beside them, ``onnx`` is the ONNX operator
set. Values are torch tensors in every vocabulary: that is what oracles compare.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from shakeout.corpus.program import Arg, Call, InvalidProgram, Program
from shakeout.corpus.vocabularies.traits import Traits

if TYPE_CHECKING:
    from shakeout.corpus.vocabularies import kernel, onnx, torch

__all__ = ["MEMBERS", "Modelled", "Vocabulary", "modelled", "owner", "vocabulary"]

_BUILT_IN = {
    "torch": "shakeout.corpus.vocabularies.torch",
    "kernel": "shakeout.corpus.vocabularies.kernel",
    "onnx": "shakeout.corpus.vocabularies.onnx",
}


class Vocabulary(Protocol):
    """A set of operators with a reference semantics; a module or an instance that has all of this.

    Importing one must be cheap: it imports the framework whose operators it knows only inside of what runs them.
    A name that is no operator raises a ``ValueError`` where it is resolved, run or printed; traits are told of every
    name. One that also has branches, loops and ``with`` blocks lists their names as ``STRUCTURES``
    (``structured.structures`` asks); without that its programs have no regions.

    Attributes:
        REFERENCE: name of the target that shows what a program means.
        SIMPLEST: elementwise operators that say nothing about what fails, from the simplest, with their numbers of
            operands; a minimiser puts them in the place of others.
    """

    @property
    def REFERENCE(self) -> str: ...  # noqa: D102

    @property
    def SIMPLEST(self) -> Mapping[str, int]: ...  # noqa: D102

    def operators(self) -> Mapping[str, Callable[..., Any]]:
        """Every operator that a generator may propose, by qualified name."""

    def resolve(self, operator: str, /) -> Callable[..., Any]:
        """The function that an operator names."""

    def constants(self) -> Collection[str]:
        """Qualified names of the constants that a case may name, known without loading the framework."""

    def constant(self, name: str, /) -> Any:
        """The constant behind the text of a ``Name`` among arguments; a ``ValueError`` for one that is not allowed.

        It may know more names than ``constants`` tells: those of a newer framework.
        """

    def value(self, arg: Arg, tensors: Sequence[Any], /) -> Any:
        """An argument as the function takes it, given the program's values by number."""

    def call(self, operation: Call, tensors: Sequence[Any], /) -> list[Any]:
        """Run one call on the program's values so far; its results in order."""

    def evaluate(
        self,
        program: Program,
        tensors: Sequence[Any],
        after: Callable[[Call, list[Any]], list[Any]] | None = None,
        run: Callable[[Call, Sequence[Any]], list[Any]] = ...,
    ) -> list[Any]:
        """Interpret a program, call by call; all its values, by number.

        ``after`` sees each call with its results and returns what takes their place; ``run`` runs a call.
        """

    def argument(self, arg: Arg, names: Sequence[str], /) -> str:
        """An argument as Python source; ``names`` are the variables by value number."""

    def expression(self, operation: Call, names: Sequence[str], device: str = "cpu") -> str:
        """A call as Python source."""

    def bindings(self, program: Program, /) -> list[str]:
        """Further parameters of the program's function, with their defaults."""

    def namespace(self, program: Program, /) -> dict[str, Any]:
        """Further names that its source uses."""

    def imports(self, program: Program, /) -> list[str]:
        """Lines that a script of it needs beside ``import torch``."""

    def traits(self, operator: str, /) -> Traits:
        """What is known of an operator; cached, because growing asks for each call."""

    def family(self, operator: str, /) -> str:
        """What functions, methods, in-place forms and synonyms of one operator have in common.

        Identities of bugs are made of it. Like ``written`` it is asked where nothing is run, so it loads nothing.
        """

    def written(self, operation: Call, /) -> tuple[int, ...]:
        """The values that a call writes to."""

    def meaning(self, operator: str, /) -> str:
        """The operator that says what this one means: itself, unless it is somebody's implementation of one."""

    def spelled(self, operator: str, /) -> str | None:
        """A plainer name of the same function, which a reader knows, where there may be one."""

    def wider(self, dtype: str, /) -> str:
        """The dtype that a baseline of higher precision uses in place of this one; itself if none is wider."""

    def widened(self, program: Program, /) -> Program | None:
        """The same program in higher precision; None if it has no such form."""


class Modelled(Vocabulary, Protocol):
    """A vocabulary whose programs are not functions of Python but models that a library of its own builds."""

    def network(self, program: Program, names: Sequence[str], /) -> str:
        """Source of ``bind(tensors)``, which gives the callable, and ``arguments(tensors)``, what it is called with."""

    def model(self, program: Program, names: Sequence[str], /) -> str:
        """The part of it that is the program; without a last newline."""

    def functions(self, program: Program, /) -> Sequence[Callable[..., Any]]:
        """Functions that its source uses, in order; a script has them in it."""


#: What has to be there, whatever its types.
MEMBERS = tuple(name for name in vars(Vocabulary) if not name.startswith("_"))


@functools.cache
def vocabulary(name: str) -> Vocabulary:
    """A vocabulary by its name; third parties register theirs under the entry point ``shakeout.vocabularies``.

    Raises:
        InvalidProgram: there is none of this name, it cannot be loaded, or it is not complete.
    """
    if name in _BUILT_IN:
        return cast(Vocabulary, importlib.import_module(_BUILT_IN[name]))
    from importlib.metadata import entry_points

    for entry in entry_points(group="shakeout.vocabularies", name=name):
        try:
            found = entry.load()
        except (ImportError, AttributeError) as error:
            raise InvalidProgram(f"vocabulary {name!r} ({entry.value}) cannot be loaded: {error}") from error
        if lacking := [member for member in MEMBERS if not hasattr(found, member)]:
            raise InvalidProgram(
                f"vocabulary {name!r} ({entry.value}) lacks {', '.join(lacking)}; "
                f"{__name__}.Vocabulary says what they have to do"
            )
        return cast(Vocabulary, found)
    raise InvalidProgram(f"unknown vocabulary {name!r}; there are {', '.join(_BUILT_IN)}")


def modelled(words: Vocabulary) -> Modelled | None:
    """The vocabulary as one whose programs are models, if they are."""
    return cast(Modelled, words) if hasattr(words, "network") else None


def owner(operator: str) -> Vocabulary:
    """The vocabulary of Shakeout's own in which a qualified name would be an operator."""
    return vocabulary("onnx" if operator.startswith("onnx.") and ":" not in operator else "kernel")


if TYPE_CHECKING:
    _CHECKED: tuple[Vocabulary, ...] = (torch, kernel, onnx)
    _MODELLED: tuple[Modelled, ...] = (onnx,)

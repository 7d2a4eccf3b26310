"""Instruments the Python of named modules, once they are loaded, so that libFuzzer sees which branches a case takes.

Atheris instruments modules while they are imported, and chooses them by their top-level package: all of torch, then.
Here the functions that are there after the imports get their code exchanged, those of the named modules alone; so a
compiler is warmed as ever, and what else belongs to its package costs nothing.
"""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shakeout.fuzz.running.compose import Grower

__all__ = ["Instrumented", "Instrumenting", "instrument"]


@dataclass(frozen=True, slots=True)
class Instrumented:
    """What was instrumented.

    Attributes:
        functions: whose code was exchanged.
        branches: places in them that have a counter each.
    """

    functions: int
    branches: int


def instrument(names: Sequence[str]) -> Instrumented:
    """Instrument all functions of some modules and of those below them, as far as they are loaded.

    A name that begins with ``-`` leaves out a module and those below it. Of what is instrumented twice the second time
    is nothing.
    """
    import atheris

    wanted = tuple(name for name in names if not name.startswith("-"))
    without = tuple(name[1:] for name in names if name.startswith("-"))
    # The modules by their functions' globals: a decorator may have given a function another's name.
    spaces = {
        id(vars(module))
        for name, module in sorted(sys.modules.items())
        if isinstance(module, types.ModuleType) and _within(name, wanted) and not _within(name, without)
    }
    gc.unfreeze()  # what is frozen is not told; whoever forks freezes it again
    functions = [one for one in gc.get_objects() if type(one) is types.FunctionType and id(one.__globals__) in spaces]
    # The collector's order hangs on addresses, and which counter is whose must not.
    functions.sort(key=lambda one: (one.__module__ or "", one.__code__.co_firstlineno, one.__qualname__))
    first = atheris._reserve_counter()
    patched: dict[types.CodeType, types.CodeType] = {}
    for function in functions:
        code = function.__code__
        if code not in patched:
            # Without comparisons of data: libFuzzer uses them to guess bytes, and no byte of a case is guessed.
            patched[code] = atheris.patch_code(code, False)
            patched[patched[code]] = patched[code]
        function.__code__ = patched[code]
    return Instrumented(len(functions), atheris._reserve_counter() - first - 1)


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


class Instrumenting(Grower):
    """Grows cases, and has the compilers' Python instrumented before any worker is forked.

    Args:
        modules: names of those that are instrumented.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    def prepare(self, say: Callable[[str], None]) -> None:
        """Load the operators, and instrument what is loaded by now."""
        super().prepare(say)
        say("instrumenting Python")
        found = instrument(self._modules)
        say(f"instrumented {found.functions:,} functions of Python, with {found.branches:,} branches")

"""Broken variants of the stack's own systems: each is the module with one mistake, and must be found by the fuzzer.

A variant is the text of the module with one passage in the place of another, so the mistake is all that is told, and a
passage that is no longer there is an error. ``planted`` has the module with the mistake be the one that everybody finds:
cases of a campaign run it, beside the right second implementation, which no variant touches.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from shakeout.corpus.user_objects import find
from shakeout.targets.systems import parts

__all__ = ["Broken", "broken", "planted"]


@dataclass(frozen=True, slots=True)
class Broken:
    """One mistake in one system.

    Attributes:
        part: the name of the target that has it.
        mistake: in a few words; unique among those of the part.
        right: the passage, which stands once in the module.
        wrong: what stands in its place.
        module: that is changed; empty for the one that declares the target.
        published: where the mistake was found in published code; empty if it is one that is made everywhere.
        through: modules that have imported from it, in the order in which they are loaded anew to see the mistake.
    """

    part: str
    mistake: str
    right: str
    wrong: str
    module: str = ""
    published: str = ""
    through: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The module that is changed."""
        return self.module or parts()[self.part].target.partition(":")[0]

    def text(self) -> str:
        """The module with the mistake.

        Raises:
            ValueError: the passage does not stand there, or more than once.
        """
        spec = importlib.util.find_spec(self.where)
        assert spec is not None
        assert spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        if (count := text.count(self.right)) != 1:
            raise ValueError(f"{self.part}, {self.mistake}: {self.right!r} stands {count} times in {self.where}")
        return text.replace(self.right, self.wrong)


def broken() -> tuple[Broken, ...]:
    """Every broken variant of every system, from the modules beside this one."""
    found: list[Broken] = []
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        found += importlib.import_module(f"{__name__}.{path.stem}").BROKEN
    return tuple(found)


@contextlib.contextmanager
def planted(variant: Broken) -> Iterator[None]:
    """The module with the mistake in the place of the right one, in this process and those forked from it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_loaded(variant.where, variant.text()))
        for name in variant.through:
            origin = importlib.import_module(name).__file__
            assert origin is not None
            stack.enter_context(_loaded(name, Path(origin).read_text(encoding="utf-8")))
        yield


@contextlib.contextmanager
def _loaded(name: str, text: str) -> Iterator[None]:
    """A module made of a text in the place of the one of its name."""
    right = importlib.import_module(name)
    wrong = ModuleType(name, right.__doc__)
    wrong.__dict__.update(__file__=right.__file__, __package__=right.__package__, __spec__=right.__spec__)
    package, _, last = name.rpartition(".")
    sys.modules[name] = wrong  # what looks itself up while it is loaded finds itself
    try:
        exec(compile(text, str(right.__file__), "exec"), wrong.__dict__)
        setattr(sys.modules[package], last, wrong)
        find.cache_clear()
        yield
    finally:
        sys.modules[name] = right
        setattr(sys.modules[package], last, right)
        find.cache_clear()

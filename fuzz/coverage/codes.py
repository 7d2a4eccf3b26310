"""The functions of watched Python modules: their code objects, however they are wrapped, and whose they are."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from types import CodeType, FunctionType

__all__ = ["Codes"]


class Codes:
    """Finds code objects of modules that are loaded, each once.

    What is decorated, registered in a table or wrapped is a function all the same, which the collector knows; functions
    that others make when they run share the code objects that stand among those' constants. The code of a module itself
    and of classes has run when it is loaded, and is of no interest.

    Args:
        modules: names of packages or modules; what is inside a package counts to it.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self._names = tuple(modules)
        self._within = tuple(f"{name}." for name in modules)
        self._modules = 0
        self._files: dict[str, str] = {}  # of watched modules: the file, and the module's name
        self._seen: set[int] = set()
        self._kept: list[CodeType] = []  # what is not alive any more could share its address with another

    def grown(self) -> bool:
        """Whether watched modules were loaded since the last look; compilers load others with each case."""
        if len(sys.modules) == self._modules:
            return False
        self._modules = len(sys.modules)
        files = {getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if self.watched(name)}
        return not files <= {None, *self._files}

    def watched(self, module: str) -> bool:
        """Whether a module's name is among those that are watched."""
        return module in self._names or module.startswith(self._within)

    def fresh(self, *, frozen: bool) -> Iterator[tuple[CodeType, str]]:
        """Code objects that were not given yet, each with the name of its module.

        Args:
            frozen: whether what the collector was told to leave alone is looked at as well; it is let loose for that.
        """
        self._modules = len(sys.modules)
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and self.watched(name):
                self._files.setdefault(file, name)
        if frozen:
            gc.unfreeze()
        stack = [one.__code__ for one in gc.get_objects() if type(one) is FunctionType]
        if frozen:
            gc.freeze()
        while stack:
            code = stack.pop()
            module_name = self._files.get(code.co_filename)
            if module_name is None or id(code) in self._seen:
                continue
            self._seen.add(id(code))
            self._kept.append(code)
            stack += [one for one in code.co_consts if type(one) is CodeType]
            yield code, module_name

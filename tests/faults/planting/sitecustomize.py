"""Plants faults in each process that has this folder on its path, once torch is loaded; see tests/faults/together.py.

Python loads this when it starts, before there is anything to plant, and the supervisor of a campaign never loads torch.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _Torch(MetaPathFinder):
    """Finds torch where it is, and has faults planted behind its loading."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def loaded(module: ModuleType) -> None:
            load(module)
            from tests.faults.together import plant

            plant()

        spec.loader.exec_module = loaded  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _Torch())

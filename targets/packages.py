"""Which packages a target finds here; asked without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from shakeout.corpus.interpreter import installed

__all__ = ["holds", "module_available", "uninstalled"]


def module_available(module: str) -> bool:
    """Whether a package is installed, without importing it."""
    try:
        return installed(module)
    except (ImportError, ValueError):
        return False


def uninstalled(*packages: tuple[str, str]) -> str | None:
    """What has to be installed before a target can run, and how; None if all is there.

    Args:
        packages: beside torch: the name under which each is installed, and that of its module.
    """
    if not module_available("torch"):
        return "torch is not installed: pip install 'torch>=2.11'"
    missing = [distribution for distribution, module in packages if not module_available(module)]
    return f"{', '.join(missing)} not installed: pip install {' '.join(missing)}" if missing else None


def holds(module: str, pattern: str) -> bool:
    """Whether an installed package has a file, such as its compiled part, where its wheels have it."""
    spec = find_spec(module)
    folders = spec.submodule_search_locations or () if spec is not None else ()
    return any(any(Path(folder).glob(pattern)) for folder in folders)

"""What a finding was seen on: versions of everything that could matter, without importing any of it."""

from __future__ import annotations

import functools
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from shakeout.targets.registry import facts_of, names

__all__ = ["describe", "version"]

#: What every target rests on; what further ones are made of, they say themselves.
PACKAGES = ("torch", "numpy", "triton")


def version(package: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def describe() -> dict[str, Any]:
    """Versions, processor and compiler as JSON values."""
    return {
        "shakeout": version("shakeout"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "compiler": compiler(),
        "packages": {package: found for package in _packages() if (found := version(package)) is not None},
    }


def _packages() -> tuple[str, ...]:
    """The distributions that make up any target, sorted by product."""
    every = sorted((facts_of(name) for name in names()), key=lambda facts: facts.product)
    return tuple(dict.fromkeys((*PACKAGES, *(package for facts in every for package in facts.packages))))


def _processor() -> str:
    """Model and the vector extensions that decide which kernels run."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return platform.processor()
    entries = (line.partition(":") for line in text.splitlines())
    facts = {key.strip(): value.strip() for key, _, value in entries}
    extensions = [name for name in ("avx2", "avx512f", "amx_bf16", "sve") if name in facts.get("flags", "").split()]
    return f"{facts.get('model name', platform.machine())} ({', '.join(extensions) or 'no known vector extension'})"


def compiler() -> str | None:
    """First line of what the C++ compiler says of itself."""
    for name in ("g++", "clang++"):
        if path := shutil.which(name):
            try:
                done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
            except (OSError, subprocess.TimeoutExpired):
                continue
            return next(iter(done.stdout.splitlines()), None)
    return None

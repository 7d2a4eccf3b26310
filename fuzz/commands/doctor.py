"""Checks whether this machine can run campaigns, and says what to install where it cannot."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shakeout.fuzz.ground.versions import version

__all__ = ["Check", "checks"]

#: Bytes that a campaign of some hours needs on the temporary and on the campaign's disk.
ROOM = 5 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; ``note`` for what is not needed but useful."""

    name: str
    state: Literal["ok", "missing", "note"]
    text: str


def checks(directory: Path) -> Iterator[Check]:
    """Every check, in the order of what depends on what."""
    fits = sys.version_info >= (3, 11)
    yield Check("python", "ok" if fits else "missing", platform.python_version() + ("" if fits else ", 3.11 is needed"))
    linux = sys.platform == "linux" and Path("/proc/self/statm").exists()
    yield Check("system", "ok" if linux else "missing", platform.platform() if linux else "Linux with /proc is needed")
    yield _torch()
    yield _rules()
    yield _compiler()
    yield _coverage()
    for name, place in (("temporary disk", Path(tempfile.gettempdir())), ("campaign disk", directory)):
        yield _disk(name, place)
    mold = shutil.which("mold")
    yield Check("mold", "ok" if mold else "note", mold or "a faster linker (Debian, Ubuntu: apt-get install mold)")
    from shakeout.targets.registry import names, target

    for name in names():
        missing = target(name).unavailable()
        yield Check(f"target {name}", "note" if missing else "ok", missing or target(name).facts.summary)


def _torch() -> Check:
    found = version("torch")
    if found is None:
        return Check("torch", "missing", "not installed: pip install 'torch>=2.11'")
    release = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
    if release < (2, 11):
        return Check("torch", "missing", f"{found}, 2.11 is needed: pip install 'torch>=2.11'")
    return Check("torch", "ok", found)


def _rules() -> Check:
    """Whether calls of torch's operators are drawn from rules."""
    from shakeout.corpus import learnt

    found = version("torch")
    content = learnt.of_torch(found) if found is not None else None
    rows = (content or {}).get("operators")
    rows = rows if isinstance(rows, dict) else {}
    count = sum(len(rules) for rules in rows.values() if isinstance(rules, list))
    if content is None or not count:
        text = "none for this torch: calls are those of its own samples, varied; draw them from rules after:"
        return Check("rules", "note", f"{text} shakeout learn torch")
    return Check("rules", "ok", f"{count} of {len(rows)} operators, learnt from torch {content.get('torch')}")


def _compiler() -> Check:
    """Inductor needs a compiler that can build and link a shared object."""
    path = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not path:
        return Check("C++ compiler", "missing", "none found (Debian, Ubuntu: apt-get install g++)")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "probe.cpp"
        source.write_text('#include <cmath>\nextern "C" double probe(double x) { return std::sin(x); }\n')
        command = [path, "-shared", "-fPIC", "-O1", str(source), "-o", str(Path(scratch) / "probe.so")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return Check("C++ compiler", "missing", f"{path} does not run: {error}")
    if done.returncode:
        return Check("C++ compiler", "missing", f"{path} cannot build: {(done.stderr.strip() or '?').splitlines()[0]}")
    return Check("C++ compiler", "ok", path)


def _coverage() -> Check:
    """Whether campaigns can watch what their cases reach in shared libraries and in Python."""
    from shakeout.fuzz.coverage import blocks, monitored, quickened, traced
    from shakeout.fuzz.coverage.traps import Unavailable, traps

    native = "functions and basic blocks of shared libraries"
    try:
        traps()
        without = blocks.available()
    except Unavailable as error:
        native, without = "", f"none of shared libraries: {error}"
    lines = "" if monitored.unavailable() and (why := quickened.unavailable()) else "lines of Python"
    lacking = [without, "" if lines else f"none of Python: {why}", traced.unavailable()]
    had = " and ".join(filter(None, (native, lines)))
    said = "; ".join(filter(None, (had, *lacking)))
    return Check("coverage", "note" if any(lacking) else "ok", said)


def _disk(name: str, place: Path) -> Check:
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return Check(name, "missing", f"{place} cannot be written")
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):.1f} GiB free in {place}"
    return Check(name, "ok" if free > ROOM else "note", text + ("" if free > ROOM else ", a day's campaign needs 5"))

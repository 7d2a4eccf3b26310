"""The small libraries by which Inductor asks what vectors a CPU has, built once for each user.

Before its first kernel Inductor compiles a library for each vector extension and loads it in a process of its own. That
is some ten seconds of a core. The result lies in a cache directory, and processes that are to be independent of each
other have one each. Its name is a hash of the source, the flags, and the versions of compiler and torch: what is there
by that name is what would be built. It is loaded again in any case, since on another CPU the answer may be another one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from shakeout.corpus import cache

__all__ = ["keep"]

#: Below the user's cache directory.
_STORE = "vectors"


def keep(store: Path | None = None) -> None:
    """Have this process, and those forked from it, take these libraries from a store and leave there what they build.

    Args:
        store: a directory, which need not exist; by default one in the user's cache directory.
    """
    from torch._inductor import cpp_builder, cpu_vec_isa

    check, build = cpu_vec_isa.VecISA.check_build, cpp_builder.CppBuilder.build
    kept = cache.directory() / _STORE if store is None else store
    asking = False
    taken: Path | None = None

    def asked(self: Any, code: str) -> bool:
        nonlocal asking, taken
        asking, taken = True, None
        try:
            return bool(check(self, code))
        finally:
            asking = False

    def check_build(self: Any, code: str) -> bool:
        if asked(self, code):
            return True
        if taken is None:
            return False
        # Another CPU's, or no library at all: what is built here has the word.
        for path in (taken, kept / taken.name):
            with contextlib.suppress(OSError):
                path.unlink()
        return asked(self, code)

    def built(self: Any) -> None:
        nonlocal taken
        target = Path(self.get_target_file_path())
        if asking and _copied(kept / target.name, target):
            taken = target
            return
        build(self)
        if asking:
            _copied(target, kept / target.name)

    cpu_vec_isa.VecISA.check_build = check_build  # type: ignore[method-assign]
    cpp_builder.CppBuilder.build = built  # type: ignore[method-assign]


def _copied(source: Path, target: Path) -> bool:
    """Whether a library is at another place as well now, whole; it costs time if not, nothing else."""
    part = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        os.replace(part, target)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        return False
    return True

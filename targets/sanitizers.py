"""Inductor's kernels with address or undefined-behaviour checks; its functions are printed into scripts.

Like ``corpus/standalone.py``: one text for the worker and for the report, independent of everything else in Shakeout.
The sanitizers are told to report and go on, and to report into a file; what is found there after a run is raised.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any


class SanitizerReport(Exception):
    """What a sanitizer has to say of a kernel."""


def checks(kind: str) -> list[str]:
    """The compiler's flags for a sanitizer, which reports and goes on.

    ``address``: reads and writes outside of a tensor's memory, or after it was freed. ``undefined``: what C++ leaves
    undefined, without what eager's own kernels do as well: signed integers that wrap, and shifts of them.
    """
    flags = ["fno-omit-frame-pointer", "g1", f"fsanitize={kind}", f"fsanitize-recover={kind}"]
    return flags + ["fno-sanitize=signed-integer-overflow,shift,vptr"] * (kind == "undefined")


def runtime(name: str) -> str:
    """The path of a sanitizer's runtime library, from the compiler; nothing if it has none."""
    compiler = os.environ.get("CXX", "g++")
    told = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=False)
    path = os.path.realpath(told.stdout.strip())
    return path if os.path.isabs(told.stdout.strip()) and os.path.exists(path) else ""


def process_environment(kind: Any) -> dict[str, str]:
    """What the environment of a process must hold from its start for a sanitizer to see all memory."""
    if kind != "address" or not runtime("libasan.so"):
        return {}
    # Leaks are looked for at the end of a process, and Python leaves much to that; freed memory is not kept for long.
    options = "halt_on_error=0:detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16:detect_odr_violation=0"
    # A signal is a crash like any other.
    options += "".join(f":handle_{name}=0" for name in ("segv", "sigbus", "sigfpe", "sigill", "abort"))
    # The runtime looks for C++'s throw as it starts, and Python itself does not load it.
    return {"LD_PRELOAD": f"{runtime('libasan.so')}:{runtime('libstdc++.so')}", "ASAN_OPTIONS": options}


def preloaded(kind: str) -> None:
    """Make sure that the sanitizer's runtime came first: a script starts again with it, a worker cannot."""
    with open("/proc/self/maps") as maps:
        here = "libasan" in maps.read()
    if kind != "address" or here:
        os.environ.pop("LD_PRELOAD", None)  # not for the compiler
        return
    wanted = process_environment(kind)
    if not wanted:
        raise NotImplementedError("the compiler has no AddressSanitizer (Debian, Ubuntu: apt-get install libasan8)")
    if globals().get("__name__") == "__main__":
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    raise NotImplementedError("AddressSanitizer has to be there when the process starts; pin the knob for the campaign")


def told(text: str) -> str:
    """A report with what it is about in the first line."""
    text = text[text.index("ERROR: AddressSanitizer") if "ERROR: AddressSanitizer" in text else 0 :]
    lines = [line for line in text.splitlines() if "AddressSanitizer: " in line or "runtime error: " in line]
    first = lines[0].partition("ERROR: ")[2] or lines[0].partition("runtime error: ")[2]
    accesses = [line.partition(" at ")[0] for line in text.splitlines() if line.startswith(("READ of", "WRITE of"))]
    return ": ".join([first.partition(" on address")[0], *accesses[:1]]) + f"\n{text[:4000]}"


@contextlib.contextmanager
def sanitized(kind: str) -> Iterator[None]:
    """Kernels are compiled with checks meanwhile; raises what they found."""
    from torch._inductor import cpp_builder

    stock, error = cpp_builder._get_optimization_cflags, os.dup(2)

    def flags(*args: Any, **kwargs: Any) -> Any:
        compiling, linking = stock(*args, **kwargs)
        return [*compiling, *checks(kind)], linking

    # UBSan forgets another place for its reports when it writes the first one, so the place of stderr is taken.
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        cpp_builder._get_optimization_cflags = flags
        try:
            yield
        finally:
            cpp_builder._get_optimization_cflags = stock
            os.dup2(error, 2)
            os.close(error)
            file.seek(0)
            text = file.read().decode(errors="replace")
            sys.stderr.write(text)
            sys.stderr.flush()
    if "ERROR: AddressSanitizer" in text or "runtime error: " in text:
        raise SanitizerReport(told(text))


def guarded(compiled: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """The artefact, each call of it and its backward pass under a sanitizer."""

    def run(*given: Any) -> Any:
        return compiled(*given)

    @contextlib.contextmanager
    def around() -> Iterator[None]:
        with sanitized(kind), getattr(compiled, "around", contextlib.nullcontext)():
            yield

    run.around = around  # type: ignore[attr-defined]
    return run

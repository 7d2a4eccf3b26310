"""An overrun of a kernel, whose values are plausible, is seen by the script that is reported."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import SANITIZE, Setting
from shakeout.fuzz.running.execute import repro
from shakeout.targets.sanitizers import runtime

#: The planted fault: the kernel's loops go on for two elements more.
OVERRUN = """
from torch._inductor import codecache

stock = codecache.CppPythonBindingsCodeCache.load_pybinding_async.__func__


def load(cls, argtypes, code, *args, **kwargs):
    changed = code.replace("static_cast<int64_t>(37L)", "static_cast<int64_t>(39L)")
    assert changed != code
    return stock(cls, argtypes, changed, *args, **kwargs)


codecache.CppPythonBindingsCodeCache.load_pybinding_async = classmethod(load)

if __name__ == "__main__":"""


def test_an_overrun_is_reported_with_its_place(tmp_path: Path) -> None:
    if not runtime("libasan.so"):
        pytest.skip("the compiler has no AddressSanitizer")
    # GCC checks no masked vector instructions, so the loop's tail is scalar.
    setting = Setting("inductor", (("cpp.enable_loop_tail_vec", False), (SANITIZE, "address")))
    one = capture(lambda x: torch.sin(x) + 1, lambda: [torch.arange(37.0)], setting=setting)
    path = tmp_path / "repro.py"
    path.write_text(repro(one).replace('if __name__ == "__main__":', OVERRUN))
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "SanitizerReport: AddressSanitizer: heap-buffer-overflow: READ of size" in done.stdout
    assert "in kernel " in done.stdout

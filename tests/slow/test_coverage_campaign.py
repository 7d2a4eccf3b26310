"""Real campaigns: a user's kernel whose own library and module are watched, and a compiler by all sources."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.caches import with_operators

from shakeout.fuzz.coverage.log import NAME

pytestmark = pytest.mark.timeout(400)

LIBRARY = r"""
extern "C" void scale(float *values, long count, float by) {
    for (long i = 0; i < count; i++)
        if (values[i] < 0) values[i] *= by;
        else values[i] = values[i] * 1.0f;
}
extern "C" int unused(int x) { return x ? x + 1 : 3; }
"""

#: leaky_relu by way of that library, where it takes the tensor.
KERNEL = """
    import ctypes
    from pathlib import Path

    import torch

    import shakeout

    library = ctypes.CDLL(str(Path(__file__).with_name("libmine.so")))
    library.scale.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_float]


    @shakeout.kernel(reference=torch.nn.functional.leaky_relu)
    def leaky(x, negative_slope=0.01, inplace=False):
        if x.dtype != torch.float32 or not x.is_contiguous() or x.requires_grad or inplace:
            return torch.nn.functional.leaky_relu(x, negative_slope, inplace)
        y = x.clone()
        library.scale(y.data_ptr(), y.numel(), negative_slope)
        return y
"""


@pytest.fixture
def shakeout(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    (tmp_path / "mine.cpp").write_text(LIBRARY)
    subprocess.run(["g++", "-O1", "-s", "-shared", "-fPIC", "mine.cpp", "-o", "libmine.so"], cwd=tmp_path, check=True)
    (tmp_path / "mine.py").write_text(textwrap.dedent(KERNEL).lstrip())
    environment = {**os.environ, "SHAKEOUT_CACHE": str(with_operators(tmp_path / "cache"))}

    def run(*words: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "shakeout", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_library_that_a_user_named_is_watched(tmp_path: Path, shakeout: Callable[..., tuple[int, str]]) -> None:
    words = ["--target", "mine:leaky", "--operators", "2", "--mode", "inference", "--workers", "1", "--plain"]
    words += ["--cover", "libmine.so", "--cover", "mine", "--exit-zero"]
    watched = ["--cover", "libnobody.so", "--directory", "one"]
    status, told = shakeout("run", *words, *watched, "--cases", "30")
    assert status == 0, told
    assert "coverage: libmine.so" in told
    assert "libnobody.so: no case reached anything of it; was it loaded?" in told
    rows = [json.loads(line) for line in (tmp_path / "one" / NAME).read_text().splitlines() if line]
    assert {(row["source"], row["name"]) for row in rows} == {("native", "libmine.so"), ("python", "mine")}
    status, told = shakeout("status", "one", "--json")
    sources = json.loads(told)["coverage"]["sources"]
    reached = sources["native"]["libmine.so"]
    # Where the function begins, its condition, what it does with the tensor, and what it does otherwise.
    assert sources["python"]["mine"]["lines"]["reached"] >= 4
    assert reached["functions"]["reached"] == 1
    # The loop and both sides of its branch.
    assert reached["blocks"]["reached"] >= 3
    # The campaign goes on with more cases; what it had reached is not new again.
    toml = tmp_path / "one" / "campaign.toml"
    toml.write_text(toml.read_text().replace("cases = 30", "cases = 36"))
    status, told = shakeout("resume", "one", "--plain", "--exit-zero")
    assert status == 0, told
    again = [json.loads(line) for line in (tmp_path / "one" / NAME).read_text().splitlines() if line]
    assert again[: len(rows)] == rows
    assert json.loads(shakeout("status", "one", "--json")[1])["coverage"]["sources"]["native"]["libmine.so"] == reached
    # The same to the line and arc, as coverage.py reads it.
    pytest.importorskip("coverage")
    status, told = shakeout("run", *words, "--coverage-report", "--directory", "two", "--cases", "30")
    assert status == 0, told
    assert "coverage report: 1 modules in two/.coverage" in told
    opened = coverage_of(tmp_path / "two" / ".coverage")
    (file,) = opened.measured_files()
    assert Path(file).name == "mine.py"
    code = (tmp_path / "mine.py").read_text().splitlines()
    ran = {code[line - 1].strip() for line in opened.lines(file)}
    assert {"import ctypes", "y = x.clone()", "return y"} <= ran


def coverage_of(path: Path) -> Any:
    import coverage

    data = coverage.CoverageData(str(path))
    data.read()
    return data


@pytest.mark.exhaustive
def test_a_compiler_is_watched_by_all_sources(tmp_path: Path, shakeout: Callable[..., tuple[int, str]]) -> None:
    words = ["--target", "inductor", "--operators", "3", "--mode", "inference", "--workers", "1", "--plain"]
    status, told = shakeout("run", *words, "--coverage", "--cases", "3", "--exit-zero", "--directory", "one")
    assert status == 0, told
    sources = json.loads(shakeout("status", "one", "--json")[1])["coverage"]["sources"]
    assert sources["space"][""]["operators"]["reached"] >= 2
    assert sources["python"]["torch._inductor.graph"]["lines"]["reached"] > 100
    assert sources["native"]["libtorch_cpu.so"]["functions"]["reached"] > 500
    passes = sources["passes"]["inductor"]
    assert passes["passes"]["of"] > 10
    assert passes["lowerings"]["reached"] >= 1
    assert passes["patterns"]["of"] > 50
    assert any("fuse_attention" in name for name in passes["patterns"]["never"])

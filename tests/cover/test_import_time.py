"""Importing Shakeout, and asking it for help, costs no heavy import."""

import re
import subprocess
import sys

import pytest

HEAVY = {"jax", "numpy", "onnx", "onnxruntime", "onnxscript", "openvino", "ray", "torch", "tvm"}
ROOMS = ["corpus", "fuzz", "generators", "oracles", "targets"]


def imported(*arguments: str) -> set[str]:
    """The top-level packages that ``python ARGUMENTS`` imports."""
    run = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    lines = re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\w+)", run.stderr, re.MULTILINE)
    assert lines, "no import was reported: has the format of -X importtime changed?"
    return set(lines)


def test_import_is_light():
    assert not imported("-c", "import shakeout") & HEAVY


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_is_light(room):
    assert not imported("-c", f"import shakeout.{room}") & HEAVY


def test_help_is_light():
    assert not imported("-m", "shakeout", "--help") & HEAVY


def test_a_heavy_import_would_be_seen():
    assert "numpy" in imported("-c", "import numpy")

"""Kernels of Inductor under sanitizers, without building one."""

import os

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import SANITIZE, Case, Setting
from shakeout.fuzz.compose import _knobs
from shakeout.fuzz.execute import execute
from shakeout.generators.choices import SeededChoices
from shakeout.targets.dynamo import INDUCTOR
from shakeout.targets.sanitizers import process_environment, runtime, sanitized, told

REPORT = """=================================================================
==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x6110001b0154 at pc 0x7fa5c74b7c83 bp 0x7f sp 0x7f
READ of size 4 at 0x6110001b0154 thread T0
    #0 0x7fa5c74b7c82 in kernel /tmp/main.cpp:14
"""


def case(kind: str) -> Case:
    setting = Setting("inductor", ((SANITIZE, kind),))
    return capture(lambda x: torch.sin(x) + 1, lambda: [torch.arange(37.0)], setting=setting)


def test_undefined_behaviour_is_reported_in_any_process(capfd: pytest.CaptureFixture[str]) -> None:
    with sanitized("undefined"):
        os.write(2, b"only a warning\n")
    with pytest.raises(Exception, match="index 2 out of bounds"), sanitized("undefined"):  # noqa: PT012
        from torch._inductor import cpp_builder

        flags, _ = cpp_builder._get_optimization_cflags("g++")
        assert {"fsanitize=undefined", "fno-sanitize=signed-integer-overflow,shift,vptr"} <= set(flags)
        os.write(2, b"main.cpp:6:35: runtime error: index 2 out of bounds for type 'int [2]'\n")
    assert "only a warning" in capfd.readouterr().err, "what was said is said"
    assert not any("sanitize" in flag for flag in cpp_builder._get_optimization_cflags("g++")[0])


def test_a_worker_without_the_runtime_declines() -> None:
    result = execute(case("address"))
    assert result.status == "unsupported"
    assert "has to be there when the process starts" in result.reason


def test_the_first_line_of_a_report_is_the_same_for_the_same_error() -> None:
    assert told(REPORT).splitlines()[0] == "AddressSanitizer: heap-buffer-overflow: READ of size 4"
    assert told("a.cpp:6:35: runtime error: division by zero\n").splitlines()[0] == "division by zero"


def test_a_sanitizer_is_pinned_and_not_drawn() -> None:
    drawn = [dict(_knobs(SeededChoices(seed), INDUCTOR.knobs(), {}, 1.0, 1)[0]) for seed in range(300)]
    assert all(SANITIZE not in knobs for knobs in drawn)
    pinned = _knobs(SeededChoices(1), INDUCTOR.knobs(), {SANITIZE: "undefined"}, 0.0, 1)[0]
    assert dict(pinned)[SANITIZE] == "undefined"


def test_only_the_address_sanitizer_needs_an_environment() -> None:
    assert process_environment(None) == process_environment("undefined") == {}
    if runtime("libasan.so"):
        assert set(process_environment("address")) == {"LD_PRELOAD", "ASAN_OPTIONS"}

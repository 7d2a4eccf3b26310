"""Scripts look for one failure: another one, and what never came to a comparison, have statuses of their own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import known, regressions
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.corpus.known import KnownBug
from shakeout.corpus.regressions import Regression
from shakeout.corpus.short_script import short
from shakeout.corpus.symptom import OTHER, Symptom
from shakeout.fuzz.bisect.environments import verdict_of
from shakeout.fuzz.running.case_file import render

VALUE, DTYPE = Symptom("value", "wrong value"), Symptom("metadata", "wrong dtype")
LOST, LAIN = Symptom("value", "NaN lost"), Symptom("metadata", "wrong strides")
RAISED = Symptom("exception", "ValueError", "Cannot view a tensor with shape torch.Size([N]) as 'this' N")
CASE = capture(lambda x: torch.log(x), lambda: [torch.tensor([[1.0, -1.0], [2.0, 4.0]])], setting=Setting("eager"))

#: What a target makes of the network, and which symptom that is.
TARGETS = {
    "lambda x: [network(x)[0]]": None,
    "lambda x: [network(x)[0] + 1]": VALUE,
    "lambda x: [network(x)[0].double()]": DTYPE,
    "lambda x: [network(x)[0].nan_to_num(0.0)]": LOST,
    "lambda x: [network(x)[0].t().contiguous().t()]": LAIN,
    "lambda x: [][0]": Symptom("exception", "IndexError", "list index out of range"),
    "lambda x: [x.view(5)]": Symptom("exception", "RuntimeError", "shape '[N]' is invalid for input of size N"),
}
SYMPTOMS = [symptom for symptom in TARGETS.values() if symptom is not None]


def status(text: str, folder: Path) -> int:
    path = folder / "repro.py"
    path.write_text(text)
    return subprocess.run([sys.executable, "-I", str(path)], capture_output=True, check=False, timeout=300).returncode


def in_process(text: str) -> int:
    """The status of a script, without a process, for it is asked often; it must not come to its own guard."""
    hook = sys.excepthook
    try:
        exec(compile(text, "repro.py", "exec"), {"__name__": "__main__"})
    except SystemExit as done:
        return int(done.code or 0)
    finally:
        sys.excepthook = hook
    return 0


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("form", ["short", "long"])
def test_a_script_tells_its_failure_from_all_others(form: str, target: str) -> None:
    for symptom in SYMPTOMS:
        prepare = f"def prepare(network):\n    return {target}"
        if form == "short":
            text = short(CASE, prepare, symptom=symptom)
        else:
            text = render(replace(CASE, setting=Setting("aot_eager")), symptom)
            # The process of its own is for crashes; what is tested here is what one run says.
            text = text.replace("isolated(prepare, 180.0)", "main(prepare)")
            head, _, rest = text.partition("def prepare(function):")
            text = f"{head}{prepare}\n\n\ndef declined{rest.partition('def declined')[2]}"
        assert text is not None
        wanted = 0 if TARGETS[target] is None else 1 if TARGETS[target] == symptom else OTHER
        assert in_process(text) == wanted, (symptom, text)


@pytest.mark.parametrize(
    "symptom", [Symptom("crash", "SIGFPE"), Symptom("hang", "hang"), Symptom("aliasing", "alias lost")]
)
def test_what_no_comparison_sees_is_not_shown_by_a_difference(symptom: Symptom) -> None:
    for target, wanted in (("lambda x: [network(x)[0] + 1]", OTHER), ("lambda x: [][0]", OTHER), ("network", 0)):
        text = short(CASE, f"def prepare(network):\n    return {target}", symptom=symptom)
        assert text is not None
        assert in_process(text) == wanted


@pytest.mark.long
def test_what_is_missing_is_no_failure(tmp_path: Path) -> None:
    text = short(CASE, "def prepare(network):\n    return network", imports=["import no_such_package"], symptom=VALUE)
    assert text is not None
    assert status(text, tmp_path) == 125
    long = render(replace(CASE, setting=Setting("aot_eager")), VALUE)
    assert status(long.replace("import torch\n", "import no_such_package\n", 1), tmp_path) == 125


@pytest.mark.long
def test_a_crash_is_one_signal_and_a_memory_error_any_of_three(tmp_path: Path) -> None:
    assert Symptom("crash", "SIGABRT").died("SIGSEGV")
    assert not Symptom("crash", "SIGFPE").died("SIGSEGV")
    assert not VALUE.died("SIGSEGV")
    for symptom, signal, wanted in (
        (Symptom("crash", "SIGABRT"), "SIGSEGV", 1),
        (VALUE, "SIGABRT", OTHER),
    ):
        text = render(replace(CASE, setting=Setting("aot_eager")), symptom)
        death = f"def prepare(function):\n    signal.raise_signal(signal.{signal})\n"
        assert status(text.replace("def prepare(function):\n", death, 1), tmp_path) == wanted


def test_a_script_for_which_any_difference_counts_says_so() -> None:
    case = replace(CASE, setting=Setting("aot_eager"))
    assert "1 any difference, 125" in render(case)
    assert "3 another one" not in render(case)
    assert "1 the failure that this is about, 3 another one, 125" in render(case, VALUE)


def test_words_of_a_message_are_those_that_every_run_prints() -> None:
    assert RAISED.words == ("ValueError", "Cannot view a tensor with shape torch.Size([")
    assert Symptom("exception", "StopIteration").words == ("StopIteration",)
    path = Symptom("exception", "GeneralFailure", "Check 'is_number(name)' failed at srctranslate_session.cpp:N:")
    assert path.words == ("GeneralFailure", "is_number(name)")


def test_who_bisects_releases_skips_what_fails_otherwise() -> None:
    said = "torch 2.13.0\noutput 0: dtype torch.float32 expected, torch.float64 found"
    assert [verdict_of(number, said) for number in (0, 1, OTHER, 125)] == ["good", "bad", "skip", "skip"]


def test_every_case_that_ships_says_what_to_look_for() -> None:
    bugs: list[KnownBug | Regression] = [*known.load_all(), *regressions.load_all()]
    for bug in bugs:
        assert bug.symptom is not None
        # Without words any difference would do.
        assert bug.symptom.words, bug.id

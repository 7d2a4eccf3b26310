"""The text of a target: put together from functions, executed beside a case, and what it leaves for others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shakeout.corpus import script
from shakeout.corpus.capture import capture
from shakeout.corpus.case import Setting
from shakeout.fuzz.running import runs
from shakeout.targets import printed, staged
from shakeout.targets.registry import target

CASE = capture(torch.sin, lambda: [torch.ones(3)], setting=Setting("export"))
BODY = """def prepare(function):
    KEPT["made"] = KEPT.get("made", 0) + 1
    STAGES.append(("as it is", function))
    with stage("preparing"):
        return function


declined = export_declined"""


def test_what_a_text_leaves_is_in_its_observation() -> None:
    kept: dict[str, Any] = {"made": 3}
    seen = runs.observe(script.load(CASE), printed.staged(BODY), kept=kept)
    assert seen.error is None
    assert kept == {"made": 4}
    assert set(seen.spent) == {"preparing"}
    [(name, form)] = seen.stages
    assert name == "as it is"
    assert torch.equal(form(torch.ones(3))[0], torch.sin(torch.ones(3)))


def test_a_text_without_stages_leaves_nothing() -> None:
    seen = runs.observe(script.load(CASE), target("eager").source(Setting("eager")), kept={})
    assert (seen.error, seen.spent, seen.stages) == (None, {}, ())


def test_a_stage_that_raises_is_named_and_timed() -> None:
    broken = BODY.replace("        return function", '        raise Declined("not this")')
    seen = runs.observe(script.load(CASE), printed.staged(broken))
    assert seen.error is not None
    assert (seen.error.stage, seen.error.declined) == ("preparing", True)
    assert set(seen.spent) == {"preparing"}


def test_torch_compile_refuses_in_the_words_of_torch_export_without_its_own() -> None:
    namespace: dict[str, Any] = {}
    exec(printed.compile_declined(), namespace)
    declined = namespace["declined"]

    def called(name: str) -> Exception:
        return type(name, (Exception,), {})("x")

    for name in ("Unsupported", "UserError", "GuardOnDataDependentSymNode", "NotImplementedError"):
        assert declined(called(name))
        assert staged.export_declined(called(name))
    for name in ("Declined", "ConstraintViolationError", "PendingUnbackedSymbolNotFound"):
        assert not declined(called(name))
        assert staged.export_declined(called(name))
    assert printed.compile_declined() in target("inductor").source(Setting("inductor"))


def test_words_that_are_not_found_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(printed._OF_EXPORT, "no such word", "")
    printed.compile_declined.cache_clear()
    with pytest.raises(ValueError, match="export_declined says 'no such word' 0 times, expected once"):
        printed.compile_declined()
    monkeypatch.undo()
    assert printed.compile_declined()

"""What gradients are asked for with: stored only where it is unusual, the same everywhere, and judged like all else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import codec, known, regressions, standalone
from shakeout.corpus.case import COTANGENTS, Case, Cotangent, Setting
from shakeout.corpus.intake.capturing import capture
from shakeout.corpus.short_script import short
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.minimise import settings
from shakeout.fuzz.minimise.order import size
from shakeout.fuzz.running import runs
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import execute, repro
from shakeout.oracles.exactness import candidate
from shakeout.oracles.metamorphic import derive
from shakeout.targets import registry


@pytest.fixture(scope="module")
def case() -> Case:
    x = torch.linspace(-1, 1, 6).reshape(2, 3).requires_grad_()
    return capture(torch.sin, (x,), setting=Setting("aot_eager")).case


def asked(case: Case, kind: Cotangent) -> Case:
    return replace(case, setting=replace(case.setting, cotangent=kind))


def test_each_kind_is_what_it_is_called() -> None:
    output = torch.zeros(2, 3)
    whole = standalone.cotangent(output)
    assert whole.tolist() == [[-2, -1, 0], [1, 2, -2]]
    transposed = standalone.unusual_cotangent(output, "transposed")
    assert torch.equal(transposed, whole)
    assert transposed.stride() == (1, 2)
    sliced = standalone.unusual_cotangent(output, "sliced")
    assert torch.equal(sliced, whole)
    assert sliced.stride() == (6, 2)
    expanded = standalone.unusual_cotangent(output, "expanded")
    assert expanded.tolist() == [[-2, -1, 0]] * 2
    assert expanded.stride() == (0, 1)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        # Exact in all of them, so that double precision starts from the same.
        found = standalone.unusual_cotangent(torch.zeros(11, dtype=dtype), "fractional")
        assert found.double().tolist() == [n / 8 for n in range(-5, 6)]
    for kind in COTANGENTS:
        for shape in ((), (0, 2), (3,)):
            assert standalone.unusual_cotangent(torch.zeros(shape), kind).shape == shape


def test_it_is_stored_only_where_it_is_another_than_ever() -> None:
    stored = [*(bug.case for bug in known.load_all()), *(bug.case for bug in regressions.load_all())]
    assert stored
    assert not any("cotangent" in one.text for one in stored)
    assert Setting("inductor", cotangent="sliced") == Setting("inductor")  # nothing is asked for


def test_a_case_keeps_it(case: Case) -> None:
    assert '"cotangent"' not in case.text
    assert asked(case, "whole").id == case.id
    ids = {asked(case, kind).id for kind in COTANGENTS}
    assert len(ids) == len(COTANGENTS)
    one = asked(case, "expanded")
    assert codec.decode(one.text) == one
    with pytest.raises(codec.MalformedCase, match="format 1 has no cotangents"):
        codec.decode(one.text.replace('"format":2', '"format":1'))
    with pytest.raises(codec.MalformedCase, match=r"setting\.cotangent: expected one of whole"):
        codec.decode(one.text.replace('"expanded"', '"torch.load"'))


@pytest.mark.parametrize("kind", COTANGENTS)
def test_every_run_asks_with_it(case: Case, kind: Cotangent) -> None:
    one = asked(case, kind)
    namespace = registry_free(one)
    (seen,) = runs.observe(namespace).calls
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    assert torch.equal(seen["gradient"][0], standalone.unusual_cotangent(x, kind) * x.cos())
    (wide,) = runs.baseline(one).calls
    assert torch.equal(wide["gradient"][0], standalone.unusual_cotangent(x.double(), kind) * x.double().cos())
    assert execute(one).outcome == "pass"


def registry_free(case: Case) -> dict[str, object]:
    from shakeout.corpus import script

    return script.load(case)


@pytest.mark.long
def test_scripts_ask_with_it(case: Case, tmp_path: Path) -> None:
    one = asked(case, "transposed")
    told = registry.short(one.setting)
    assert told is not None
    text = short(one, told.prepare)
    assert text is not None
    assert "unusual_cotangent(output, 'transposed')" in text
    for name, script in (("short.py", text), ("long.py", repro(one, execute(one)))):
        (tmp_path / name).write_text(script)
        done = subprocess.run([sys.executable, str(tmp_path / name)], capture_output=True, text=True)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference"), done.stderr


def test_what_holds_for_whole_numbers_is_not_claimed_of_others(case: Case) -> None:
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    whole = capture(lambda x: x + x, (x,), setting=Setting("aot_eager")).case
    assert candidate(whole)
    assert candidate(asked(whole, "sliced"))
    assert not candidate(asked(whole, "fractional"))
    assert derive(whole, always=True)
    assert not derive(asked(whole, "sliced"), always=True)


def test_the_usual_one_is_simpler(case: Case) -> None:
    one = asked(case, "sliced")
    assert size(case) < size(one)
    assert case in list(settings.setting(one))


def test_cases_of_training_have_another_one_now_and_then() -> None:
    seen = [compose(Grow(seed=seed, target="aot_eager", recipe={"mode": "training"})).case for seed in range(40)]
    kinds = {case.setting.cotangent for case in seen if case.setting.mode == "training"}
    assert "whole" in kinds
    assert len(kinds) > 2
    none = [compose(Grow(seed=seed, target="aot_eager", recipe={"mode": "inference"})).case for seed in range(5)]
    assert {case.setting.cotangent for case in none} == {"whole"}

"""Bisecting a shipped bug of a stock compiler whose culprit is known."""

import pytest

from shakeout.corpus import known
from shakeout.fuzz.bisect.ablation import Ablation
from shakeout.fuzz.bisect.trials import in_process
from shakeout.fuzz.minimise.predicate import NotReproduced
from shakeout.targets.registry import target


def test_the_optimiser_of_a_known_bug_is_named() -> None:
    if missing := target("onnxruntime").unavailable():
        pytest.skip(missing)
    case = known.load(known.DIRECTORY / "onnxruntime-layer-norm-fusion-broadcast-scale.json").case
    try:
        found = Ablation(case, in_process).culprit("optimisers", "optimiser")
    except NotReproduced as error:
        pytest.skip(f"fixed in the installed version: {error}")
    assert found is not None
    assert (found.names, found.alone) == (("SimplifiedLayerNormFusion",), True)

"""What tests of the engine share."""

import os
from pathlib import Path

import pytest

from shakeout.targets import registry

HERE = Path(__file__).parent


@pytest.fixture
def hostile(monkeypatch, tmp_path: Path) -> None:
    """Processes find the hostile cases, and keep what they store for themselves."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "store"))
    monkeypatch.setenv("MARK", str(tmp_path / "mark"))
    # Here only its facts are looked at; the processes that run it import the module, which registers itself.
    monkeypatch.setitem(registry._BUILT_IN, "hostile", ("shakeout.targets.planted", "PLANTED"))


@pytest.fixture
def no_selftest(monkeypatch) -> None:
    """A campaign starts without its self-test."""
    monkeypatch.setattr("shakeout.fuzz.campaign.campaign.selftest", lambda pool, tell, stop: [])


@pytest.fixture
def untried(monkeypatch) -> None:
    """Findings are stored and wait."""
    monkeypatch.setattr("shakeout.fuzz.campaign.investigation.AT_ONCE", 0)

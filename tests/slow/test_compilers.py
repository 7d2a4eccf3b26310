"""Every installed compiler in one campaign: real workers, several settings for one export, and time by stage."""

from pathlib import Path

import pytest

from shakeout.corpus.database import Database
from shakeout.fuzz.campaign.campaign import Campaign
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.ground import events
from shakeout.targets.registry import compilers

STAGES = {
    "export": {"torch.export"},
    "onnxruntime": {"torch.export", "torch.onnx", "InferenceSession"},
    "openvino": {"torch.export", "convert_model", "compile_model"},
    "tvm": {"torch.export", "from_exported_program", "relax.build"},
}


def test_compilers_that_work_in_stages_take_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shakeout.fuzz.campaign.investigation.AT_ONCE", 0)
    wanted = tuple(name for name in compilers() if name in STAGES)
    config = Config(targets=wanted, seconds=None, cases=6 * len(wanted), workers=2, settings=3, operators=1)
    told: list[events.Event] = []
    with Campaign(config, tmp_path / "run", [told.append], known=None) as campaign:
        assert campaign.run().reason == "cases"
    database = Database.read(tmp_path / "run" / "shakeout.sqlite")
    totals = database.totals()
    for name in wanted:
        row = totals[name]
        assert row.infra == 0, (name, row)
        # Three settings where the first was taken, one where it was not.
        assert row.generated > 6, (name, row)
        assert row.compared > 0, (name, row)
        spent: set[str] = set()
        for event in told:
            if isinstance(event, events.CaseDone) and event.target == name:
                spent |= set(event.phases)
        assert STAGES[name] <= spent, (name, spent)
    notices = [event.message for event in told if isinstance(event, events.Notice)]
    assert not [text for text in notices if "threads" in text or "left out" in text], notices

"""Accelerators: workers see one only where a case or a target has a use for it."""

from pathlib import Path

import pytest
import torch

from shakeout.corpus import codec
from shakeout.fuzz.campaign import selftest
from shakeout.fuzz.triage.replay_bugs import Item, replay
from shakeout.fuzz.workers import pool as module
from shakeout.fuzz.workers.pool import WorkerPool
from shakeout.fuzz.workers.worker_kind import WorkerKind
from shakeout.targets.accelerators import HIDDEN, missing
from shakeout.targets.registry import may_use_accelerator, names


def environments(directory: Path) -> list[bytes]:
    """Of the processes that work below a directory."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            text = (process / "environ").read_bytes() if process.name.isdigit() else b""
        except OSError:
            continue
        if str(directory).encode() in text:
            found.append(text)
    return found


@pytest.mark.parametrize(
    ("targets", "device", "hidden"),
    [(["eager"], "cpu", True), (["eager"], "cuda", False), (["eager", "disk_store"], "cpu", False)],
)
def test_workers_see_an_accelerator_only_where_there_is_a_use_for_it(
    targets: list[str], device: str, hidden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in HIDDEN:
        monkeypatch.delenv(name, raising=False)
    pool = WorkerPool(tmp_path, targets, 1, kind=WorkerKind(device))
    try:
        pool.start(complete=False)
        found = environments(tmp_path)
    finally:
        pool.stop()
    assert found
    for text in found:
        variables = text.split(b"\0")
        assert all((f"{name}={value}".encode() in variables) == hidden for name, value in HIDDEN.items())


def test_where_one_is_needed_nothing_is_forked_from_a_process_that_used_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "present", lambda: True)
    warmed = []
    for targets in (["eager"], ["eager", "disk_store"]):
        pool = WorkerPool(tmp_path / targets[-1], targets, 1)
        warmed.append(pool.warmed)
        pool.stop()
    assert warmed == [("eager",), ()]


def test_what_may_use_an_accelerator_is_what_others_wrote_and_what_pins_memory() -> None:
    assert {name for name in names() if may_use_accelerator(name)} >= {"save_on_cpu", "disk_store"}
    assert may_use_accelerator("my.module:kernel")
    assert not any(map(may_use_accelerator, ("eager", "aot_eager", "inductor", "export", "onnxruntime", "tvm")))


def test_a_device_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing("cpu") == ""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in missing("cuda")
    case = selftest.case("wrong value")
    there = codec.decode(case.text.replace('"device":"cpu"', '"device":"cuda"'))
    assert there.setting.device == "cuda"
    [row] = replay([Item("bug", "there", "there", there)], workers=1, memory=2 << 30)
    assert row.verdict == "cannot run"
    assert "no CUDA device" in row.note

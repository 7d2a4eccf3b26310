"""Precompiled headers: kept for the next campaign, but never half written ones."""

import os
import time
from pathlib import Path

import pytest

from shakeout.fuzz.workers.headers import Headers


def build(headers: Headers, name: str = "abc.h.gch", age: float = 0.0) -> Path:
    headers.directory.mkdir(parents=True, exist_ok=True)
    path = headers.directory / name
    path.write_bytes(b"header")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_the_second_campaign_finds_what_the_first_built(tmp_path: Path) -> None:
    first, second = (Headers(tmp_path / name, tmp_path / "store") for name in "ab")
    first.fetch()
    build(first)
    first.keep()
    second.fetch()
    assert (second.directory / "abc.h.gch").read_bytes() == b"header"


def test_a_kill_leaves_no_half_written_header(tmp_path: Path) -> None:
    headers = Headers(tmp_path / "a", tmp_path / "store")
    finished, cut = build(headers, "old.h.gch", age=100), build(headers, "new.h.gch")
    source = build(headers, "new.h")
    headers.distrust(10.0)
    assert (finished.exists(), cut.exists(), source.exists()) == (True, False, True)


def test_what_came_from_the_store_is_trusted(tmp_path: Path) -> None:
    first, second = (Headers(tmp_path / name, tmp_path / "store") for name in "ab")
    build(first)
    first.keep()
    second.fetch()
    second.distrust(10.0)
    assert (second.directory / "abc.h.gch").exists()


def test_old_headers_are_deleted(tmp_path: Path) -> None:
    headers = Headers(tmp_path / "a", tmp_path / "store")
    headers.fetch()
    (tmp_path / "store").mkdir()
    old = tmp_path / "store" / "old.h.gch"
    old.write_bytes(b"")
    os.utime(old, (0, 0))
    build(headers)
    headers.keep()
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["abc.h.gch"]


def test_the_store_holds_only_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = Headers(tmp_path / "a", tmp_path / "store")
    headers.fetch()
    build(headers)
    headers.keep()
    for age, name in enumerate(("older.gch", "oldest.gch"), 1):
        (tmp_path / "store" / name).write_bytes(b"0" * 1000)
        os.utime(tmp_path / "store" / name, (time.time() - 1000 * age,) * 2)
    monkeypatch.setattr("shakeout.fuzz.workers.headers.KEEP_BYTES", headers.stored - 1)
    headers.keep()
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["abc.h.gch", "older.gch"]


def test_a_store_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    headers = Headers(tmp_path / "a", tmp_path / "file" / "store")
    headers.fetch()
    build(headers)
    headers.keep()


def test_the_place_is_the_one_that_torch_takes(tmp_path: Path, monkeypatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert Headers(tmp_path, tmp_path).directory == Path(default_cache_dir()) / "precompiled_headers"

"""A file that is written whole is the old one or the new one."""

import os
from pathlib import Path

import pytest

from shakeout.corpus.files import write_whole


@pytest.mark.parametrize("content", ["é\n", b"\x00\xff"])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]

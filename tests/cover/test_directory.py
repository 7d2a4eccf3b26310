"""A campaign's directory: names, and the system's errors in words."""

import errno
from datetime import date
from pathlib import Path

import pytest

from shakeout.fuzz.campaign.campaign_folder import DirectoryUnusable, explained, locked, next_directory, usage

DAY = date(2026, 11, 23)


def test_names_follow_each_other(tmp_path: Path) -> None:
    assert next_directory(tmp_path / "runs", DAY).name == "2026-11-23a"
    for letter in "abcdefghijklmnopqrstuvwxyz":
        path = next_directory(tmp_path, DAY)
        assert path.name == f"2026-11-23{letter}"
        path.mkdir()
    assert next_directory(tmp_path, DAY).name == "2026-11-23aa"


def test_a_lock_ends_with_its_holder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DirectoryUnusable, match="wait for it"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "is full; free some space"),
        (errno.EDQUOT, "is full"),
        (errno.EROFS, "cannot be written .*choose another directory"),
        (errno.EACCES, "check its rights"),
        (errno.ENOTDIR, "cannot be used"),
    ],
)
def test_errors_in_words(tmp_path: Path, number: int, words: str) -> None:
    with pytest.raises(DirectoryUnusable, match=words), explained(tmp_path):
        raise OSError(number, "words of the system")


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="interrupted"), explained(tmp_path):
        raise OSError(errno.EINTR, "interrupted")


def test_what_a_directory_takes(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "x").write_bytes(b"0" * 100_000)
    once = usage(tmp_path)
    assert 100_000 <= once < 200_000
    (inner / "y").hardlink_to(inner / "x")
    (inner / "z").symlink_to(inner / "x")
    assert usage(tmp_path) < once + 10_000
    assert usage(tmp_path / "missing") == 0

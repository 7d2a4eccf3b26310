"""The known bugs that ship: readable, referenced, small; and what is broken is told by name."""

import re
from pathlib import Path

import pytest

from shakeout.corpus import script
from shakeout.corpus.codec import MalformedCase
from shakeout.corpus.known import load, load_all

KNOWN = load_all()


def test_there_are_enough_to_begin_with() -> None:
    assert len(KNOWN) >= 8
    assert len({bug.reference for bug in KNOWN}) == len(KNOWN)


@pytest.mark.parametrize("bug", KNOWN, ids=lambda bug: bug.id)
def test_each_is_explained_referenced_and_small(bug) -> None:
    assert re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", bug.reference)
    assert len(bug.explanation) > 40
    assert bug.expected != bug.observed
    assert len(bug.case.program.calls) <= 6
    assert all(len(storage.values.items) <= 64 for storage in bug.case.input_sets[0].storages)
    compile(script.body(bug.case), bug.id, "exec")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"title": "a"}'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(MalformedCase, match=r"broken\.json"):
        load(path)

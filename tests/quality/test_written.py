"""Scripts as people post them, in many styles: each is handed over as it is, and what it compiles becomes cases.

None of them is about a bug; they are about classes, globals, options, notebooks, tests and loops of training.
"""

from pathlib import Path

import pytest
from tests.tiers import some

from shakeout.fuzz.intake.importing import import_file

FOLDER = Path(__file__).parent / "written"

#: Of each script: target and mode of its cases in order, and what is said of what is none.
WRITTEN: dict[str, tuple[list[str], list[str]]] = {
    "classes": (["inductor inference"], []),
    "with_argparse": (["inductor inference"], []),
    "notebook_like": (["inductor inference", "aot_eager inference"], []),
    "pytest_style": (["inductor inference"] * 4, ["the function raises RuntimeError: shape '[7]' is invalid"]),
    "training_loop": (["inductor training"], []),
    "train_step": (["inductor training"], []),  # the step computes the same loss
    "internal_test": (["inductor inference"] * 2, []),
    "top_level": (["inductor training"], []),
    "configured": (["aot_eager training", "aot_eager inference"], []),
    "older": (["inductor inference", "inductor training", "inductor training"], []),
    "unittest_style": (["inductor training", "inductor inference"], []),
    "sizes_in_half": (["inductor training"] * 3, ["mixed dtype"]),
    "wants_gpu": (["inductor training"], []),
}


@pytest.mark.parametrize("name", some(list(WRITTEN), every=4))
def test_a_script_is_imported_as_it_was_posted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cases, refused = WRITTEN[name]
    file = FOLDER / f"{name}.py"
    found = import_file(file, output=tmp_path, seconds=120, memory=8 << 30, cpu=name == "wants_gpu")
    assert [f"{one.case.setting.target} {one.case.setting.mode}" for one in found.cases] == cases
    assert len(found.refused) == len(refused)
    for one, said in zip(found.refused, refused, strict=True):
        assert said in one.reason
    text = "\n".join([*found.notes, *(note for one in found.cases for note in one.notes)])
    assert "SHAKEOUT-INTERNAL" not in text
    assert str(tmp_path) not in text


def test_every_script_is_tried() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} == set(WRITTEN)

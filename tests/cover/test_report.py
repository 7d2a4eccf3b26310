"""What a person reads about a campaign, made from cases."""

from pathlib import Path

from shakeout.corpus import codec
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.corpus.storage import ValueKind
from shakeout.fuzz.reporting.plain import ordinary


def case(dtype: str = "float32", kind: ValueKind = "integers", **setting) -> Case:
    x = TensorType(dtype, (2, 3))
    program = Program((Input(x),), (Call("torch.mul", (Ref(0), 2), (), (x,)),), (1,))
    inputs = InputSet((Storage(dtype, 6, Values(kind, 1)),), (View(0, dtype, (2, 3), (3, 1)),))
    return Case(program, (inputs,), Setting("inductor", **setting))


def test_what_is_ordinary() -> None:
    assert ordinary(case()) == "yes"
    assert ordinary(case("float8_e5m2")) == "no (float8_e5m2)"
    assert ordinary(case(kind="special")) == "no (special values)"
    assert ordinary(case(knobs=(("freezing", True),))) == "no (knobs)"


def test_stored_cases_are_read_back(tmp_path: Path) -> None:
    from shakeout.fuzz.running.case_file import read_case

    path = tmp_path / "case.json"
    path.write_text(codec.encode(case()))
    assert read_case(path, None) == case()
    assert read_case(path, "aot_eager").setting.target == "aot_eager"

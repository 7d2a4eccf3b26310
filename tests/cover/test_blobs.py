"""Large values in files beside a case: written, found, verified, cut down, and refused in words."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.faults.fault import Canary
from tests.faults.graphs import Graph, Site

from shakeout.corpus import blobs, codec, script
from shakeout.corpus.blobs import BadBlob
from shakeout.corpus.capture import capture, describe_inputs
from shakeout.corpus.case import Case, Setting, Storage, Values
from shakeout.corpus.short_script import short
from shakeout.fuzz.cli import main
from shakeout.fuzz.commands.replay import replay_case
from shakeout.fuzz.minimise import tensors
from shakeout.fuzz.minimise.edit import as_literal, recorded, shaped
from shakeout.fuzz.minimise.executors import in_process
from shakeout.fuzz.minimise.order import size
from shakeout.fuzz.minimise.search import Budget, minimise
from shakeout.fuzz.reporting.exported import observed
from shakeout.fuzz.running import fresh
from shakeout.fuzz.running.case_file import read_case
from shakeout.fuzz.running.execute import repro
from shakeout.generators.inputsets import tensors_of
from shakeout.generators.values import DTYPES, tensor_of


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blobs.VARIABLE, "")  # what a test tells this process is forgotten behind it


def network(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.elu(x.t()[:5]).reciprocal()


def large(rows: int = 60, columns: int = 50) -> torch.Tensor:
    """Numbers that no range of a seed gives, and one minus zero far behind."""
    found = torch.linspace(0.5, 3.0, rows * columns).reshape(rows, columns).sin() + 2
    found[7, 3] = -0.0
    return found


def stored(folder: Path, target: str = "inductor", tensor: torch.Tensor | None = None) -> Case:
    """A case with a large input in a folder, as somebody would hand it over."""
    given = large() if tensor is None else tensor
    case = capture(network, lambda: [given.clone()], setting=Setting(target), directory=folder)
    folder.mkdir(exist_ok=True)
    (folder / "case.json").write_text(case.text + "\n")
    return case


# --- writing and reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_by_bit(dtype: str, tmp_path: Path) -> None:
    bits = (
        torch.arange(64, dtype=torch.uint8).repeat(16) if dtype != "bool" else torch.arange(64, dtype=torch.uint8) % 2
    )
    flat = bits.view(DTYPES[dtype])
    values = blobs.write(flat, tmp_path)
    again = blobs.load(Storage(dtype, flat.numel(), values))
    assert again.dtype == flat.dtype
    assert torch.equal(again.view(torch.uint8), bits)
    with pytest.raises(BadBlob):
        blobs.load(Storage(dtype, flat.numel() + 8192, values))


def test_equal_values_are_one_file_and_one_case(tmp_path: Path) -> None:
    one, other = stored(tmp_path / "a"), stored(tmp_path / "b")
    assert one == other
    assert one.id == other.id
    assert len(list((tmp_path / "a" / "blobs").iterdir())) == 1
    assert stored(tmp_path / "a", tensor=large() + 1) != one


def test_a_large_input_is_in_a_file_and_a_small_one_in_the_text(tmp_path: Path) -> None:
    tensors_ = [torch.arange(256.0), torch.arange(257.0), torch.zeros(0)]
    kinds = [storage.values.kind for storage in describe_inputs(tensors_, tmp_path).storages]
    assert kinds == ["literal", "blob", "literal"]
    assert {storage.values.kind for storage in describe_inputs(tensors_).storages} == {"literal"}


def test_a_view_of_a_large_storage_stays_one(tmp_path: Path) -> None:
    base = torch.arange(1000.0)
    pair = [base.view(10, 100)[:, ::2], base[5:]]
    described = describe_inputs(pair, tmp_path)
    assert described.shared()
    for tensor, again in zip(pair, tensors_of(described, training=False), strict=True):
        assert torch.equal(tensor, again)
        assert tensor.stride() == again.stride()


@given(st.integers(0, 2000), st.sampled_from(sorted(DTYPES)), st.integers(0, 1000))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_case_with_a_blob_is_what_was_written(tmp_path: Path, count: int, dtype: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    top = 2 if dtype == "bool" else 256
    raw = torch.randint(0, top, (count * DTYPES[dtype].itemsize,), dtype=torch.uint8, generator=generator)
    values = blobs.write(raw.view(DTYPES[dtype]), tmp_path)
    case = stored(tmp_path / "case", "eager")
    (inputs,) = case.input_sets
    held = replace(case, input_sets=(replace(inputs, storages=(*inputs.storages, Storage(dtype, count, values))),))
    again = codec.decode(held.text, [str(tmp_path)])
    assert again.text == held.text
    assert torch.equal(blobs.load(again.input_sets[0].storages[1]).view(torch.uint8), raw)


# --- the way from capture to a report ---------------------------------------------------------------------------------


def test_two_million_elements_go_from_capture_to_replay(tmp_path: Path) -> None:
    case = stored(tmp_path, "aot_eager", large(2000, 1000))
    assert len(case.text) < 2000
    assert replay_case(tmp_path / "case.json") == 0


@pytest.mark.long
def test_a_script_reads_the_file_beside_it_and_nothing_else(tmp_path: Path) -> None:
    case = stored(tmp_path, "aot_eager")
    (tmp_path / "repro.py").write_text(repro(case))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, str(tmp_path / "repro.py")]
    done = subprocess.run(command, check=False, cwd=elsewhere, text=True, capture_output=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference")
    brief = short(case, "def prepare(network):\n    return torch.compile(network, backend='aot_eager')")
    assert brief is not None
    (tmp_path / "short.py").write_text(brief)
    done = subprocess.run([sys.executable, str(tmp_path / "short.py")], check=False, text=True, capture_output=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "no difference"), done.stderr
    shutil.copy(tmp_path / "repro.py", elsewhere)
    moved = subprocess.run([sys.executable, str(elsewhere / "repro.py")], check=False, text=True, capture_output=True)
    assert moved.returncode == 125
    assert "FileNotFoundError" in moved.stdout


def test_a_file_that_was_changed_is_not_run(tmp_path: Path) -> None:
    case = stored(tmp_path, "aot_eager")
    (tmp_path / "repro.py").write_text(repro(case))
    (path,) = (tmp_path / "blobs").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    done = subprocess.run([sys.executable, str(tmp_path / "repro.py")], check=False, text=True, capture_output=True)
    assert done.returncode == 125
    assert "was changed" in done.stdout


def test_the_blobs_of_a_case_may_lie_in_its_campaigns_folder(tmp_path: Path) -> None:
    stored(tmp_path)
    finding = tmp_path / "bugs" / "b1"
    finding.mkdir(parents=True)
    (tmp_path / "case.json").rename(finding / "case.json")
    case = read_case(finding / "case.json", None)
    assert torch.equal(tensor_of(case.input_sets[0].storages[0]).reshape(60, 50), large())


def test_processes_that_are_started_find_what_a_command_has_read(tmp_path: Path) -> None:
    stored(tmp_path)
    case = read_case(tmp_path / "case.json", None)
    code = "import sys; from shakeout.corpus import blobs, codec; blobs.verify(codec.decode(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, case.text], check=True, cwd="/")
    alone = {**os.environ, blobs.VARIABLE: ""}
    done = subprocess.run(
        [sys.executable, "-c", code, case.text], check=False, env=alone, capture_output=True, text=True
    )
    assert "is missing; looked in nowhere" in done.stderr


# --- what may lie there instead ---------------------------------------------------------------------------------------


def spoiled(path: Path, how: str) -> None:
    match how:
        case "missing":
            path.unlink()
        case "another tensor":
            safetensors.torch.save_file({"values": torch.zeros(3000)}, path)
        case "another name":
            safetensors.torch.save_file({"weights": large().flatten()}, path)
        case "another shape":
            safetensors.torch.save_file({"values": large()}, path)
        case "more tensors":
            safetensors.torch.save_file({"values": large().flatten(), "more": torch.zeros(1)}, path)
        case "text":
            path.write_text("x" * path.stat().st_size)
        case "empty":
            path.write_bytes(b"")
        case "longer":
            path.write_bytes(path.read_bytes() + bytes(1 << 20))
        case "a header that claims much":
            header = b'{"values":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'
            path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(12000))
        case "a long header":
            path.write_bytes((1 << 62).to_bytes(8, "little") + bytes(12000))
        case "a pickle":
            torch.save({"values": large().flatten()}, path)
        case "a directory":
            path.unlink()
            path.mkdir()


HOSTILE = (
    "missing|another tensor|another name|another shape|more tensors|text|empty|longer|a header that claims much|"
    "a long header|a pickle|a directory"
).split("|")


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("command", ["replay", "minimise", "bisect"])
def test_a_bad_blob_is_one_line_and_status_2(
    how: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path)
    (path,) = (tmp_path / "blobs").iterdir()
    spoiled(path, how)
    status = main([command, str(tmp_path / "case.json")])
    said = capsys.readouterr()
    assert status == 2
    assert path.stem in said.err
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_a_storage_of_another_size_or_dtype_is_not_what_the_name_says(tmp_path: Path) -> None:
    values = blobs.write(torch.arange(1000.0), tmp_path)
    with pytest.raises(BadBlob, match="no storage of 999999"):
        blobs.load(Storage("float32", 999_999, values))
    assert blobs.load(Storage("int32", 1000, values)).dtype == torch.int32  # the same bytes, read otherwise


def test_a_case_that_knows_its_blobs_takes_them_into_a_fresh_process(tmp_path: Path) -> None:
    stored(tmp_path / "here", target="eager")
    text = (tmp_path / "here" / "case.json").read_text()
    answer = fresh.answer(codec.decode(text, [str(tmp_path / "here" / blobs.FOLDER)]), 120)
    assert (answer.status, answer.lines[0]) == (fresh.NO_DIFFERENCE, "no difference")
    result = observed(codec.decode(text, [str(tmp_path / "here" / blobs.FOLDER)]))
    assert result is not None
    assert result.status == "compared", result.reason
    assert not os.environ[blobs.VARIABLE]


def test_format_1_has_no_blobs(tmp_path: Path) -> None:
    data = json.loads(stored(tmp_path).text)
    assert data["format"] == 2
    with pytest.raises(codec.MalformedCase, match="format 1 has no blobs"):
        codec.from_json({**data, "format": 1})


# --- smaller ones -----------------------------------------------------------------------------------------------------


def test_a_part_of_a_blob_keeps_its_values(tmp_path: Path) -> None:
    case = stored(tmp_path)
    (inputs,) = case.input_sets
    with blobs.workshop():
        for shape in ((60, 20), (5, 50), (4, 4)):
            cut = shaped(inputs, {0: shape})
            assert torch.equal(tensors_of(cut, training=False)[0], large()[: shape[0], : shape[1]])
            kind = cut.storages[0].values.kind
            assert kind == ("literal" if shape == (5, 50) or shape == (4, 4) else "blob")
        (last,) = tensors_of(shaped(inputs, {0: (30, 20)}, last=True), training=False)
        assert torch.equal(last, large()[30:, 30:])
    assert len(list((tmp_path / "blobs").iterdir())) == 1, "what was tried is gone"


def test_a_blob_takes_another_dtype(tmp_path: Path) -> None:
    odd = large().double()
    odd[0, :3] = torch.tensor([float("nan"), float("inf"), 1e300], dtype=torch.float64)
    case = stored(tmp_path, tensor=odd)
    with blobs.workshop():
        made = {one.input_sets[0].storages[0].dtype for one in tensors.dtypes(case)}
        assert made == {"float32"}
        whole = tensors._cast(case.input_sets[0].storages[0], "int8")
        assert tensor_of(whole)[:3].tolist() == [0, 0, 127]
        assert tensor_of(tensors._cast(case.input_sets[0].storages[0], "bool"))[357:359].tolist() == [True, True]


def test_what_takes_a_calls_place_keeps_its_values(tmp_path: Path) -> None:
    def longer(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.elu(x.mul(2)).reciprocal()

    tensor = large(100, 80)
    case = capture(longer, lambda: [tensor.clone()], setting=Setting("eager"), directory=tmp_path)
    with blobs.workshop():
        fresh = recorded(case, frozenset({1, 2}))
        assert fresh is not None
        ((_, storage),) = fresh[1].places
        assert storage is not None
        assert torch.equal(tensor_of(storage), (tensor * 2).flatten())


def test_a_blob_costs_more_than_a_range_and_less_text_than_literals(tmp_path: Path) -> None:
    case = stored(tmp_path)
    (inputs,) = case.input_sets
    plain = replace(inputs, storages=(Storage("float32", 3000, Values("uniform", 1, -2, 2)),))
    assert size(replace(case, input_sets=(plain,))) < size(case)
    literal = replace(inputs, storages=(as_literal(inputs.storages[0]),))
    assert len(replace(case, input_sets=(literal,)).text) > 10 * len(case.text)


def positive(site: Site, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The reciprocal of minus zero is one of zero."""
    return operator(torch.where(args[0] == 0, args[0].abs(), args[0]))


def test_minus_zero_among_three_thousand_numbers_is_found(tmp_path: Path) -> None:
    """From a user's tensor to a handful of numbers."""
    case = stored(tmp_path, "aot_eager")
    graph = Graph((torch.ops.aten.reciprocal.default,), positive)
    with blobs.workshop(), graph.planted(Canary()):
        found = minimise(case, in_process, budget=Budget(90.0, 300))
    assert "blob(" not in script.body(found.case)
    assert sum(storage.size for storage in found.case.input_sets[0].storages) <= 4
    assert found.case.program.operators() == ("torch.Tensor.reciprocal",)

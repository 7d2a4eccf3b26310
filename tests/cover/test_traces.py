"""What the reference refused and took while a program grew is told, kept within bounds, and learnt from."""

import json
from pathlib import Path

import pytest

from shakeout.corpus.program import Call, Input, Program, Ref, Slice, TensorType
from shakeout.fuzz import cli
from shakeout.fuzz.campaign.traces import MOST_OF_OPERATOR, NAME, TraceLog, read_traces
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.learning.store import MOST_SEEN, Files
from shakeout.generators.rules.execution import executed
from shakeout.generators.rules.observed import observed_call, taken
from shakeout.generators.rules.trace import Trace

X = TensorType("float32", (3, 4))
REFUSED = Trace("torch.mm", (Ref(0), Ref(1)), (), (X, X), error="RuntimeError: no", source="campaign").to_json()
TAKEN = Trace("torch.relu", (Ref(0),), (), (X,), (X,), source="campaign").to_json()


def test_the_calls_of_a_program_are_traces_with_operands_of_their_own() -> None:
    wide = TensorType("float32", (3, 8))
    program = Program(
        (Input(X), Input(X)),
        (
            Call("torch.relu", (Ref(1),), (), (X,)),
            Call("torch.cat", ((Ref(2), Ref(1)), 1), (), (wide,)),
            Call("torch.Tensor.__getitem__", (Ref(3), (Slice(0, 2, None),)), (), (TensorType("float32", (2, 8)),)),
        ),
        (4,),
    )
    relu, cat, item = taken(program)
    assert relu == Trace("torch.relu", (Ref(0),), (), (X,), (X,), source="campaign")
    assert (cat.args, cat.operands, cat.results) == (((Ref(0), Ref(1)), 1), (X, X), (wide,))
    assert item.args == (Ref(0), (Slice(0, 2, None),))
    # As they stand, they can be run again.
    for trace in (relu, cat, item):
        again = executed(trace)
        assert again is not None
        assert again.results == trace.results


def test_a_refused_call_says_what_it_was_called_with() -> None:
    trace = observed_call("torch.mm", (Ref(7), Ref(5)), (), (7, 5), {5: X, 7: X}, error="RuntimeError: #x# and #x#")
    assert trace == Trace(
        "torch.mm", (Ref(0), Ref(1)), (), (X, X), error="RuntimeError: #x# and #x#", source="campaign"
    )
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_few_of_each_operator_are_kept_and_a_line_that_was_cut_off_spoils_no_other(tmp_path: Path) -> None:
    with TraceLog(tmp_path) as log:
        log.add([REFUSED] * (2 * MOST_OF_OPERATOR))
        log.add([TAKEN])
    with (tmp_path / NAME).open("a") as file:
        file.write('["torch.mm", [')
    with TraceLog(tmp_path) as log:
        log.add([TAKEN])
    rows = list(read_traces(tmp_path / NAME))
    assert rows == [json.loads(json.dumps(REFUSED))] * MOST_OF_OPERATOR + [json.loads(json.dumps(TAKEN))] * 2
    assert list(read_traces(tmp_path / "none")) == []


def test_calls_of_campaigns_are_kept_once_and_few_of_each_operator(tmp_path: Path) -> None:
    files = Files(tmp_path / "learning")
    assert files.add([TAKEN, TAKEN, REFUSED]) == 2
    assert files.add([REFUSED, TAKEN]) == 0
    shapes = [TensorType("float32", (size,)) for size in range(2 * MOST_SEEN)]
    assert files.add(Trace("torch.relu", (Ref(0),), (), (X,), (X,)).to_json() for X in shapes) == MOST_SEEN - 1
    assert {name: len(rows) for name, rows in files.seen().items()} == {"torch.mm": 1, "torch.relu": MOST_SEEN}


def test_a_campaign_of_operators_that_were_never_learnt_is_told(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAKEOUT_CACHE", str(tmp_path / "cache"))
    kernel = [*TAKEN]
    kernel[0] = "nowhere:kernel"
    with TraceLog(tmp_path) as log:
        log.add([TAKEN, kernel])
    assert cli.main(["learn", "--from", "."]) == Exit.OK
    out = capsys.readouterr().out
    assert "nowhere:kernel was never learnt here, and is left out" in out
    assert "torch was never learnt here" in out

"""Every dtype of torch goes through what generates, learns, runs and judges: it is handled, or left out and told."""

import importlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from shakeout.corpus import codec, script, standalone
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.corpus.short_script import short
from shakeout.corpus.value_cache import filled
from shakeout.fuzz.learning.errors import Errors
from shakeout.fuzz.learning.maker import case_of
from shakeout.fuzz.running.replicas import replica
from shakeout.fuzz.running.runs import baseline, exact, observe, poisoned, relaid
from shakeout.generators.choices import SeededChoices
from shakeout.generators.definedness import in_range, ordinary
from shakeout.generators.rules.augment import retyped
from shakeout.generators.rules.collect import Tracer
from shakeout.generators.rules.examine import Budget, calls_of, examine
from shakeout.generators.rules.execution import executed, outcome
from shakeout.generators.rules.measure import learn_measured
from shakeout.generators.rules.trace import Trace
from shakeout.generators.values import DTYPES, NAMES, InputSampler, tensor_of
from shakeout.generators.vocabularies.bootstrap import records_of_examples
from shakeout.generators.vocabularies.kernel import records_of_rule
from shakeout.generators.vocabularies.probe import operand, retype
from shakeout.generators.vocabularies.recorder import Unrecordable, heard, type_of
from shakeout.generators.vocabularies.records import Record, Spread
from shakeout.oracles import tolerance
from shakeout.oracles.deviation import DEVIATIONS, deviation

MODULE = "shakeout_test_dtypes"
TEXT = """
import torch

import shakeout


@shakeout.kernel(reference=lambda x, y: torch.cat([x, y]))
def kernel(x, y):
    return torch.cat([x, y])


@shakeout.kernel(reference=lambda x: x.view(torch.bits8))
def odd(x):
    return x.view(torch.bits8)
"""

EVERY = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
HELD = [dtype for dtype in EVERY if dtype in NAMES]
LEFT_OUT = [dtype for dtype in EVERY if dtype not in NAMES]


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    (folder / f"{MODULE}.py").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has something to say of complex32, of bits and of quantised ones
        patch.syspath_prepend(str(folder))
        patch.setenv("SHAKEOUT_ALLOW", MODULE)
        patch.chdir(folder)
        importlib.invalidate_caches()
        yield folder


def failing(error: Exception) -> None:
    raise error


def extremes(dtype: torch.dtype) -> list[torch.Tensor]:
    """Tensors of a dtype: ordinary ones, none, and the ends of its range."""
    given = [operand(NAMES[dtype], shape, Spread(), torch.float32) for shape in ((3, 5), (4, 4), (2,), (), (0, 3))]
    if dtype.is_floating_point or dtype.is_complex:
        f = torch.finfo(dtype)
        ends = [float("nan"), float("inf"), -float("inf"), f.max, f.min, f.tiny, 0.0, -0.0]
        return [*given, torch.tensor(ends, dtype=torch.float64).to(dtype), torch.full((9,), float("inf")).to(dtype)]
    if dtype == torch.bool:
        return given
    i = torch.iinfo(dtype)
    return [*given, torch.tensor([i.min, i.max] * 4, dtype=dtype), torch.full((3, 3), i.max, dtype=dtype)]


def test_there_are_dtypes_of_both_kinds() -> None:
    assert set(HELD) == set(DTYPES.values())
    assert {"torch.float8_e4m3fnuz", "torch.uint64", "torch.complex32"} <= set(map(str, HELD))
    assert {"torch.quint8", "torch.bits8", "torch.float4_e2m1fn_x2", "torch.uint4"} <= set(map(str, LEFT_OUT))


@pytest.mark.parametrize("dtype", LEFT_OUT, ids=str)
def test_what_a_case_cannot_hold_is_not_recorded_and_no_result(dtype: torch.dtype) -> None:
    tensor = torch.empty(4, dtype=dtype)
    with pytest.raises(Unrecordable):
        heard("toy:odd", (tensor,), {})
    assert outcome([tensor]) is None
    lost: list[Exception] = []
    assert records_of_examples(f"{MODULE}:odd", [((tensor,), {})], list(DTYPES), lost.append) == []
    assert lost == []


def test_an_operator_whose_result_no_case_can_hold_has_no_records() -> None:
    lost: list[Exception] = []
    assert records_of_examples(f"{MODULE}:odd", [((torch.ones(4),), {})], list(DTYPES), lost.append) == []
    assert lost == []
    assert executed(Trace(f"{MODULE}:odd", (Ref(0),), (), (TensorType("float32", (4,)),))) is None


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_every_dtype_is_heard_recorded_examined_learnt_and_drawn(dtype: torch.dtype) -> None:
    name, operator = NAMES[dtype], f"{MODULE}:kernel"
    tracer = Tracer()
    records: list[Record] = []
    for tensor in extremes(dtype):
        if tensor.dim():
            told = tracer(heard(operator, (tensor, tensor), {}))
            assert told is not None
            told(torch.cat([tensor, tensor]), None)
            records += records_of_examples(operator, [((tensor, tensor), {})], list(DTYPES), failing)
    assert all(name in record.dtypes for record in records)
    for record in records:
        again = Record.from_json(operator, json.loads(json.dumps(record.to_json())))
        assert again == record or any(slot.spread.high != slot.spread.high for slot in record.slots)
        assert retype(record, operator) is not None
    calls = [call for record in records for call in calls_of(record)]
    assert name in {call.operands[0].dtype for call in calls}
    for call in [*calls[:3], *retyped(calls[0], list(DTYPES))]:
        assert executed(call) is not None
    found = examine(operator, tracer.take(), records[:1], executed, Budget(variant=24, bases=1))
    learnt = [one for one in learn_measured(found.traces, found.spreads, executed) if one.rule is not None]
    assert learnt
    for one in learnt:
        assert one.rule is not None
        drawn = records_of_rule(one.rule, found.spreads.get(one.variant, ()), executed, 8, failing)
        assert drawn or "empty" in str(one.notes)


SPREADS = [
    *(Spread(kind, low, high) for kind in ("any", "index", "distinct", "sorted") for low, high in ((0, 3), (-2, 2))),
    *(Spread("any", float(bound), float(bound)) for bound in (-(2.0**63), 2.0**63, 2.0**64, 1e300)),
    Spread("any"),
    Spread("any", 0.0, float("inf")),
    Spread("index", -(2**63), 2**63 - 1),
    Spread("definite"),
    Spread("index", 0, 2**64 - 1, (0, 1, 2, 3, 4, 5, 6, 7, 2**64 - 1)),
]


@pytest.mark.parametrize("dtype", HELD, ids=str)
@pytest.mark.parametrize("spread", SPREADS, ids=str)
def test_every_dtype_is_filled_for_every_need(dtype: torch.dtype, spread: Spread) -> None:
    name = NAMES[dtype]
    made = operand(name, (3, 3), spread, torch.float32)
    assert (made.dtype, made.shape) == (dtype, (3, 3))
    assert type_of(made) == TensorType(name, (3, 3))
    for kind in ("integers", "uniform", "special"):
        sampler = InputSampler(SeededChoices(1), kind, 0.5)
        given = sampler.given(name, (3, 3), spread, writable=False, plain=False)
        if given is not None and spread.literal is None:
            storage = given.storage()
            flat = tensor_of(storage)
            assert flat.dtype == DTYPES[storage.dtype]
            view = given.view(0)
            seen = standalone.strided(flat, dtype, view.shape, view.strides, view.offset)
            ordinary(seen)
            in_range(seen, -1, 1)


def case(dtype: torch.dtype, values: Values, training: bool = False) -> Case:
    name = NAMES[dtype]
    program = Program(
        (Input(TensorType(name, (3, 5))),),
        (Call("torch.Tensor.clone", (Ref(0),), (), (TensorType(name, (3, 5)),), "tensor"),),
        (1,),
    )
    view = View(0, name, (3, 5), contiguous((3, 5)), requires_grad=training)
    mode = "training" if training else "inference"
    return Case(program, (InputSet((Storage(name, 15, values),), (view,)),), Setting("eager", mode=mode))


@pytest.mark.parametrize("dtype", HELD, ids=str)
@pytest.mark.parametrize("kind", ["integers", "uniform", "special"])
def test_every_dtype_runs_is_printed_and_is_judged(dtype: torch.dtype, kind: str) -> None:
    low, high = (0, 1) if dtype == torch.bool else (0, 3)
    tensor = filled(dtype, (3, 5), kind, 3, low, high)
    table = tolerance.TABLE
    for training in (False, dtype.is_floating_point or dtype.is_complex):
        given = case(dtype, Values(kind, 3, low, high), training)
        assert codec.decode(codec.encode(given)) == given
        assert short(given, "def prepare(network):\n    return network\n")
        one, other = (observe(script.load(given)) for _ in range(2))
        assert one.error is None
        assert standalone.differences(one.calls, other.calls, table, ("layout",)) == []
        assert standalone.mark(one.calls) == standalone.mark(other.calls)
        for again in (relaid(given), poisoned(given), baseline(given), replica(given, 1)):
            assert again.error is None, again.error
        proof = exact(given)
        assert proof.error is None or proof.error.kind == "NotExact", proof.error
    assert standalone.aliases([tensor, tensor], []) == [0, 0]
    wide = torch.complex128 if dtype.is_complex else torch.float64
    bad = torch.ones(tensor.shape, dtype=torch.bool)
    assert tolerance.within(tensor, tensor).all()
    assert not tolerance.Bound.RELATIVE.beyond(tensor, tensor).any()
    assert tolerance.moved(tensor, tensor, tensor.to(wide), [tensor]).shape == tensor.shape
    assert deviation(tensor, filled(dtype, (3, 5), kind, 4, low, high), bad) in DEVIATIONS


@pytest.mark.parametrize("dtype", HELD, ids=str)
def test_a_lost_call_of_every_dtype_can_be_written_down(dtype: torch.dtype) -> None:
    call = Trace("torch.Tensor.clone", (Ref(0),), (), (TensorType(NAMES[dtype], (2, 2)),))
    written = case_of(call, (Spread(),))
    assert codec.decode(written.text) == written


def test_a_call_that_meets_an_error_costs_its_record_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    from shakeout.generators.vocabularies import drafts

    plain = drafts.Seen.add

    def add(self: drafts.Seen, tensor: torch.Tensor) -> None:
        if tensor.dtype == torch.float8_e4m3fnuz:
            raise NotImplementedError("not for 'Float8_e4m3fnuz'\nand more")
        plain(self, tensor)

    monkeypatch.setattr(drafts.Seen, "add", add)
    errors = Errors({"KeyError: x": 1})
    calls = [((torch.ones(3).to(d), torch.ones(3).to(d)), {}) for d in (torch.float8_e4m3fnuz, torch.float32)]
    records = records_of_examples(f"{MODULE}:kernel", calls, list(DTYPES), errors)
    assert len(records) == 1
    assert errors.counts == {"KeyError: x": 1, "NotImplementedError: not for 'Float8_e4m3fnuz'": 1}


def test_an_error_while_a_call_runs_is_counted_and_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from rich.console import Console

    from shakeout.fuzz.commands.learn import _tell
    from shakeout.fuzz.ground.jobs import Examine, Learn
    from shakeout.fuzz.learning import maker
    from shakeout.fuzz.learning.gather import gathered
    from shakeout.fuzz.learning.learn import LearntOperators
    from shakeout.fuzz.learning.store import Files
    from shakeout.generators.rules import execution

    operator, plain = f"{MODULE}:kernel", execution.executed

    def run(call: Trace, spreads: Sequence[Spread] = ()) -> Trace | None:
        if call.operands[0].dtype == "float16":
            raise RuntimeError("no half numbers today")
        return plain(call, spreads)

    monkeypatch.setattr(execution, "executed", run)
    traces = [
        plain(Trace(operator, (Ref(0), Ref(1)), (), (TensorType("float32", (n, 2)), TensorType("float32", (m, 2)))))
        for n in (1, 2, 3, 4)
        for m in (1, 2, 5)
    ]
    files = Files(tmp_path / "learning")
    rows = [trace.to_json() for trace in traces if trace is not None]
    slot = Quiet()
    examine = Examine(target="eager", operator=operator, traces=tuple(rows), calls=24)
    files.write(files.examined(operator), maker.work(examine, slot).learnt)
    learn = Learn(target="eager", operator=operator, examined=str(files.examined(operator)))
    files.write(files.rules(operator), maker.work(learn, slot).learnt)
    content = gathered(files)
    assert content["failed"] == {}
    assert content["errors"][operator]["RuntimeError: no half numbers today"] > 0
    _tell(LearntOperators((operator,), content, tmp_path / "rules.json", (), 1.0, named=True), Console(width=200))
    out = capsys.readouterr().out
    assert "1 rules" in out
    assert f"calls of {operator}: RuntimeError: no half numbers today" in out


class Quiet:
    """A slot that nobody looks at."""

    def case(self, text: str) -> None:
        """Take a call."""

    def phase(self, name: str) -> None:
        """Take a phase."""

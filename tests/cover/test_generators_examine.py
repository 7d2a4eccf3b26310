"""Neighbours of recorded calls, how they are run, and what is known of an operator afterwards."""

import contextlib
from collections.abc import Sequence

import pytest
import torch

from shakeout.corpus.program import Name, Ref, Slice, TensorType
from shakeout.generators.rules import augment, collect
from shakeout.generators.rules.examine import Budget, calls_of, examine
from shakeout.generators.rules.execution import executed
from shakeout.generators.rules.observed import template
from shakeout.generators.rules.trace import Trace, symbols, variant_of
from shakeout.generators.vocabularies.recorder import CallRecorder, operator_names
from shakeout.generators.vocabularies.records import Record, Slot, Spread

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch about odd arguments

MATRICES = (TensorType("float32", (2, 3)), TensorType("float32", (3, 4)))
PRODUCT = Trace("torch.mm", (Ref(0), Ref(1)), (), MATRICES, (TensorType("float32", (2, 4)),), source="sample")
NARROW = Trace(
    "torch.narrow", (Ref(0), 1, 2, 3), (), (TensorType("float32", (4, 6)),), (TensorType("float32", (4, 3)),)
)


def shapes(traces: Sequence[Trace]) -> set[tuple[tuple[int, ...], ...]]:
    return {tuple(operand.shape for operand in trace.operands) for trace in traces}


def test_neighbours_of_sizes_change_alone_together_swap_and_vanish() -> None:
    found = shapes(augment.neighbours(PRODUCT, 400))
    assert ((3, 3), (3, 4)) in found  # one alone
    assert ((2, 4), (4, 4)) in found  # what must agree
    assert ((2, 0), (0, 4)) in found  # nothing to add up
    assert ((0, 3), (3, 4)) in found
    assert ((4, 3), (3, 2)) in found  # swapped
    assert ((3, 4), (4, 5)) in found  # all
    assert all(max(map(max, both)) < 40 for both in found)


def test_neighbours_of_attributes_are_at_the_bounds() -> None:
    tried = {trace.args[1:] for trace in augment.neighbours(NARROW, 400)}
    for attributes in [(1, 2, 0), (1, 2, -2), (1, 2, 6), (1, 2, 7), (-2, 2, 3), (-3, 2, 3), (1, -6, 3), (1, -7, 3)]:
        assert attributes in tried
    assert all(variant_of(trace) == variant_of(NARROW) for trace in augment.neighbours(NARROW, 400))


def test_a_limit_cuts_repetitions_and_not_kinds() -> None:
    few = augment.neighbours(NARROW, 30)
    assert len(few) == 30
    assert {trace.args for trace in few} != {NARROW.args}
    assert len(shapes(few)) > 5
    assert few == augment.neighbours(NARROW, 30)


def test_integers_within_sequences_and_slices_are_changed_in_their_place() -> None:
    trace = Trace(
        "torch.Tensor.__getitem__",
        (Ref(0), (Slice(1, 3, None), 2)),
        (("unused", (4, True)),),
        (TensorType("float32", (5, 6)),),
    )
    values = augment.integers(trace)
    assert sorted(values.values()) == [1, 2, 3, 4, 5, 6]
    found = augment.changed(trace, {place: value + 10 for place, value in values.items()})
    assert found is not None
    assert found.args == (Ref(0), (Slice(11, 13, None), 12))
    assert found.kwargs == (("unused", (14, True)),)
    assert found.operands == (TensorType("float32", (15, 16)),)
    assert symbols(found) == {name: value + 10 for name, value in symbols(trace).items()}


@pytest.mark.parametrize("values", [{("size", (0, 0)): -1}, {("size", (0, 0)): 5000}, {("attribute", (1,)): 65}])
def test_what_is_negative_or_large_is_no_neighbour(values: dict) -> None:
    assert augment.changed(NARROW, values) is None


def test_dtypes_change_together_and_alone() -> None:
    found = {tuple(operand.dtype for operand in trace.operands) for trace in augment.retyped(PRODUCT)}
    assert {("bool", "bool"), ("float64", "float64"), ("float64", "float32"), ("float32", "int64")} <= found


def test_classes_change_together() -> None:
    classes = [[("size", (0, 0))], [("size", (0, 1)), ("size", (1, 0))]]
    found = augment.resized(PRODUCT, classes, 20)
    assert len(found) == 20
    assert all(one.operands[0].shape[1] == one.operands[1].shape[0] for one in found)


def test_what_came_of_a_call() -> None:
    done = executed(PRODUCT)
    assert done is not None
    assert (done.results, done.form, done.error) == ((TensorType("float32", (2, 4)),), "tensor", "")
    wrong = augment.changed(PRODUCT, {("size", (0, 1)): 5})
    assert wrong is not None
    refused = executed(wrong)
    assert refused is not None
    assert refused.error.startswith("RuntimeError: mat# and mat# shapes cannot be multiplied (#x# and #x#)")
    assert not refused.accepted
    parts = executed(Trace("torch.chunk", (Ref(0), 2), (), (TensorType("int64", (3,)),)))
    assert parts is not None
    assert (parts.form, [part.shape for part in parts.results if part]) == ("sequence", [(2,), (1,)])


@pytest.mark.parametrize(
    "call",
    [
        # Torch does not check pivots, and would write past its operands.
        Trace("torch.lu_unpack", (Ref(0), Ref(1)), (), (TensorType("float32", (3, 3)), TensorType("int32", (9,)))),
        Trace("torch.no_such_operator", (Ref(0),), (), (TensorType("float32", (3, 3)),)),
        Trace("torch.neg", (Ref(0),), (), (TensorType("float33", (3, 3)),)),
        Trace("torch.Tensor.to_sparse", (Ref(0),), (), (TensorType("float32", (3, 3)),)),
    ],
    ids=["not checked", "no operator", "no dtype", "no plain tensor"],
)
def test_of_some_calls_nothing_is_said(call: Trace) -> None:
    assert executed(call) is None


def test_an_error_is_told_without_its_numbers() -> None:
    assert template(ValueError("expected 3, got -1.5\nand more")) == "ValueError: expected #, got #"
    assert template(IndexError()) == "IndexError: "
    assert len(template(ValueError("long " * 1000))) <= 160


CELL = Slot("T", (0, 1))
ADD = Record(
    "torch.add",
    (Ref(0), Ref(1)),
    (),
    (CELL, CELL),
    (2, 3),
    (True, True),
    ("int64", "float32"),
    ranks=0b111,
    broadcasts=3,
)


def test_a_record_stands_for_its_dtypes_ranks_and_broadcasts() -> None:
    calls = calls_of(ADD)
    assert {call.operands[0].dtype for call in calls} == {"float32", "int64"}
    assert {((), ()), ((5,), (5,)), ((3, 5), (5,)), ((3, 1), (1, 5))} <= shapes(calls)


def test_an_operator_is_examined() -> None:
    found = examine("torch.mm", [PRODUCT], [], lambda call, spreads: executed(call, spreads))
    took = [trace for trace in found.traces if trace.accepted]
    assert len(took) > 20
    assert all(trace.operands[0].shape[1] == trace.operands[1].shape[0] for trace in took)
    assert any(0 in trace.operands[0].shape for trace in took)
    assert any("multiplied" in trace.error for trace in found.traces)
    assert any("dtype" in trace.error for trace in found.traces)  # one operand of another
    assert list(found.spreads) == [variant_of(PRODUCT)]


def test_the_budget_is_kept() -> None:
    made = []

    def count(call: Trace, spreads: Sequence[Spread]) -> Trace | None:
        made.append(call)
        return executed(call, spreads)

    examine("torch.mm", [PRODUCT], [], count, Budget(variant=12, bases=1))
    assert len(made) < 12 + 1 + len(augment.retyped(PRODUCT)) + 1


def test_an_index_is_filled_with_what_exists() -> None:
    record = Record(
        "torch.index_select",
        (Ref(0), 0, Ref(1)),
        (),
        (Slot("T", (0, 1)), Slot("int64", (2,), Spread("index", 0, 4, (4, 2)))),
        (5, 3, 2),
        (True, True, True),
        ("float32",),
    )
    found = examine("torch.index_select", [], [record], executed)
    # A smaller first operand is no reason to reject: only the recorded index was too large for it.
    assert any(trace.accepted and trace.operands[0].shape == (1, 3) for trace in found.traces)


def test_calls_that_contradict_each_other_crash_nothing() -> None:
    refused = Trace("torch.mm", PRODUCT.args, (), MATRICES, error="RuntimeError: never")
    other = Trace("torch.add", PRODUCT.args, (), MATRICES)
    impossible = Trace("torch.mm", PRODUCT.args, (), (MATRICES[0], MATRICES[0]), (MATRICES[0],))
    found = examine("torch.mm", [refused, other, impossible], [], executed)
    assert all(trace.operator == "torch.mm" for trace in found.traces)
    assert examine("torch.mm", [], [], executed).traces == ()
    assert examine("torch.mm", [PRODUCT], [], lambda call, spreads: None).traces == ()


def heard(function: object, *args: object, **kwargs: object) -> list[Trace]:
    tracer = collect.Tracer()
    with CallRecorder(operator_names(), tracer), contextlib.suppress(Exception):
        function(*args, **kwargs)
    return tracer.take()


def test_calls_are_heard_with_what_they_gave() -> None:
    (trace,) = heard(torch.sum, torch.ones(2, 3), 1, dtype=torch.float64)
    assert trace.args == (Ref(0), 1)
    assert trace.kwargs == (("dtype", Name("torch.float64")),)
    assert trace.results == (TensorType("float64", (2,)),)
    (refused,) = heard(torch.mm, torch.ones(2, 3), torch.ones(2, 3))
    assert "cannot be multiplied" in refused.error
    # What is written to is told as it was before.
    (resized,) = heard(torch.Tensor.t_, torch.ones(2, 3))
    assert resized.operands == (TensorType("float32", (2, 3)),)
    assert resized.results == (TensorType("float32", (3, 2)),)


def test_only_some_calls_of_a_variant_are_kept() -> None:
    def many() -> None:
        for size in range(100):
            torch.neg(torch.ones(size))
            torch.neg(torch.ones(size, dtype=torch.float64))
            torch.neg(torch.ones(3))

    found = [trace for trace in heard(many) if trace.operator == "torch.neg"]
    assert len(found) == collect.PER_VARIANT + collect.PER_DTYPE


def test_a_docstrings_examples_are_run_whatever_they_do() -> None:
    def function() -> None:
        """Examples.

        >>> x = torch.ones(2, 3)
        >>> raise SystemExit
        >>> print(torch.mm(x, x.t()))
        >>> undefined
        >>> torch.set_default_dtype(torch.float64)
        """

    tracer = collect.Tracer()
    collect._documented(function, tracer, CallRecorder(operator_names(), tracer))
    assert [trace.operator for trace in tracer.take()] == ["torch.ones", "torch.Tensor.t", "torch.mm"]
    assert torch.get_default_dtype() == torch.float32


def test_a_line_that_was_cut_off_is_missing(tmp_path) -> None:
    path = tmp_path / "traces.jsonl"
    assert collect.names_in(path) == set()
    path.write_text('\n{"entry": "add", "traces": []}\n\n[1]\n{"entry": "mm", "tra')
    assert collect.names_in(path) == {"add"}


def test_a_function_that_is_made_of_others_is_heard_as_one_call() -> None:
    """Torch tells a mode of torch.add, and nothing of torch.masked."""
    heard: list[str] = []
    recorder = CallRecorder(operator_names(), lambda call: heard.append(call.operator))
    x = torch.ones(3)
    assert recorder.hear(torch.masked.sum, (x,), {"mask": x > 0}).item() == 3.0
    recorder.hear(torch.add, (x, x), {})
    recorder.hear(lambda y: torch.neg(torch.abs(y)), (x,), {})
    assert heard == ["torch.masked.sum", "torch.add", "torch.abs", "torch.neg"]

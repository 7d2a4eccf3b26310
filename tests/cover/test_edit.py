"""The builder and the editor of programs: what they number, what they keep, and what they refuse."""

import pytest

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.edit import Builder, Rewriter, alone, assembled, live, numbered, replaced, rewritten
from shakeout.corpus.program import (
    Call,
    Input,
    InvalidProgram,
    Name,
    Program,
    Ref,
    Slice,
    TensorType,
    rebuilt,
    renumbered,
)

X = TensorType("float32", (2, 3))
Y = TensorType("float32", (3,))


def program() -> Program:
    """Two inputs; value 2 is a sum, 3 and 4 are the parts of a split, 5 is written in place, 6 is returned."""
    builder = Builder()
    x, y = builder.input(X), builder.input(X, "parameter")
    total = builder.call("torch.add", (x, y), X, alpha=2)
    first = builder.append(Call("torch.unbind", (total,), (), (Y, Y), "sequence"))
    second = Ref(first.index + 1)
    written = builder.call("torch.Tensor.neg_", (second,), Y)
    builder.call("torch.mul", (first, written), Y)
    return builder.program([6, 2])


def case(*shapes: tuple[int, ...]) -> Case:
    """A case with an input set for each shape, whose two inputs have their own values."""
    sets = []
    for shape in shapes or ((2, 3),):
        views = tuple(View(i, "float32", shape, contiguous(shape)) for i in range(2))
        size = TensorType("float32", shape).numel
        sets.append(InputSet(tuple(Storage("float32", size, Values("integers", i, -2, 2)) for i in range(2)), views))
    return Case(program(), tuple(sets), Setting("eager"))


def test_a_builder_numbers_what_it_is_given() -> None:
    made = program()
    assert made.inputs == (Input(X), Input(X, "parameter"))
    assert [call.operands() for call in made.calls] == [(0, 1), (2,), (4,), (3, 5)]
    assert made.calls[0].kwargs == (("alpha", 2),)
    assert made.types() == (X, X, X, Y, Y, Y, Y)
    assert made.firsts() == (2, 3, 5, 6)


def test_a_builder_takes_no_input_behind_a_call_and_no_value_that_is_not_there() -> None:
    builder = Builder()
    x = builder.input(X)
    builder.call("torch.neg", (x,), X)
    with pytest.raises(InvalidProgram, match="come before its calls"):
        builder.input(X)
    builder.call("torch.neg", (Ref(7),), X)
    with pytest.raises(InvalidProgram, match="uses value 7"):
        builder.program([1])


def test_arguments_are_walked_to_their_leaves() -> None:
    arg = (Ref(1), (Slice(None, Ref(0), 2), ...), Name("torch.float32"), True, 1.5)
    assert renumbered(arg, {0: 5, 1: 6}) == (Ref(6), (Slice(None, Ref(5), 2), ...), Name("torch.float32"), True, 1.5)
    assert renumbered(arg, [1, 0]) == (Ref(0), (Slice(None, Ref(1), 2), ...), Name("torch.float32"), True, 1.5)
    seen: list[object] = []
    assert rebuilt(arg, lambda leaf: seen.append(leaf) or leaf) == arg  # type: ignore[func-returns-value]
    assert seen == [Ref(1), None, Ref(0), 2, ..., Name("torch.float32"), True, 1.5]


def test_a_rewriter_that_copies_all_gives_the_program_itself() -> None:
    old = program()
    writer = Rewriter(old)
    for call, first in numbered(old):
        writer.copy(call, first)
    assert writer.rewritten() == old


def test_a_rewriter_puts_calls_in_between_and_leaves_values_out() -> None:
    old = program()
    writer = Rewriter(old, [1])
    writer.numbers[0] = 3  # a number takes the place of an input
    for call, first in numbered(old):
        writer.copy(call, first)
        if first == 2:
            writer.numbers[2] = writer.call("torch.clone", (writer.numbers[2],), X)
    new = writer.rewritten()
    assert new.inputs == old.inputs[1:]
    assert [call.operator for call in new.calls[:3]] == ["torch.add", "torch.clone", "torch.unbind"]
    assert new.calls[0].args == (3, Ref(0))
    assert [call.operands() for call in new.calls[1:]] == [(1,), (2,), (4,), (3, 5)]
    assert new.returns == (6, 2)
    with pytest.raises(InvalidProgram, match="returns values, not numbers"):
        writer.rewritten([0])
    with pytest.raises(KeyError):
        writer.rewritten([99])


def test_what_is_alive_is_returned_or_writes() -> None:
    old = program()
    assert live(old, range(4), [2]) == [0, 1, 2]  # the call that writes keeps what it needs
    assert live(old, (0, 1, 3), [6]) == [0, 1, 3]
    assert live(old, (0, 1, 3), [2]) == [0]


def test_calls_are_removed_replaced_and_put_together_with_their_inputs() -> None:
    old = case()
    calls = list(numbered(old.program))
    small = assembled(old, calls[:1], [2, 2])
    assert small is not None
    assert (len(small.program.calls), small.program.returns) == (1, (2,))
    assert assembled(old, calls[1:], [6]) is None  # what the first call made is not there
    other = rewritten(old, 0, Call("torch.sub", (Ref(1), Ref(1)), (), (X,)))
    assert other is not None
    # The first input is used by nobody any more.
    assert other.program.inputs == (Input(X, "parameter"),)
    assert other.input_sets[0].storages == old.input_sets[0].storages[1:]
    assert other.input_sets[0].views[0].storage == 0
    shorter = replaced(old, {2: 0}, {0})
    assert shorter is not None
    assert [call.operator for call in shorter.program.calls] == ["torch.unbind", "torch.Tensor.neg_", "torch.mul"]
    assert shorter.program.returns == (4, 0)
    one = replaced(old, {1: 0})
    assert one is not None
    assert one.program.calls[0].args == (Ref(0), Ref(0))


def test_one_call_alone_has_its_own_types() -> None:
    old = case((2, 3), (2, 5))
    last = alone(old, 1)
    assert last.input_sets == old.input_sets[1:]
    assert [given.type.shape for given in last.program.inputs] == [(2, 5), (2, 5)]
    assert [given.role for given in last.program.inputs] == ["input", "parameter"]

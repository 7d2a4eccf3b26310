"""Each kernel of a user has its mistake and no other: one call shows it, and none does where the kernel is mended."""

import importlib
import re
import sys
from collections.abc import Iterator, Sequence

import pytest
from tests.faults.mistakes import FOLDER, MISTAKES, MODULES, Mistake

from shakeout.corpus.case import Case, Cotangent, InputSet, Mode, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Arg, Call, Input, Program, Ref, TensorType
from shakeout.corpus.user_objects import ALLOWED, find
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import target


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv(ALLOWED, ",".join(MODULES))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)
    find.cache_clear()
    target.cache_clear()


def called(
    mistake: Mistake,
    *inputs: Sequence[float],
    shapes: Sequence[tuple[int, ...]],
    result: TensorType,
    more: Sequence[Arg] = (),
    mode: Mode = "inference",
    transposed: bool = False,
    calls: int = 1,
    cotangent: Cotangent = "whole",
) -> Case:
    """One call of a kernel; the values of a further call are twice those of the one before."""
    types = [TensorType(result.dtype, shape) for shape in shapes]
    call = Call(mistake.target, (*map(Ref, range(len(types))), *more), (), (result,))
    program = Program(tuple(map(Input, types)), (call,), (len(types),), "kernel")
    sets = []
    for turn in range(calls):
        storages, views = [], []
        for place, (numbers, shape) in enumerate(zip(inputs, shapes, strict=True)):
            items = tuple(float(number) * 2**turn for number in numbers)
            storages.append(Storage(result.dtype, len(items), Values("literal", items=items)))
            strides = tuple(reversed(contiguous(tuple(reversed(shape))))) if transposed else contiguous(shape)
            views.append(View(place, result.dtype, shape, strides, 0, mode == "training"))
        sets.append(InputSet(tuple(storages), tuple(views)))
    return Case(program, tuple(sets), Setting(mistake.target, (), mode, "cpu", cotangent))


def case(mistake: Mistake) -> Case:
    """A call that shows the mistake."""
    square = [(2, 3)]
    match mistake.kind:
        case "value":
            return called(mistake, [1, 2, 3], shapes=[(3,)], result=TensorType("float32", (3,)))
        case "tail":
            return called(mistake, range(9), shapes=[(9,)], result=TensorType("float32", (9,)))
        case "dtype":
            return called(mistake, range(6), shapes=square, result=TensorType("float16", (2, 3)), more=[1])
        case "layout":
            return called(mistake, range(6), shapes=square, result=TensorType("float32", (2, 3)), transposed=True)
        case "mutation":
            return called(mistake, range(6), shapes=square, result=TensorType("float32", (2, 3)), more=[1])
        case "gradient":
            return called(mistake, [1, 2, 3], shapes=[(3,)], result=TensorType("float32", (3,)), mode="training")
        case "NaN":
            return called(mistake, [1, float("nan")], shapes=[(2,)], result=TensorType("float32", (2,)))
        case "later call":
            shapes = [(1, 3), (4, 3)]
            return called(mistake, range(3), range(12), shapes=shapes, result=TensorType("float32", (1, 4)), calls=2)
        case "alias":
            return called(mistake, [1, 2, 3], shapes=[(3,)], result=TensorType("float32", (3,)))
        case "exception":
            return called(mistake, [1, 2, 3], shapes=[(3,)], result=TensorType("float32", (3,)), more=[0])
        case "shape":
            return called(mistake, range(6), shapes=square, result=TensorType("float32", (2, 1)), more=[1, True])
        case "overflow":
            return called(mistake, [12, 3], shapes=[(2,)], result=TensorType("float16", ()), more=[0])
        case "cotangent":
            result = TensorType("float32", (2, 3))
            return called(mistake, range(6), shapes=square, result=result, mode="training", cotangent="transposed")
    raise AssertionError(mistake.kind)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.kind)
@pytest.mark.filterwarnings("ignore")
def test_a_call_shows_the_mistake_and_nothing_when_it_is_mended(
    mistake: Mistake, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = case(mistake)
    failing = execute(one).failure
    assert failing is not None
    assert mistake.told(failing.oracle, failing.symptom), failing
    module = importlib.import_module(mistake.target.partition(":")[0])
    monkeypatch.setattr(module, "MENDED", True)
    result = execute(one)
    assert result.outcome is Outcome.PASS, result.verdicts


def test_every_module_says_its_mistake() -> None:
    assert len(MISTAKES) == 13
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(MODULES)
    for mistake, name in zip(MISTAKES, MODULES, strict=True):
        (said,) = re.findall(r"The mistake \((.*?)\): ", (FOLDER / f"{name}.py").read_text())
        assert said == mistake.kind

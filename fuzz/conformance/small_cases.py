"""The cases that the conformance kit runs targets and oracles on, unless it is given others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Call, Input, Program, Ref, TensorType
from shakeout.targets.target import Target

if TYPE_CHECKING:
    import torch

__all__ = ["on", "small_cases"]


def on(subject: Target, case: Case) -> Case:
    """A case for a target, at its default settings."""
    return replace(case, setting=replace(case.setting, target=subject.name, knobs=()))


@functools.cache
def _networks() -> tuple[Case, ...]:
    """Small programs that any compiler of networks takes, and what surrounds them."""
    import torch

    from shakeout.corpus.capture import capture

    def ramp(*shape: int, start: float = -1.0) -> torch.Tensor:
        return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape) / 4 + start

    def plain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(torch.mul(torch.add(x, y), 2))

    def product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.matmul(x, w))

    def sums(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.sum(x, 0), torch.amax(x, 1)

    def whole(x: torch.Tensor) -> torch.Tensor:
        return torch.mul(torch.sub(x, 3), x)

    def moved(x: torch.Tensor) -> torch.Tensor:
        return torch.add(torch.reshape(torch.transpose(x, 0, 1), (6,)), 1)

    def writes(x: torch.Tensor) -> torch.Tensor:
        x.add_(1)
        return torch.mul(x, 2)

    def two(*shapes: tuple[int, int]) -> list[Callable[[], list[torch.Tensor]]]:
        return [lambda shape=shape, i=i: [ramp(*shape, start=i), ramp(*shape)] for i, shape in enumerate(shapes)]  # type: ignore[misc]

    here, learning = Setting("eager"), Setting("eager", (), "training")
    return (
        capture(plain, *two((2, 3)), setting=here),
        capture(product, lambda: [ramp(2, 3), ramp(3, 4)], setting=here),
        capture(sums, lambda: [ramp(3, 4)], setting=here),
        capture(whole, lambda: [torch.arange(6)], setting=here),
        capture(moved, lambda: [ramp(2, 3)], setting=here),
        capture(plain, *two((0, 3)), setting=here),
        capture(writes, lambda: [ramp(2, 3)], setting=here),
        # The same artefact again, on other values and on other sizes.
        capture(plain, *two((2, 3), (2, 3), (2, 3)), setting=here),
        capture(plain, *two((2, 3), (4, 5)), setting=here),
        capture(
            product,
            lambda: [ramp(2, 3).requires_grad_(), ramp(3, 4).requires_grad_()],
            setting=learning,
            parameters=(1,),
        ),
    )


@functools.cache
def _models() -> tuple[Case, ...]:
    """Small ONNX models that any runtime takes: the kit runs them in its own process, which odd ones may end."""

    def case(calls: Sequence[Call], *inputs: Input, sets: int = 1) -> Case:
        types = [one.type for one in inputs]
        views = tuple(View(i, type_.dtype, type_.shape, contiguous(type_.shape)) for i, type_ in enumerate(types))

        def storages(number: int) -> tuple[Storage, ...]:
            values = [Values("integers", number + i, -3, 4) for i in range(len(types))]
            return tuple(Storage(one.dtype, one.numel, drawn) for one, drawn in zip(types, values, strict=True))

        program = Program(inputs, tuple(calls), (len(inputs) + len(calls) - 1,), "onnx")
        return Case(program, tuple(InputSet(storages(i), views) for i in range(sets)), Setting("onnx.reference"))

    def chained(type_: TensorType, *operators: str) -> list[Call]:
        """Each takes the result of the one before, and the second input where it takes two."""
        pairs = {"onnx.v14.Add", "onnx.v14.Sub", "onnx.v14.Mul"}
        calls, last = [], 0
        for number, operator in enumerate(operators):
            calls.append(Call(operator, (Ref(last), Ref(1)) if operator in pairs else (Ref(last),), (), (type_,)))
            last = 2 + number
        return calls

    f23, f34, f24, none = (TensorType("float32", shape) for shape in ((2, 3), (3, 4), (2, 4), (0, 3)))
    f32, whole = TensorType("float32", (3, 2)), TensorType("int64", (6,))
    plain = ("onnx.v14.Add", "onnx.v14.Mul", "onnx.v13.Tanh")
    product = (Call("onnx.v13.MatMul", (Ref(0), Ref(1)), (), (f24,)), Call("onnx.v14.Relu", (Ref(2),), (), (f24,)))
    turned = Call("onnx.v13.Transpose", (Ref(0),), (("perm", (1, 0)),), (f32,))
    return (
        case(chained(f23, *plain), Input(f23), Input(f23)),
        case(product, Input(f23), Input(f34, "parameter")),
        case((Call("onnx.v13.Softmax", (Ref(0),), (("axis", 1),), (f34,)),), Input(f34)),
        case((turned, Call("onnx.v13.Neg", (Ref(1),), (), (f32,))), Input(f23)),
        case(chained(whole, "onnx.v14.Sub", "onnx.v14.Mul"), Input(whole), Input(whole)),
        case(chained(none, *plain), Input(none), Input(none)),
        # The same artefact again, on other values.
        case(chained(f23, *plain), Input(f23), Input(f23), sets=3),
    )


def small_cases(subject: Target) -> list[Case]:
    """Cases for a target of networks or of models, or around a user's own kernel."""
    if subject.facts.vocabulary == "torch":
        return [on(subject, case) for case in _networks()]
    if subject.facts.vocabulary == "onnx":
        return [on(subject, case) for case in _models()]
    from shakeout.fuzz.ground.jobs import Grow
    from shakeout.fuzz.running.compose import compose

    return [on(subject, compose(Grow(number=i, target=subject.name, seed=i)).case) for i in range(6)]

"""Programs with regions, written by hand: branches, loops and blocks that real compilers get right or wrong."""

from __future__ import annotations

from shakeout.corpus.case import Case, InputSet, Mode, Setting, Storage, Values, View, contiguous
from shakeout.corpus.program import Arg, Call, Input, Name, Program, Ref, Region, TensorType

__all__ = ["FLAG", "INT", "NUMBER", "TWO", "block", "call", "case", "fed"]

TWO = TensorType("float32", (2, 3))
FLAG = TensorType("bool", ())
INT = TensorType("int64", ())
NUMBER = TensorType("python_int", ())
AUTOCAST: tuple[Arg, ...] = ("cpu",)


def call(operator: str, *args: Arg, results: tuple[TensorType, ...] = (TWO,), **kwargs: Arg) -> Call:
    """A call with one result."""
    return Call(operator, args, tuple(sorted(kwargs.items())), results)


def block(
    operator: str,
    calls: tuple[Call, ...],
    *,
    captures: tuple[int, ...],
    returns: tuple[int, ...],
    results: tuple[TensorType, ...] = (TWO,),
    args: tuple[Arg, ...] = (),
    **kwargs: Arg,
) -> Call:
    """A ``with`` block."""
    region = Region((), captures, calls, returns)
    form = "sequence" if returns else "none"
    return Call(operator, args, tuple(sorted(kwargs.items())), results, form, (region,))  # type: ignore[arg-type]


def fed(program: Program, target: str, mode: Mode = "inference", *, grad: bool = False) -> Case:
    """The program with small numbers in its inputs."""
    storages, views = [], []
    for number, given in enumerate(program.inputs):
        low, high = (1, 1) if given.type.dtype == "bool" else (-2, 2)
        storages.append(Storage(given.type.dtype, given.type.numel, Values("integers", number, low, high)))
        wants = grad and given.type.dtype.startswith(("float", "bfloat"))
        views.append(View(number, given.type.dtype, given.type.shape, contiguous(given.type.shape), 0, wants))
    return Case(program, (InputSet(tuple(storages), tuple(views)),), Setting(target, mode=mode))


def cond() -> Program:
    """A branch whose functions capture a value, and one of which is given it as an operand as well."""
    true = Region((TWO, TWO), (2,), (call("torch.add", Ref(0), Ref(2)), call("torch.mul", Ref(1), 2)), (3, 4))
    false = Region((TWO, TWO), (2,), (call("torch.sub", Ref(0), Ref(2)), call("torch.neg", Ref(1))), (3, 4))
    branch = Call("torch.cond", (Ref(0), (Ref(1), Ref(2))), (), (TWO, TWO), "sequence", (true, false))
    inputs = (Input(FLAG), Input(TWO), Input(TWO))
    return Program(inputs, (branch, call("torch.mul", Ref(3), Ref(4))), (5,))


def loop(counter: TensorType = INT) -> Program:
    """A loop of three rounds that adds an input to a sum; it counts with a tensor, or with a number of Python."""
    flag = TensorType("python_bool", ()) if counter is NUMBER else FLAG
    less = call("torch.Tensor.__lt__", Ref(0), 3, results=(flag,))
    one = call("torch.Tensor.__add__", Ref(0), 1, results=(counter,))
    condition = Region((counter, TWO), (), (less,), (2,))
    body = Region((counter, TWO), (0,), (one, call("torch.add", Ref(1), Ref(2))), (3, 4))
    calls = [call("torch.zeros_like", Ref(0))]
    start: Arg = 0
    if counter is not NUMBER:
        calls.append(call("torch.zeros", (), results=(INT,), dtype=Name("torch.int64")))
        start = Ref(2)
    results = (None if counter is NUMBER else INT, TWO)
    first = 1 + len(calls)
    operator = "torch._higher_order_ops.while_loop"
    calls.append(Call(operator, ((start, Ref(1)),), (), results, "sequence", (condition, body)))
    return Program((Input(TWO),), tuple(calls), (first + 1,))


def scan() -> Program:
    """Running sums over the rows of an input."""
    row = TensorType("float32", (3,))
    combine = Region(
        (row, row),
        (),
        (call("torch.add", Ref(0), Ref(1), results=(row,)), call("torch.clone", Ref(2), results=(row,))),
        (2, 3),
    )
    operator = "torch._higher_order_ops.scan"
    start = call("torch.zeros", (3,), results=(row,))
    over = Call(operator, (Ref(1), Ref(0)), (), (row, TWO), "sequence", (combine,))
    return Program((Input(TWO),), (start, over), (2, 3))


def nested() -> Program:
    """Blocks within blocks; what a block computes is used behind it."""
    inner = block("torch.enable_grad", (call("torch.sin", Ref(0)),), captures=(1,), returns=(1,))
    outer = block(
        "torch.no_grad", (call("torch.mul", Ref(0), 2), inner), captures=(0,), returns=(2, 1), results=(TWO, TWO)
    )
    return Program((Input(TWO),), (outer, call("torch.add", Ref(1), Ref(2))), (3,))


def lowered() -> Program:
    """A matrix product in bfloat16, and a sum behind it that is not."""
    half = TensorType("bfloat16", (2, 2))
    wide = TensorType("float32", (2, 2))
    product = call("torch.mm", Ref(0), Ref(1), results=(half,))
    low = block(
        "torch.autocast",
        (product,),
        captures=(0, 1),
        returns=(2,),
        results=(half,),
        args=AUTOCAST,
        dtype=Name("torch.bfloat16"),
    )
    back = call("torch.Tensor.float", Ref(2), results=(wide,))
    return Program((Input(TWO), Input(TensorType("float32", (3, 2)))), (low, back), (3,))


def switched_off() -> Program:
    """pytorch/pytorch#179804: autocast around the call, and switched off inside for one product."""
    half, wide = TensorType("bfloat16", (4, 16)), TensorType("float32", (16, 16))
    row = TensorType("float32", (4, 16))
    inside = (
        call("torch.Tensor.float", Ref(0), results=(row,)),
        call("torch.Tensor.float", Ref(1), results=(wide,)),
        call("torch.Tensor.t", Ref(3), results=(wide,)),
        call("torch.Tensor.__matmul__", Ref(2), Ref(4), results=(row,)),
    )
    off = block("torch.autocast", inside, captures=(0, 1), returns=(5,), results=(row,), args=AUTOCAST, enabled=False)
    scale = call("torch.linspace", 0.0, 1.0, 16, results=(TensorType("float32", (16,)),))
    scaled = call("torch.mul", Ref(2), Ref(3), results=(row,))
    around = Call("torch.autocast", AUTOCAST, (("dtype", Name("torch.bfloat16")),), (), "none")
    return Program((Input(half), Input(wide, "parameter")), (off, scale, scaled), (4,), around=(around,))


def custom(kind: str = "custom_op") -> Program:
    """A custom operator that writes to one operand and gives something new, between other calls."""
    body = (
        call("torch.sin", Ref(0)),
        call("torch.Tensor.copy_", Ref(1), Ref(2)),
        call("torch.add", Ref(0), Ref(2)),
    )
    region = Region((TWO, TWO), (), body, (4,))
    called = Call(f"torch.library.{kind}", ((Ref(0), Ref(2)), (1,)), (), (TWO,), "sequence", (region,))
    calls = (call("torch.clone", Ref(1)), called, call("torch.add", Ref(2), 0))
    return Program((Input(TWO), Input(TWO)), calls, (3, 4))


def listed() -> Program:
    """A custom operator that is given a list of tensors, and gives two."""
    body = (call("torch.add", Ref(0), Ref(2)), call("torch.mul", Ref(1), Ref(2)))
    region = Region((TWO, TWO, TWO), (), body, (3, 4))
    operands = ((Ref(0), Ref(1)), Ref(0))
    called = Call("torch.library.custom_op", (operands,), (), (TWO, TWO), "sequence", (region,))
    return Program((Input(TWO), Input(TWO)), (called, call("torch.sub", Ref(2), Ref(3))), (4,))


def mapped() -> Program:
    """A function of rows of one operand and of all of another one, mapped over the rows."""
    row = TensorType("float32", (3,))
    body = (
        call("torch.mul", Ref(0), Ref(1), results=(TWO,)),
        call("torch.sum", Ref(2), 0, results=(row,)),
        call("torch.sin", Ref(0), results=(row,)),
    )
    rows = Region((row,), (1,), body, (3, 4))
    called = Call("torch.func.vmap", (Ref(0),), (), (TWO, TWO), "sequence", (rows,))
    return Program((Input(TWO), Input(TWO)), (called, call("torch.sub", Ref(2), Ref(3))), (4,))


def differentiated() -> Program:
    """The gradient of a function that captures a value."""
    scalar = TensorType("float32", ())
    body = (
        call("torch.sin", Ref(0)),
        call("torch.mul", Ref(2), Ref(1)),
        call("torch.sum", Ref(3), results=(scalar,)),
    )
    region = Region((TWO,), (1,), body, (4,))
    called = Call("torch.func.grad", (Ref(0),), (), (TWO,), "sequence", (region,))
    return Program((Input(TWO), Input(TWO)), (called, call("torch.add", Ref(2), Ref(1))), (3,))

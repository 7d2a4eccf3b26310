"""Shortcuts change how fast Inductor's kernels are compiled, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Answer
from shakeout.fuzz.workers.pool import Limits, WorkerPool
from shakeout.targets import vectors
from shakeout.targets.shortcuts import SHORTCUTS, environment

ROOT = Path(__file__).parents[2]


def results(directory: Path, shortcuts: tuple[str, ...]) -> dict[tuple[int, str], tuple[str, ...]]:
    """What two workers make of four programs and of what relations make of these; their server is killed meanwhile."""
    directory.mkdir()
    recipe = {"style": "network", "operators": 6, "mode": "inference"}
    waiting = [Grow(number=n, target="inductor", seed=n, recipe=recipe) for n in range(4)]
    pool = WorkerPool(directory, ["inductor"], 2, shortcuts=shortcuts)
    found: list[Answer] = []
    try:
        pool.start()
        assert (pool.size > 2) == ("joint" in shortcuts)
        while sum(not answer.reply.partial for answer in found) < 4:
            found += pool.step(lambda: waiting.pop() if waiting else None, lambda job: Limits(300.0, 8 << 30))
            if shortcuts and len(found) >= 2:
                subprocess.run(["pkill", "-9", "-P", str(os.getpid()), "-f", "shakeout.targets.joint"])
    finally:
        pool.stop()
    assert not [answer.loss for answer in found if answer.loss is not None]
    return {
        (answer.job.number, said.relation): (said.status, said.outcome, said.signature, said.case)
        for answer in found
        for said in [answer.reply.result]
    }


@pytest.mark.exhaustive
def test_every_case_ends_as_with_the_stock_toolchain_though_the_server_dies(tmp_path: Path) -> None:
    stock = results(tmp_path / "stock", ())
    assert results(tmp_path / "joint", tuple(SHORTCUTS)) == stock
    assert [status for status, *_ in stock.values()].count("compared") >= 2


def test_algebra_is_remembered_for_longer_and_comes_out_the_same() -> None:
    simplify = """
import sympy
from torch._inductor import sizevars
from torch.utils._sympy.functions import FloorDiv, ModularIndexing
from shakeout.targets.shortcuts import install
before = sizevars.stride_at.cache_info().maxsize
install({names})
i, j = sympy.symbols("i j", integer=True, nonnegative=True)
indices = [n * i + FloorDiv(j, 16) + ModularIndexing(i, 1, n) + n // 3 * j for n in range(1, 135)] * 2
found = [sizevars.stride_at_vec_range(index, i, 16) for index in indices]
print(found)
print(sizevars.stride_at.cache_info().maxsize // before, sizevars.simplify_index_in_vec_range.cache_info().misses)
print(sympy.core.cache.SYMPY_CACHE_SIZE)
s, t = sympy.symbols("s t", integer=True, positive=True)
more = [i, s * i + j, s * t * i + t * j + 3, (i + 1) * (s + 1), i * i, i * j * s**2, sympy.Integer(7), j, -i * s + s]
more += [sympy.Max(i, j), i / 2, FloorDiv(s, 2) * i, i * s + FloorDiv(i, s), sympy.Mod(j, 2) + i]
print([sympy.srepr(sizevars.stride_at_vec_range(index, i, *width)) for index in more for width in ((), (8,))])
print(sizevars.stride_at.cache_info().misses)
sums = [(i + n) * (j + n) - i * j for n in range(3)] * 2
others = [1, True, 1.0, sympy.Matrix([i + i]), i < j]
print([sympy.simplify(one) for one in sums + others], sympy.simplify(i + i, ratio=1))
print(sympy.simplify.cache_info().hits if {names} else 0)
"""
    lines = {}
    for names in ((), ("algebra",)):
        command = [sys.executable, "-c", simplify.replace("{names}", repr(names))]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, **environment(names)}
        )
        lines[names] = done.stdout.splitlines()
    stock, quick = lines.values()
    assert quick[0] == stock[0]
    assert int(quick[1].split()[0]) > int(stock[1].split()[0]) == 1
    assert int(quick[1].split()[1]) < int(stock[1].split()[1])
    assert int(quick[2]) > int(stock[2]) == 1000
    assert quick[3] == stock[3]
    assert int(quick[4]) < int(stock[4])
    assert quick[5] == stock[5]
    assert int(quick[6]) >= 3


def told(script: str, *arguments: str) -> list[str]:
    """The lines that a script prints, in a process of its own: what it installs is for good."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_what_comes_out_alike_is_not_made_again() -> None:
    stock, quick = map(json.loads, told(REPEATS))
    assert stock["rules"] == [True, True, False, True, False], "each handler fills its table"
    assert quick["rules"] == [True, True, True, True, False], "one does, and again when there are more rules"
    assert quick["found"] == stock["found"]
    assert quick["made"] <= stock["made"] - 8


REPEATS = """
import json
import torch
from torch._inductor import lowering, utils
from torch._inductor.dtype_propagation import DtypePropagationOpsHandler as Handler
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from shakeout.targets.shortcuts import install

made = 0
stock = FakeTensorMode._output_from_cache_entry

def counted(*args):
    global made
    made += 1
    return stock(*args)

def rules():
    first = Handler()
    exp = first.exp
    names = sorted(vars(first))
    seen = [names == sorted(vars(Handler())), Handler() is first, first.exp is exp]
    utils.op_dtype_propagation_rules["later"] = utils.op_dtype_propagation_rules["exp"]
    seen += [hasattr(Handler(), "later"), first.exp is exp]
    del utils.op_dtype_propagation_rules["later"], first.later
    return seen

def kinds():
    FakeTensorMode.cache_clear()
    mode = FakeTensorMode(shape_env=ShapeEnv())
    how = StatelessSymbolicContext([DimDynamic.DYNAMIC, DimDynamic.DYNAMIC])
    found = []
    with mode:
        for dtype in (torch.float32, torch.complex64, torch.int8):
            x = mode.from_tensor(torch.ones(4, 6, dtype=dtype), symbolic_context=how)
            ops = [lambda x: x + 1, lambda x: x.t(), torch.neg, lambda x: x * x.t().t(), torch.conj, lambda x: x[1:, 2]]
            ops += [lambda x: x.nonzero(), lambda x: x.to(torch.float64), lambda x: torch.empty(3), torch.clone]
            for op in ops:
                for again in range(2):
                    y = op(x)
                    keys = torch._C._dispatch_key_set(y)
                    found.append((y.dtype, str(y.shape), str(y.stride()), y.is_conj(), y.is_neg(), keys))
    info = FakeTensorMode.cache_info()
    return str([found, info.hits, info.misses, sorted(info.bypasses.items())])

FakeTensorMode._output_from_cache_entry = counted
for names in ((), ("repeats",)):
    install(names)
    before = made
    print(json.dumps({"rules": rules(), "found": kinds(), "made": made - before}))
"""


def test_a_graphs_kernels_are_all_asked_for_before_one_is_waited_for(tmp_path: Path) -> None:
    asking = """
import json, os, select, socket, threading
import torch, torch._inductor.config
from shakeout.targets.shortcuts import install, waited
torch._inductor.config.cpp_cache_precompile_headers = False
torch._inductor.config.cpp.simdlen = 1
door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asked = []
def serve():
    client = socket.socket(fileno=socket.recv_fds(theirs, 16, 1)[1][0])
    while select.select([client], [], [], 3 if asked else 100)[0]:
        asked.append(json.loads(client.recv(1 << 20)))
    for number, one in enumerate(reversed(asked)):
        if number == 0:
            os.system(" ".join(one["command"]))
        client.sendall(json.dumps({"output": one["output"], "entry": "kernel" if number == 0 else ""}).encode())
threading.Thread(target=serve, daemon=True).start()
install(("joint",), door.fileno())
def function(x):
    return torch.relu((x + 1) @ (x * 2)).sum(0)
x = torch.arange(9.0).reshape(3, 3)
assert torch.equal(torch.compile(function)(x), function(x))
assert len({one["output"] for one in asked}) == len(asked) >= 2, asked
assert waited() > 2
"""
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    environment |= {"TORCHINDUCTOR_FX_GRAPH_CACHE": "0"}
    done = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.exhaustive
def test_every_output_has_the_same_bits(tmp_path: Path) -> None:
    script = ROOT / "tests" / "benchmarks" / "inductor.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check", "4"], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.dumps(done.stdout).count("4 networks, 0 differ")


def test_operators_of_the_dispatcher_are_looked_up_once_and_a_users_are_found() -> None:
    code = """
import torch
from torch._export import utils
from shakeout.targets.shortcuts import install_exporter

class Net(torch.nn.Module):
    def forward(self, x, y):
        return torch.nn.functional.silu(torch.relu(x) @ y), mine(x)

def mine(x):
    return torch.ops.mine.twice(x) if hasattr(torch.ops.mine, "twice") else x

def exported():
    program = torch.export.export(Net(), (torch.ones(2, 2), torch.ones(2, 2)))
    return [str(program.run_decompositions({}).graph), str(program.run_decompositions().graph)]

calls, stock = [], utils._materialize_cpp_cia_ops

def counted():
    calls.append(1)
    stock()

utils._materialize_cpp_cia_ops = counted
before, names = exported(), utils._collect_all_valid_cia_ops()
many = len(calls)
install_exporter(("dispatcher",))
calls.clear()
assert exported() == before
assert utils._collect_all_valid_cia_ops() == names
few = len(calls)
for _ in range(2):  # it comes, goes and comes back
    library = torch.library.Library("mine", "FRAGMENT")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x + x, "CompositeImplicitAutograd")
    found = utils._collect_all_valid_cia_ops()
    assert {op.name() for op in found - names} == {"mine::twice"}, found - names
    assert "mine.twice" in exported()[0]
    library._destroy()
    assert utils._collect_all_valid_cia_ops() == names
print(many)
print(few)
"""
    many, few = map(int, told(code))
    assert many > 20
    assert few == 1


def test_translations_are_read_once_and_each_export_has_tables_of_its_own() -> None:
    export = """
import torch
from torch.onnx._internal.exporter import _registration
from shakeout.targets.shortcuts import install_exporter

class Net(torch.nn.Module):
    def forward(self, x, y):
        return torch.softmax(torch.relu(x) @ y, -1) + x.sin()

def mine(x, **more):
    raise RuntimeError("mine was called")

def exported(**more):
    given = (torch.ones(2, 2), torch.ones(2, 2))
    return torch.onnx.export(Net(), given, dynamo=True, verbose=False, **more).model_proto.SerializeToString()

def shared():
    one, other = (_registration.ONNXRegistry.from_torchlib() for _ in range(2))
    assert one is not other and one.functions == other.functions
    return sum(a is b for key in one.functions for a, b in zip(one.functions[key], other.functions[key]))

stock = [exported(), exported(opset_version=23)]
print(shared())
install_exporter(("translations",))
assert [exported(), exported(opset_version=23)] == stock
try:
    exported(custom_translation_table={torch.ops.aten.sin.default: mine})
except Exception as error:
    assert "mine was called" in str(error) + str(error.__cause__), error
else:
    raise AssertionError("a user's translation was not asked")
assert exported() == stock[0]
print(shared())
"""
    stock, quick = map(int, told(export))
    assert stock < 100 < 400 < quick


def test_what_vectors_the_cpu_has_is_compiled_for_once(tmp_path: Path) -> None:
    asked = """
from torch._inductor import cpp_builder, cpu_vec_isa
from shakeout.targets.shortcuts import install
install(["vectors"])
compiled, run = [], cpp_builder.run_compile_cmd
cpp_builder.run_compile_cmd = lambda *command, **more: (compiled.append(command), run(*command, **more))
print(bool(cpu_vec_isa.VecAVX2()), len(compiled))
"""

    def process(name: str) -> str:
        places = {"SHAKEOUT_CACHE": str(tmp_path / "store"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / name)}
        done = subprocess.run(
            [sys.executable, "-c", asked], env={**os.environ, **places}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    first = process("first")
    assert first.endswith(" 1")
    assert process("second") == first.replace(" 1", " 0")
    (library,) = (tmp_path / "store" / "vectors").iterdir()
    library.write_bytes(library.read_bytes()[:100])
    assert process("third") == first, "what is no library is built anew"
    # A store that takes nothing costs time only.
    assert not vectors._copied(library, library / "below" / "a file")

"""A vocabulary is a protocol: who runs, judges or shrinks a program asks it, and one may come from outside."""

import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shakeout.corpus import codec, script
from shakeout.corpus.case import Case, InputSet, Setting, Storage, Values, View, contiguous
from shakeout.corpus.edit import live
from shakeout.corpus.program import Call, Input, InvalidProgram, Program, Ref, TensorType
from shakeout.corpus.vocabularies import _BUILT_IN, MEMBERS, Vocabulary, vocabulary
from shakeout.fuzz.ground.crashes import lost
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.ground.results import Loss, Result
from shakeout.fuzz.ground.slot import SlotState
from shakeout.fuzz.minimise import graph
from shakeout.fuzz.minimise.order import size
from shakeout.fuzz.running import replicas, runs
from shakeout.fuzz.triage.bug_signature import signature_of
from shakeout.generators.validity import InvalidCandidate, validated
from shakeout.oracles import vendor
from shakeout.oracles.exactness import candidate
from shakeout.oracles.relations import RELATIONS
from shakeout.oracles.verdict import Outcome, Verdict

#: A package of somebody else: five operators whose names say nothing to Shakeout.
PACKAGE = '''
"""Operators of my own."""

from types import SimpleNamespace

import torch

from shakeout.corpus.vocabularies.traits import Traits

FUNCTIONS = {
    "tiny.twice": lambda x: x * 2,
    "tiny.same": lambda x: x.clone(),
    "tiny.product": lambda x, y: x @ y,
    "tiny.clear": lambda x: x.zero_(),
    "tiny.noise": lambda x: x + torch.rand(()),
}
KNOWN = {
    "tiny.twice": Traits(exactness="sums", elementwise=True),
    "tiny.same": Traits(exactness="moves"),
    "tiny.product": Traits(exactness="sums", addition="products", homogeneous=True),
    "tiny.clear": Traits(in_place=True),
    "tiny.noise": Traits(hazards=frozenset(["random"]), internal=True),
}


class Tiny:
    REFERENCE = "tiny-reference"
    SIMPLEST = {"tiny.same": 1}

    def operators(self):
        return FUNCTIONS

    def resolve(self, operator):
        if operator not in FUNCTIONS:
            raise ValueError(f"{operator} is not tiny")
        return FUNCTIONS[operator]

    def constants(self):
        return ()

    def constant(self, name):
        raise ValueError(f"there are no constants, and {name} is none")

    def value(self, arg, tensors):
        return tensors[arg.index]

    def call(self, operation, tensors):
        return [self.resolve(operation.operator)(*(self.value(arg, tensors) for arg in operation.args))]

    def evaluate(self, program, tensors, after=None, run=None):
        values = list(tensors)
        for operation in program.calls:
            results = (run or self.call)(operation, values)
            values.extend(results if after is None else after(operation, results))
        return values

    def argument(self, arg, names):
        return names[arg.index]

    def expression(self, operation, names, device="cpu"):
        return f"{operation.operator}({', '.join(self.argument(arg, names) for arg in operation.args)})"

    def bindings(self, program):
        return []

    def namespace(self, program):
        return {"tiny": SimpleNamespace(**{name.removeprefix("tiny."): one for name, one in FUNCTIONS.items()})}

    def imports(self, program):
        return ["import tiny"]

    def traits(self, operator):
        return KNOWN.get(operator, Traits())

    def written(self, operation):
        return (operation.args[0].index,) if operation.operator == "tiny.clear" else ()

    def family(self, operator):
        return operator.removeprefix("tiny.").upper()

    def meaning(self, operator):
        return operator

    def spelled(self, operator):
        return None

    def wider(self, dtype):
        return "float64" if dtype == "float32" else dtype

    def widened(self, program):
        return program


tiny = Tiny()


class Half:
    REFERENCE = "eager"

    def resolve(self, operator):
        return None


half = Half()
'''

ENTRIES = """
[shakeout.vocabularies]
tiny = tinyops:tiny
half = tinyops:half
missing = tinyops:nothing
broken = tinyops_of_yesterday
module = tinymodule
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package as an installer leaves it, with its entry points."""
    (tmp_path / "tinyops.py").write_text(PACKAGE)
    functions = "\n".join(f"{name} = tiny.{name}" for name in MEMBERS)
    (tmp_path / "tinymodule.py").write_text(f"from tinyops import tiny\n{functions}\n")
    info = tmp_path / "tinyops-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tinyops\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(ENTRIES))
    monkeypatch.syspath_prepend(str(tmp_path))
    vocabulary.cache_clear()
    yield
    vocabulary.cache_clear()
    for name in ("tinyops", "tinymodule"):
        sys.modules.pop(name, None)


F = TensorType("float32", (3, 3))


def case(*calls: tuple[str, tuple[int, ...]], returns: tuple[int, ...] | None = None, two: bool = True) -> Case:
    """A program of tiny operators on one or two inputs of small whole numbers."""
    count = 1 + two
    made = tuple(Call(operator, tuple(map(Ref, numbers)), (), (F,)) for operator, numbers in calls)
    last = (count + len(calls) - 1,) if returns is None else returns
    storages = tuple(Storage("float32", 9, Values("integers", 5 + i, -3, 3)) for i in range(count))
    views = tuple(View(i, "float32", (3, 3), contiguous((3, 3))) for i in range(count))
    program = Program((Input(F),) * count, made, last, "tiny")
    return Case(program, (InputSet(storages, views),), Setting("mine"))


TWO = (("tiny.twice", (0,)), ("tiny.product", (2, 1)))


@pytest.mark.parametrize("name", [*_BUILT_IN, "tiny", "module"])
def test_a_vocabulary_has_all_that_others_ask_for(name: str) -> None:
    words = vocabulary(name)
    assert not [member for member in MEMBERS if not hasattr(words, member)]
    for member in MEMBERS:
        if not isinstance(inspect.getattr_static(Vocabulary, member), property):
            wanted = [one for one in inspect.signature(getattr(Vocabulary, member)).parameters if one != "self"]
            assert list(inspect.signature(getattr(words, member)).parameters) == wanted, member


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("half", r"vocabulary 'half' \(tinyops:half\) lacks SIMPLEST, operators, constants, .*Vocabulary says what"),
        ("missing", r"vocabulary 'missing' \(tinyops:nothing\) cannot be loaded: .*nothing"),
        ("broken", r"vocabulary 'broken' \(tinyops_of_yesterday\) cannot be loaded: No module named"),
        ("absent", r"unknown vocabulary 'absent'; there are torch, kernel"),
    ],
)
def test_one_that_cannot_be_used_says_why(name: str, message: str) -> None:
    with pytest.raises(InvalidProgram, match=message):
        vocabulary(name)


def test_its_programs_are_stored_printed_and_run() -> None:
    one = case(*TWO)
    assert codec.decode(one.text) == one
    assert "v2 = tiny.twice(x0)\n    v3 = tiny.product(v2, x1)" in script.network(one.program)
    seen = runs.observe(script.load(one))
    assert seen.error is None
    assert seen.calls[0]["output"][0].dtype == torch.float32
    assert runs.baseline(one).calls[0]["output"][0].dtype == torch.float64


def test_its_traits_decide_what_replicas_move() -> None:
    # Where the terms cancel, only a replica whose operands moved differs beyond the last place.
    one = case(("tiny.product", (0, 1)))
    reference = runs.observe(script.load(one)).calls[0]["output"][0]
    moved = replicas.replica(one, 1).calls[0]["output"][0]
    eps = torch.finfo(torch.float32).eps
    assert bool(((moved - reference).abs() > 1.5 * eps * reference.abs()).any())
    quiet = replicas.replica(case(("tiny.twice", (0,)), two=False), 1).calls[0]["output"][0]
    wanted = runs.observe(script.load(case(("tiny.twice", (0,)), two=False))).calls[0]["output"][0]
    assert bool(((quiet - wanted).abs() <= 1.5 * eps * wanted.abs()).all())


def test_its_traits_decide_what_is_proven() -> None:
    assert candidate(case(*TWO))
    assert runs.exact(case(*TWO)).error is None
    assert not candidate(case(("tiny.noise", (0,))))


def test_its_traits_decide_what_a_vendor_is_told() -> None:
    one = case(("tiny.noise", (0,)))
    assert "tiny.noise" in vendor.unusual(one)
    assert "tiny.twice" not in vendor.unusual(case(*TWO))


def test_relations_write_only_operators_that_it_has() -> None:
    made = {name: relation(case(*TWO), 0) for name, relation in RELATIONS.items()}
    assert {name for name, one in made.items() if one is not None} == {"inputs reversed", "intermediates returned"}
    # What a hazard is, it says itself.
    assert RELATIONS["intermediates returned"](case(("tiny.noise", (0,)), ("tiny.product", (2, 1))), 0) is None


def test_candidates_of_a_minimiser_are_run_by_it() -> None:
    valid = validated(case(*TWO))
    assert valid.program == case(*TWO).program
    with pytest.raises(InvalidCandidate, match="not tiny"):
        validated(case(("torch.neg", (0,))))
    with pytest.raises(InvalidCandidate, match="draws random numbers"):
        validated(case(("tiny.noise", (0,))))


def test_a_minimiser_knows_its_writes_and_its_simplest_operators() -> None:
    writing = case(("tiny.clear", (0,)), ("tiny.twice", (1,)), returns=(3,))
    assert live(writing.program, range(2), writing.program.returns) == [0, 1]
    assert live(case(*TWO).program, range(2), (2,)) == [0]
    simpler = {one.program.operators() for one in graph.plainer(case(("tiny.twice", (0,))))}
    assert simpler == {("tiny.same",)}
    assert size(case(("tiny.same", (0,))))[1] < size(case(("tiny.twice", (0,))))[1]


def test_it_names_families_and_its_reference() -> None:
    wrong = Verdict("value", Outcome.FAIL, "wrong value", place="output 0")
    said = signature_of(case(*TWO), Result("", "mine", "compared", (wrong,)))
    assert said is not None
    assert said.operators == ("PRODUCT", "TWICE")
    state = SlotState(4, 0.0, "reference", 0.0, "case", case(*TWO).text)
    found = lost(Grow(number=4, seed=4, target="mine"), Loss("crash", "SIGSEGV", state, 1.5, ""))
    assert found.result.signature.startswith("tiny-reference | crash | SIGSEGV")


def test_a_kernel_writes_what_its_name_says() -> None:
    words = vocabulary("kernel")
    assert words.written(Call("mine:scale_", (Ref(2), Ref(0)))) == (2,)
    assert words.written(Call("mine:scale", (Ref(2),), (("out", Ref(1)),))) == (1,)
    # Neither that nor its family needs the kernel, which may be in a package that is not here.
    assert words.family("mine:scale") == "mine:scale"
    assert replace(words.traits("torch.add")) == vocabulary("torch").traits("torch.add")

"""Declaring kernels and runtimes: what is accepted, what is refused with which words, and how a target is found."""

import contextlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import shakeout
from shakeout.corpus import user_objects as declarations
from shakeout.corpus.user_objects import Example, Kernel, NotDeclared, find, import_lines, local_name
from shakeout.targets.kernels.user import UserKernel
from shakeout.targets.offload.declare import Runtime
from shakeout.targets.offload.runtime import RuntimeTarget
from shakeout.targets.registry import target
from shakeout.targets.target import UnknownTarget
from shakeout.targets.user_target import declared

X = torch.tensor([-1.0, 2.0])


def double(x: torch.Tensor, n: int = 2) -> torch.Tensor:
    """Twice as much."""
    return x * n


# --- the kernel's decorator -------------------------------------------------------------------------------------------


def test_a_kernel_is_called_like_its_function() -> None:
    kernel = shakeout.kernel(reference=torch.mul)(double)
    assert isinstance(kernel, Kernel)
    assert (kernel.__name__, kernel.__doc__) == ("double", "Twice as much.")
    assert (kernel.reference, kernel.examples, kernel.strides) == (torch.mul, (), False)
    assert kernel(X, n=3).tolist() == [-3.0, 6.0]
    assert "double" in repr(kernel)


def test_examples_are_tuples_of_arguments_or_pairs_with_keywords() -> None:
    given = [(X,), ((X,), {"n": 3}), (X, 4)]
    wanted = (Example((X,), {}), Example((X,), {"n": 3}), Example((X, 4), {}))
    assert shakeout.kernel(reference=double, examples=given)(double).examples == wanted


def test_examples_may_be_made_when_they_are_needed() -> None:
    made = []

    def examples() -> list[tuple[torch.Tensor]]:
        made.append(1)
        return [(X,)]

    kernel = shakeout.kernel(reference=double, examples=examples)(double)
    assert made == []
    assert kernel.examples == kernel.examples == (Example((X,), {}),)
    assert made == [1]


def test_examples_that_cannot_be_made_say_so() -> None:
    kernel = shakeout.kernel(reference=double, examples=lambda: X.no_such_thing)(double)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"making the examples of .*double.* fails: AttributeError"):
        _ = kernel.examples


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: shakeout.kernel(double), r"write @shakeout.kernel\(reference=...\).*double"),
        (lambda: shakeout.kernel(), "needs reference="),
        (lambda: shakeout.kernel(reference=3), "reference is 3, expected a function"),
        (lambda: shakeout.kernel(reference=torch.nn.ReLU), "expected a function"),
        (lambda: shakeout.kernel(reference=double, strides="yes"), "strides is 'yes', expected True or False"),
        (lambda: shakeout.kernel(reference=double, examples=5), "examples is int, expected a list of calls"),
        (lambda: shakeout.kernel(reference=double, examples=[X]), r"examples\[0\] is a Tensor, expected a tuple"),
        (lambda: shakeout.kernel(reference=double, examples=[((X,), {1: 2})]), "a keyword that is no text"),
        (lambda: shakeout.kernel(reference=double)(5), "5 is no function"),
        (lambda: shakeout.kernel(reference=double)(torch.nn.ReLU), "is no function"),
        (lambda: shakeout.kernel(reference=double)(shakeout.kernel(reference=double)(double)), "declared already"),
    ],
)
def test_what_is_no_kernel_is_refused(declare, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        declare()


def test_a_kernel_works_under_torch_compile_and_autograd() -> None:
    kernel = shakeout.kernel(reference=torch.mul)(double)
    x = X.clone().requires_grad_()
    y = torch.compile(lambda x: kernel(x, 3) + 1, backend="aot_eager", fullgraph=True)(x)
    y.sum().backward()
    assert (y.tolist(), x.grad.tolist()) == ([-2.0, 7.0], [3.0, 3.0])


def test_a_kernel_and_a_custom_operator_go_together() -> None:
    @shakeout.kernel(reference=torch.mul)
    @torch.library.custom_op("shakeout_tests::outer", mutates_args=())
    def outer(x: torch.Tensor, n: int) -> torch.Tensor:
        return x * n

    @outer.register_fake  # reaches the custom operator
    def _(x: torch.Tensor, n: int) -> torch.Tensor:
        return torch.empty_like(x)

    assert torch.compile(lambda x: outer(x, 3), backend="aot_eager", fullgraph=True)(X).tolist() == [-3.0, 6.0]
    inner = torch.library.custom_op("shakeout_tests::inner", mutates_args=())(
        shakeout.kernel(reference=torch.mul)(double)
    )
    assert inner(X).tolist() == [-2.0, 4.0]


# --- the runtime's decorator ------------------------------------------------------------------------------------------


class Manager:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def generator() -> Iterator[int]:
    """Something around."""
    yield 7


@pytest.mark.parametrize("factory", [generator, contextlib.contextmanager(generator), Manager, lambda: Manager()])
def test_a_runtime_makes_context_managers(factory) -> None:
    runtime = shakeout.runtime(factory)
    assert isinstance(runtime, Runtime)
    for _ in range(2):
        with runtime():
            pass


def test_a_runtime_keeps_its_name() -> None:
    runtime = shakeout.runtime(generator)
    assert (runtime.__name__, runtime.__doc__) == ("generator", "Something around.")  # type: ignore[attr-defined]


async def asynchronous() -> None:
    pass


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (5, "expected a function that makes context managers, got a int"),
        (Manager(), "got a context manager itself"),
        (contextlib.contextmanager(generator)(), "got a context manager itself"),
        (asynchronous, "asynchronous is asynchronous"),
        (torch.nn.ReLU, "the class ReLU has no __enter__"),
        (lambda directory, *, size: Manager(), "needs directory, size; give defaults"),
        (shakeout.runtime(generator), "declared already"),
    ],
)
def test_what_is_no_runtime_is_refused(given, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        shakeout.runtime(given)


def test_a_function_that_makes_something_else_is_told_when_it_is_called() -> None:
    @shakeout.runtime
    def wrong() -> int:
        return 3

    with pytest.raises(TypeError, match=r"wrong\(\) made a int, expected a context manager"):
        wrong()


# --- finding what is declared -----------------------------------------------------------------------------------------

PACKAGE = {
    "mine/__init__.py": "",
    "mine/kernels.py": """
        import shakeout
        import torch

        @shakeout.kernel(reference=torch.relu)
        def my_relu(x):
            return torch.relu(x)

        def plain(x):
            return x

        def context():
            yield

        class Context:
            def __enter__(self): ...
            def __exit__(self, *error): ...

        number = 3

        @shakeout.runtime
        def around():
            yield
    """,
    "mine/unread.py": """
        open("proof", "w").close()

        def plain(x):
            return x

        def context():
            yield

        class Context: ...
    """,
    "mine/broken.py": "import shakeout\nimport no_such_module_here\n",
    "mine/wrong.py": "# shakeout\ndef f(:\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in PACKAGE.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    named = ("mine.kernels", "mine.missing", "mine.kernels.deeper", "mine.broken", "mine.wrong", "mine.unread")
    # As if each had been named on the command line.
    monkeypatch.setenv(declarations.ALLOWED, ",".join((*named, "no_such_package.kernels", "os", "antigravity")))
    find.cache_clear()
    target.cache_clear()
    yield tmp_path
    for name in [name for name in sys.modules if name == "mine" or name.startswith("mine.")]:
        del sys.modules[name]
    find.cache_clear()
    target.cache_clear()


def test_folders_without_init_are_packages_as_well(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(declarations.ALLOWED, "deep.down.kernels")
    (package / "deep" / "down").mkdir(parents=True)
    (package / "mine" / "kernels.py").rename(package / "deep" / "down" / "kernels.py")
    assert isinstance(find("deep.down.kernels:my_relu"), Kernel)
    assert not (package / "proof").exists()
    for name in [name for name in sys.modules if name.split(".")[0] == "deep"]:
        del sys.modules[name]


def test_a_declared_name_is_a_target(package: Path) -> None:
    kernel, runtime = target("mine.kernels:my_relu"), declared("mine.kernels:around")
    assert isinstance(kernel, UserKernel)
    assert (kernel.name, kernel.facts.vocabulary, kernel.facts.promises) == (
        "mine.kernels:my_relu",
        "kernel",
        {"layout", "writes"},
    )
    assert kernel.facts.summary == "your kernel, against torch.relu"
    assert (kernel.unavailable(), kernel.knobs()) == (None, ())
    assert isinstance(runtime, RuntimeTarget)
    assert (runtime.facts.vocabulary, runtime.facts.promises, runtime.unavailable()) == (
        "torch",
        {"bits", "layout", "writes"},
        None,
    )
    kernel.warm()
    runtime.warm()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.kernels", "not of the form MODULE:NAME"),
        ("mine.kernels:", "not of the form MODULE:NAME"),
        ("mine.kernels:a.b", "not of the form MODULE:NAME"),
        ("mine.import:f", "contains a keyword"),
        (
            "no_such_package.kernels:f",
            r"no module no_such_package.kernels, neither in the working directory \(.*\) nor",
        ),
        ("mine.missing:f", "no module mine.missing"),
        ("mine.kernels.deeper:f", "no module mine.kernels.deeper"),
        ("mine.broken:f", "importing mine.broken fails: ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("mine.wrong:f", "importing mine.wrong fails: SyntaxError"),
        ("mine.kernels:missing", "mine.kernels has no 'missing'; declared there: around, my_relu"),
        (
            "mine.kernels:plain",
            r"is not declared for Shakeout: .*a kernel, put @shakeout.kernel\(reference=...\) above",
        ),
        ("mine.kernels:context", "it makes context managers, so put @shakeout.runtime above"),
        ("mine.kernels:Context", "it makes context managers, so put @shakeout.runtime above"),
        ("mine.kernels:number", "it is a int, and neither a kernel nor"),
        ("mine.unread:plain", r"a kernel, put @shakeout.kernel\(reference=...\) above"),
        ("mine.unread:context", "it makes context managers, so put @shakeout.runtime above"),
        ("mine.unread:Context", "if it is a context manager, put @shakeout.runtime above"),
        ("mine.unread:missing", "does not mention shakeout and was not imported"),
    ],
)
def test_what_is_no_target_says_what_to_do(package: Path, name: str, words: str) -> None:
    with pytest.raises(UnknownTarget, match=words):
        declared(name)
    assert not (package / "proof").exists()


def test_a_name_in_a_stored_case_runs_nothing_of_a_module_that_is_not_ours(package: Path) -> None:
    for name in ("os:system", "mine.unread:plain", "antigravity:fly", "subprocess:run", "builtins:eval"):
        with pytest.raises(NotDeclared):
            find(name)
    assert not (package / "proof").exists()
    assert "antigravity" not in sys.modules


def test_the_working_directory_comes_last_on_the_path(package: Path) -> None:
    find("mine.kernels:my_relu")
    assert sys.path[-1] == str(package)


# --- names in source text ---------------------------------------------------------------------------------------------


def test_a_name_that_a_script_needs_itself_is_changed() -> None:
    assert local_name("mine:my_relu") == "my_relu"
    for taken in ("run", "compare", "torch", "x0", "p12", "inputs_1", "print", "prepare", "Network"):
        assert local_name(f"mine:{taken}") == f"{taken}_declared"
    assert import_lines("mine.kernels:run")[-1] == "from mine.kernels import run as run_declared"
    assert declarations.import_lines("mine:my_relu")[-1] == "from mine import my_relu"

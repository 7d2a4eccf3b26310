"""Lines of Python functions, as each interpreter that is installed here tells them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shakeout.corpus.case import Case, InputSet, Setting
from shakeout.corpus.program import Program
from shakeout.fuzz.campaign.config import Config
from shakeout.fuzz.coverage.python import PythonSource
from shakeout.fuzz.coverage.sources import Wanted
from shakeout.fuzz.coverage.traced import arc, arc_key

_PACKAGE = """
import functools

def registered(function):
    return functools.partial(function)

@registered
def branch(x):
    if x > 10:
        y = str(x)
    else:
        y = repr(x)
    for each in range(len(y)):
        y += chr(65)
    return len(y)

def never(x):
    return len(x)

class Thing:
    def method(self):
        try:
            return int("no")
        except ValueError:
            return abs(-7)

def closure(x):
    def inner():
        return abs(x)
    return inner

def generator(n):
    for i in range(n):
        yield str(i)
"""

#: In a process of its own: what is watched there stays watched. It prints what was computed and the lines per step.
_STEPS = """
import gc, json, os, sys
sys.path[:0] = [sys.argv[1], os.getcwd()]
from shakeout.fuzz.coverage.python import PythonSource
from mine import code
made, suspended = code.closure(-3), code.generator(5)
next(suspended)
for _ in range(20):
    code.branch(3)  # it is specialised already
gc.freeze()
source = PythonSource(["mine"])
told = [[one.name, one.watched, one.reason] for one in source.arm()]
def step(work):
    shown = work()
    return [shown, sorted(int(line) for hits in source.take() for line in hits.keys)]
steps = [step(lambda: code.branch(3)), step(lambda: code.branch(3)), step(lambda: code.branch(11))]
steps += [step(lambda: code.Thing().method()), step(made), step(lambda: list(suspended))]
for _ in range(100):
    code.branch(12)
steps += [step(lambda: code.branch(3))]
pid = os.fork()
if pid == 0:
    import mine.late
    source.look_closer(1)
    print(json.dumps(step(lambda: mine.late.late(2))), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
source.before_fork(())
steps += [step(lambda: [code.branch(3), code.Thing().method()])]
print(json.dumps([told, steps]))
"""


def _interpreters() -> list[str]:
    """This one, and one of each later release that is on the path or was installed by pyenv."""
    found: dict[str, str] = {}
    for one in sorted(Path.home().glob(".pyenv/versions/3.1[2-9].*/bin/python")):
        found[".".join(one.parents[1].name.split(".")[:2])] = str(one)
    for release in ("3.12", "3.13", "3.14"):
        if path := shutil.which(f"python{release}"):
            found.setdefault(release, path)
    return [sys.executable, *(found[release] for release in sorted(found))]


@pytest.mark.parametrize("python", _interpreters())
def test_each_line_is_told_once_and_nothing_else_changes(python: str, tmp_path: Path) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(_PACKAGE)
    (package / "late.py").write_text("def late(x):\n    return str(abs(x))\n")
    # As shakeout.fuzz.coverage, without the packages that another interpreter does not have.
    room = Path(__file__).parents[2] / "fuzz" / "coverage"
    alone = tmp_path / "alone"
    (alone / "shakeout" / "fuzz").mkdir(parents=True)
    (alone / "shakeout" / "fuzz" / "coverage").symlink_to(room)

    done = subprocess.run(
        [python, "-c", _STEPS, str(alone)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    late, rest = map(json.loads, done.stdout.splitlines())
    (told,), steps_told = rest
    assert told == ["mine", 7, ""]
    assert late == ["2", [1, 2]]
    shown = [one for one, _ in steps_told]
    assert shown == [2, 2, 4, 7, 3, ["1", "2", "3", "4"], 2, [2, 7]]
    first, again, other, method, closure, suspended, later, after = (set(lines) for _, lines in steps_told)
    assert first >= {12, 13, 14}
    assert 10 not in first
    assert 17 not in first
    assert again == later == set()
    assert 10 in other
    assert not other & first
    assert method >= {21, 23, 24}
    assert 28 in closure
    assert suspended >= {32} or 33 in suspended
    assert after >= {12, 13, 14, 21, 23}  # what the parent ran itself is new to those that it forks
    assert 10 not in after


def test_python_packages_are_told_from_shared_libraries() -> None:
    named = ("mine.passes", "libmine.so", "libmine.so.3", "./mine.so", "mine")
    watched = Config(targets=("inductor",), cover=named).watched
    assert watched == Wanted(libraries=named[1:4], modules=("mine.passes", "mine"))
    assert "torch._inductor" in Config(targets=("inductor",), coverage=True).watched.modules
    assert Config(targets=("mine.kernels:scale",), coverage_report=True).watched.modules == ("mine.kernels",)


def test_nobody_looks_after_a_case_of_another_target(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watch:
        looks = 0

        def entered(self) -> tuple[()]:
            self.looks += 1
            return ()

    inputs = InputSet((), ())
    for modules, looked in ((("torch._inductor",), 1), (("torch._inductor", "mine"), 2)):
        source, watch = PythonSource(modules), Watch()
        monkeypatch.setattr(source, "_watch", watch)
        for target in ("eager", "inductor"):
            source.begin(Case(Program((), (), ()), (inputs,), Setting(target)))
            assert source.take() == ()
        assert watch.looks == looked


# --- to the line and arc ------------------------------------------------------------------------------------------

_TRACED = """
import json, sys
sys.path[:0] = [sys.argv[1], "."]
from pathlib import Path
from shakeout.fuzz.coverage.log import CoverageLog
from shakeout.fuzz.coverage.report import write_data
from shakeout.fuzz.coverage.traced import TracedSource
import mine.code
source = TracedSource(["mine"])
assert not source.arm()[0].reason
directory = Path("campaign")
directory.mkdir()
with CoverageLog(directory) as log:
    mine.code.branch(11)  # outside of a case
    for number, value in enumerate((3, 3, 3)):
        source.begin(None)
        mine.code.branch(value)
        source.end(None, "compared")
        new = log.add(source.take(), case=number, target="t", seconds=number)
        assert bool(new) == (number == 0)
print(write_data(directory))
"""


def test_what_was_traced_is_a_file_of_coverage_py(tmp_path: Path) -> None:
    coverage = pytest.importorskip("coverage")
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(_PACKAGE)
    words = [sys.executable, "-c", _TRACED, str(Path(__file__).parents[2] / "src")]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=60)
    file = tmp_path / "campaign" / ".coverage"
    subprocess.run(
        [sys.executable, "-m", "coverage", "html", "--data-file", str(file), "-q"], cwd=tmp_path, check=True, timeout=60
    )
    assert len(list((tmp_path / "htmlcov").glob("*_code_py.html"))) == 1
    opened = coverage.Coverage(data_file=str(file))
    opened.load()
    _, statements, _, missing, _ = opened.analysis2(str(package / "code.py"))
    assert {2, 4, 7, 8, 17, 20, 21} <= set(statements) - set(missing)  # what is done when it is loaded
    assert {9, 12, 13, 14, 15} <= set(statements) - set(missing)
    assert {10, 18, 22, 29, 33} <= set(missing)
    assert (9, 12) in opened.get_data().arcs(str(package / "code.py"))
    assert (9, 10) not in opened.get_data().arcs(str(package / "code.py"))


@pytest.mark.parametrize("pair", [(1, 2), (-7, 30000), (32767, -32767), (-1, -1)])
def test_an_arc_is_one_number(pair: tuple[int, int]) -> None:
    assert 0 <= arc_key(*pair) < 1 << 32
    assert arc(arc_key(*pair)) == pair

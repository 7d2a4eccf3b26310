"""Learning in real workers: the documented example, an operator that crashes, and kill -9 in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.caches import with_operators

from shakeout.corpus.program import Ref, TensorType
from shakeout.fuzz import cli
from shakeout.fuzz.ground import events
from shakeout.fuzz.ground.exits import Exit
from shakeout.fuzz.learning.operators import learn_operators
from shakeout.fuzz.learning.store import Files, files_of_torch, read
from shakeout.generators.rules.library import library_of_torch
from shakeout.generators.rules.trace import Trace
from shakeout.generators.vocabularies.torch import load_records

DOCUMENT = Path(__file__).parents[2] / "docs" / "learning.md"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory whose modules can be imported here and in processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("gated", "crashing", "hopeless", "shakeout_idle", "shakeout_any"):
        sys.modules.pop(name, None)


@pytest.fixture
def shakeout(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """The command, in this process: what it starts are processes of their own all the same."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(arguments)
        return (status, *capsys.readouterr())

    return run


def test_the_documented_example(project: Path, shakeout: Callable[..., tuple[int, str, str]]) -> None:
    for name, text in re.findall(r"^`(\w+\.py)`.*?```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE):
        (project / name).write_text(text)
    status, out, err = shakeout("learn", "gated:gated_sum", "--examples", "test_gated.py", "--plain")
    assert status == 0, out + err
    assert "16 calls heard, 8 different ones, 0 left out" in out
    assert "1 rules, 1 of which are precise enough to draw from" in out
    assert (project / ".shakeout/learnt/gated.gated_sum.json").exists()
    told = shakeout("operators", "gated:gated_sum")[1]
    documented = re.search(
        r"^\$ shakeout operators gated.*?\n(.*?)\.\.\.$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    assert documented is not None
    for line in documented[1].splitlines():
        assert re.sub(r"\d+ (accepted|rejected)", "", line) in re.sub(r"\d+ (accepted|rejected)", "", told)
    # What was learnt is what is proposed.
    from shakeout.generators.choices import SeededChoices
    from shakeout.generators.recipe import Recipe
    from shakeout.generators.vocabularies.kernel import grow_around, kernel_vocabulary

    vocabulary = kernel_vocabulary("gated:gated_sum", load_records())
    groups = set()
    for seed in range(60):
        grown = grow_around(SeededChoices(seed), Recipe(style="small"), vocabulary)
        groups |= {dict(call.kwargs)["groups"] for call in grown.program.calls if ":" in call.operator}
    assert {1, 2, 3} < groups


ANY = """
import torch

import shakeout


def reference(x, y, by=1):
    return torch.roll(torch.cat([x, y]), by, 0)


@shakeout.kernel(reference=reference)
def kernel(x, y, by=1):
    if x.dtype == torch.int16:
        raise NotImplementedError("no int16")
    return reference(x, y, by)
"""

ANY_TESTS = """
import pytest
import torch

from shakeout_any import kernel


@pytest.mark.parametrize("shape", [(3,), (2, 3), (4, 5), (2, 3, 4), (1,), (6, 2)])
def test_kernel(shape):
    kernel(torch.randn(shape), torch.randn(shape), by=2)


def test_refused():
    with pytest.raises(NotImplementedError):
        kernel(torch.ones(3, dtype=torch.int16), torch.ones(3, dtype=torch.int16))
"""


def test_a_kernel_whose_reference_takes_any_dtype(project: Path, shakeout: Callable[..., tuple[int, str, str]]) -> None:
    (project / "shakeout_any.py").write_text(ANY)
    (project / "tests").mkdir()
    (project / "tests" / "test_any.py").write_text(ANY_TESTS)
    status, out, err = shakeout("learn", "shakeout_any:kernel", "--examples", "tests/", "--plain")
    assert status == 0, out + err
    assert "INTERNAL" not in out + err
    assert "failed " not in out
    assert "7 calls heard, 7 different ones, 0 left out" in out
    content = json.loads((project / ".shakeout/learnt/shakeout_any.kernel.json").read_text())
    assert content["errors"] == {}
    assert content["records"]
    assert content["drawn"]
    assert "float8_e4m3fnuz" in json.dumps(content["drawn"])


def test_tests_that_never_call_the_kernel(project: Path, shakeout: Callable[..., tuple[int, str, str]]) -> None:
    (project / "idle.py").write_text("import sys\n\nsys.exit(3)\n")
    text = "import torch\n\nimport shakeout\n\n\n@shakeout.kernel(reference=torch.relu)\ndef mine(x):\n    return x\n"
    (project / "shakeout_idle.py").write_text(text)
    status, _, err = shakeout("learn", "shakeout_idle:mine", "--examples", "idle.py")
    assert status == 2
    assert "idle.py did not call it; idle.py ended with status 3" in err


HOPELESS = """
import os

import torch

import shakeout

CALM = False


def reference(x):
    if not CALM:
        os.abort()
    return torch.relu(x)


@shakeout.kernel(reference=reference)
def hopeless(x):
    return torch.relu(x)
"""

HOPELESS_SCRIPT = """
import torch

import hopeless

hopeless.CALM = True
for rows in (1, 2, 3):
    hopeless.hopeless(torch.ones(rows, 2))
"""


def test_a_kernel_of_which_nothing_can_be_learnt_has_a_status_of_its_own(
    project: Path, shakeout: Callable[..., tuple[int, str, str]]
) -> None:
    (project / "hopeless.py").write_text(HOPELESS)
    (project / "script.py").write_text(HOPELESS_SCRIPT)
    command = ("learn", "hopeless:hopeless", "--examples", "script.py", "--plain", "--workers", "1")
    status, out, err = shakeout(*command)
    assert status == Exit.INFRASTRUCTURE, out + err
    assert "3 calls heard, 3 different ones, 0 left out" in out
    assert "failed   hopeless:hopeless: crash: SIGABRT" in out
    assert "shakeout run --target" not in out
    # What was learnt before would not be replaced by this.
    status, out, err = shakeout(*command)
    assert status == Exit.INFRASTRUCTURE
    assert "hopeless:hopeless: crash: SIGABRT" in err
    assert "what was learnt before stays" in err


CRASHING = """
import os

import torch

import shakeout


@shakeout.kernel(reference=torch.relu)
def calm(x, n=1):
    return x


def reference(x, n=1):
    if x.shape[0] == 0:
        os.abort()
    return x.new_zeros(x.shape[0] + n)


@shakeout.kernel(reference=reference)
def crashing(x, n=1):
    return reference(x, n)
"""


def test_a_call_that_crashes_is_told_and_the_rest_is_learnt(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "crashing.py").write_text(CRASHING)
    monkeypatch.setenv("SHAKEOUT_ALLOW", "crashing")
    operator = "crashing:crashing"
    calls = [
        Trace(operator, (Ref(0), n), (), (TensorType("float32", (rows,)),), (TensorType("float32", (rows + n,)),))
        for rows, n in ((2, 1), (3, 2), (5, 1), (4, 4))
    ]
    files = Files(project / "learning")
    told: list[events.Learning] = []

    def tell(event: events.Event) -> None:
        if isinstance(event, events.Learning):
            told.append(event)

    lost = learn_operators(
        [operator],
        {operator: [call.to_json() for call in calls]},
        files,
        project,
        workers=1,
        calls=40,
        tell=tell,
    )
    assert {(one.kind, one.symptom) for one in lost} == {("crash", "SIGABRT")}
    assert lost[0].path is not None
    case = json.loads(lost[0].path.read_text())
    assert case["program"]["calls"][0]["operator"] == operator
    found = read(files.rules(operator))
    assert found is not None
    [variant] = [one for one in found["variants"] if one["variant"][3] == [1]]
    assert variant["rule"] is not None
    assert "campaign" not in variant["rule"]["sources"]
    assert found["without"]
    assert told[-1].done == told[-1].total == 1
    # What a campaign saw is learnt from once, and examined no second time.
    row = Trace(
        operator, (Ref(0), 9), (), (TensorType("float32", (7,)),), (TensorType("float32", (16,)),), source="campaign"
    ).to_json()
    before = files.examined(operator).stat().st_mtime_ns
    for _ in range(2):
        seen = {operator: [row, ["no trace"] * 8]}
        assert learn_operators([operator], {}, files, project, workers=1, seen=seen, tell=tell) == []
    found = read(files.rules(operator))
    assert found is not None
    [variant] = [one for one in found["variants"] if one["variant"][3] == [1]]
    assert "campaign" in variant["rule"]["sources"]
    assert len(told) == 2
    assert files.examined(operator).stat().st_mtime_ns == before


def test_kill_in_the_middle_and_going_on(
    project: Path, monkeypatch: pytest.MonkeyPatch, shakeout: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.setenv("SHAKEOUT_CACHE", str(with_operators(project / "cache")))
    files = files_of_torch()
    files.directory.mkdir(parents=True)
    names = ["torch.mm", "torch.t", "torch.gather", "torch.bmm"]
    # The samples were collected; the last line but one was cut off.
    files.raw.write_text('{"entry":"abs","traces":[["torch\n{"entry":"","traces":[]}\n')
    command = ["learn", "torch", "--plain", "--workers", "1", "--calls", "60", "--operators", *names]
    child = subprocess.Popen(
        [sys.executable, "-m", "shakeout", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    limit = time.monotonic() + 120
    while not any(files.rules(name).exists() for name in names) and time.monotonic() < limit:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = {name: files.rules(name).stat().st_mtime_ns for name in names if files.rules(name).exists()}
    assert 0 < len(before) < len(names)
    broken = next(name for name in names if name not in before)
    files.examined(broken).write_bytes(b"\x1f\x8b cut off")
    status, out, err = shakeout(*command)
    assert status == 0, out + err
    assert "4 of 4 operators learnt" in out
    assert {name: files.rules(name).stat().st_mtime_ns for name in before} == before
    library_of_torch.cache_clear()  # this process has read what there was before
    assert "needs: in[0].shape[1] == in[1].shape[0]" in shakeout("operators", "torch.mm")[1]
    library_of_torch.cache_clear()

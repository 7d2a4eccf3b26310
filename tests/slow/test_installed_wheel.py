"""The wheel, installed beside a repository that has folders named like our rooms, disturbs neither."""

import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ["corpus", "fuzz", "generators", "oracles", "targets"]

# The user's repository: its own targets/, fuzz/ and corpus/, and a kernel to be fuzzed.
REPOSITORY = {
    "targets/__init__.py": "OWNER = 'user'\n",
    "fuzz/harness.py": "OWNER = 'user'\n",  # no __init__.py: an installed package `fuzz` would win over it
    "corpus/__init__.py": "OWNER = 'user'\n",
    "corpus/program.py": "OWNER = 'user'\n",  # we have a module of this name too
    "mykernels/__init__.py": "",
    "mykernels/kernels.py": """
        import shakeout
        import torch


        @shakeout.kernel(reference=torch.nn.functional.relu)
        def my_relu(x):
            return torch.relu(x.clone())
    """,
    "tests/test_own.py": """
        import corpus
        import corpus.program
        import fuzz.harness
        import targets

        import shakeout.corpus
        import shakeout.fuzz
        import shakeout.targets


        def test_bare_names_are_ours():
            for module in (corpus, corpus.program, fuzz.harness, targets):
                assert module.OWNER == "user", module.__file__


        def test_shakeout_is_another():
            for module in (shakeout.corpus, shakeout.fuzz, shakeout.targets):
                assert not hasattr(module, "OWNER"), module.__file__
    """,
}


def run(command: Sequence[object], cwd: Path, timeout: float = 240) -> str:
    """What ``command`` prints; its exit status must be 0."""
    # Neither this test's paths nor its pytest settings may reach what is meant to be a user's environment.
    environment: Mapping[str, str] = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{done.args} exited with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what is built, so that building leaves nothing in the working tree."""
    copy = tmp_path_factory.mktemp("source")
    derived = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ["src", *ROOMS]:
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=derived)
    for name in ["pyproject.toml", "README.md", "LICENSE"]:
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """The wheel built from the sdist, as a registry's users get it."""
    dist = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, source], cwd=dist)
    (built,) = dist.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A fresh environment with the wheel in it; the dependencies are this one's.

    A path file puts our site-packages behind the environment's own. It is a plain directory there: path
    files in it, an editable Shakeout's among them, have no effect.
    """
    venv = tmp_path_factory.mktemp("environment")
    run([sys.executable, "-m", "venv", "--without-pip", venv], cwd=venv)
    python = venv / "bin" / "python"
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel],
        cwd=venv,
    )
    dependencies = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    own = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], cwd=venv).strip()
    (Path(own) / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    return venv


@pytest.fixture
def repository(tmp_path):
    for name, text in REPOSITORY.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    return tmp_path


def test_wheel_holds_every_room_and_nothing_else(source, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"shakeout/{path.name}" for path in (source / "src" / "shakeout").iterdir() if path.is_file()}
    for room in ROOMS:
        expected |= {f"shakeout/{path.relative_to(source)}" for path in (source / room).rglob("*.py")}
    expected |= {f"shakeout/{path.relative_to(source)}" for path in (source / "corpus/data").rglob("*.json")}
    missing = sorted(expected - names)
    assert not missing
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"shakeout"}


def test_import_comes_from_the_wheel(environment, repository):
    script = f"""
import importlib, shakeout
print(shakeout.__version__, shakeout.__file__)
for room in {ROOMS}:
    print(importlib.import_module("shakeout." + room).__file__)
"""
    version, *files = run([environment / "bin" / "python", "-c", script], cwd=repository).split()
    assert version != "0+unknown"
    assert all(Path(file).is_relative_to(environment) for file in files), files


def test_the_repository_keeps_its_own_names(environment, repository):
    output = run([environment / "bin" / "python", "-m", "pytest", "-q", "tests"], cwd=repository)
    assert "2 passed" in output, output


def test_a_campaign_runs_on_the_repositorys_kernel(environment, repository):
    command = environment / "bin" / "shakeout"
    run([command, "run", "--target", "mykernels.kernels:my_relu", "--minutes", "0.2"], cwd=repository)

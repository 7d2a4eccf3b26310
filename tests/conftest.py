"""What every test shares."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before any test imports torch: its threads would fight those of the other pytest workers for the same cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Built on the active profile, so that Hypothesis's own settings for CI stay. No deadline: a first example
# pays for imports and compilation, and pytest-timeout bounds the test as a whole.
settings.register_profile("shakeout", deadline=None)
settings.load_profile("shakeout")


#: Scripts that tests read, none of which is a test of ours, whatever its name.
collect_ignore = ["quality/reports", "quality/written"]


@pytest.fixture(scope="module", autouse=True)
def _nothing_of_other_files_is_looked_at() -> None:
    """What is left of the files before takes the collector no time: millions of objects, at each of its calls."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def quick_compilations() -> None:
    """As in workers, from the first test that loaded them: no guard is timed, and exporters make their tables once."""
    from shakeout.targets.shortcuts import install, install_exporter

    if "torch._dynamo.guards" in sys.modules:
        install(["collector", "guards"])
    for shortcut, module in (
        ("dispatcher", "torch._export.utils"),
        ("translations", "torch.onnx._internal.exporter._registration"),
    ):
        if module in sys.modules:
            install_exporter([shortcut])


#: Folders of which everything is long: elsewhere a test says so itself.
LONG = ("slow", "quality", "right")


@pytest.hookimpl(tryfirst=True)  # before the marks are asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in the folders of long tests, and begin with the files that have long ones."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in LONG:
            item.add_marker(pytest.mark.long)
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


_SCRATCH = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Inductor's caches begin empty and end with the tests: nothing comes from a run in which a fault was planted."""
    # Whoever runs tests in the background ignores these, and what is tested would inherit that.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, handler)
    gc.set_threshold(100_000, 10, 10)  # as in workers (the shortcut ``collector``): a compilation makes little garbage
    if not hasattr(config, "workerinput"):
        config.stash[_SCRATCH] = tempfile.TemporaryDirectory(prefix="shakeout-tests-")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = config.stash[_SCRATCH].name  # workers inherit it


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove them."""
    if _SCRATCH in config.stash:
        config.stash[_SCRATCH].cleanup()


def _mounted(path: Path, *options: str) -> Iterator[Path]:
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    yield from _mounted(tmp_path / "disk", "-o", "size=512k")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which a test may fill or make read-only."""
    yield from _mounted(tmp_path / "disk", "-o", "size=256m")

"""Scripts in forks of a process that has loaded torch: what they end with, what they find, and what ends them."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shakeout.fuzz.workers import stock as stock_module
from shakeout.fuzz.workers.confirm import Confirmation, stock_environment
from shakeout.fuzz.workers.headers import Headers
from shakeout.fuzz.workers.stock import UNTOLD, Process, Stock


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    folder = tmp_path_factory.mktemp("stock")
    stock = ready(Stock(("torch",), stock_environment(folder / "cache", folder), folder / "log"), folder)
    yield stock
    stock.close()


def ready(stock: Stock, folder: Path) -> Stock:
    script = folder / "nothing.py"
    script.write_text("")
    until = time.monotonic() + 60
    while (process := stock.run(script, {}, folder / "out", folder / "err")) is None:
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.05)
    assert process.wait() == 0
    return stock


def begin(stock: Stock, tmp_path: Path, text: str, **environment: str) -> Process:
    script = tmp_path / "script.py"
    script.write_text(text)
    process = stock.run(script, environment, tmp_path / "out", tmp_path / "err")
    assert process is not None
    return process


def test_a_script_finds_what_it_finds_in_a_process_of_its_own(loaded: Stock, tmp_path: Path) -> None:
    text = (
        "import os, sys\nloaded = 'torch' in sys.modules\n"
        "if __name__ == '__main__':\n"
        "    import beside, torch\n"
        "    print(loaded, sys.argv == [__file__], os.environ['OWN'], beside.VALUE, torch.ones(3).sum().item())\n"
        "    sys.exit(7)\n"
    )
    (tmp_path / "beside.py").write_text("VALUE = 5")
    assert begin(loaded, tmp_path, text, OWN="here").wait() == 7
    assert (tmp_path / "out").read_text() == "True True here 5 3.0\n"
    # What one has done, the next one knows nothing of.
    assert (
        begin(loaded, tmp_path, "import os, sys; sys.exit('OWN' in os.environ or 'beside' in sys.modules)").wait() == 0
    )


@pytest.mark.parametrize(
    ("text", "status"),
    [("raise ImportError('gone')", 1), ("def broken(:", 1), ("import os; os.abort()", -signal.SIGABRT)],
)
def test_how_a_script_ends_is_told_as_of_a_process(loaded: Stock, tmp_path: Path, text: str, status: int) -> None:
    assert begin(loaded, tmp_path, text).wait() == status
    assert "gone" not in text or "ImportError: gone" in (tmp_path / "err").read_text()


def test_confirmations_are_forked_and_killed_with_what_they_started(loaded: Stock, tmp_path: Path) -> None:
    script = tmp_path / "case.min.py"
    more = {"headers": Headers(tmp_path, tmp_path / "store"), "temporary": tmp_path, "memory": 1 << 30, "stock": loaded}

    def outcome(text: str, seconds: float = 60.0) -> Confirmation:
        script.write_text(text)
        one = Confirmation("SH-1", script, tmp_path / "scratch", runs=1, seconds=seconds, **more)
        while not one.poll():
            time.sleep(0.01)
        return one

    one = outcome("import sys; print('torch' in sys.modules)\nprint('output 0 differs'); sys.exit(1)")
    assert (one.outcomes, one.output) == (["fails"], "True\noutput 0 differs\n")
    one = outcome(
        "import subprocess, time\nprint(subprocess.Popen(['sleep', '600']).pid, flush=True)\ntime.sleep(600)", 1
    )
    assert one.outcomes == ["cannot run"]
    child = int(one.output.split()[0])
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{child}") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{child}")


def test_where_it_died_or_cannot_be_used_scripts_run_in_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = stock_environment(tmp_path / "cache", tmp_path)
    stock = ready(Stock((), environment, tmp_path / "log"), tmp_path)
    text = "import subprocess, time\nprint(subprocess.Popen(['sleep', '600']).pid, flush=True)\ntime.sleep(600)"
    process = begin(stock, tmp_path, text)
    until = time.monotonic() + 30
    while not (said := (tmp_path / "out").read_text()).strip():
        assert time.monotonic() < until
        time.sleep(0.02)
    assert stock._process is not None
    os.kill(stock._process.pid, signal.SIGKILL)
    assert process.wait() == UNTOLD
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{said.strip()}/cmdline") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{said.strip()}/cmdline"), "what it started dies with it"
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{process.pid}/cmdline") and time.monotonic() < until:
        time.sleep(0.02)  # it dies with the process that forked it
    broken = Stock(("no_such_module",), environment, tmp_path / "log")
    monkeypatch.setattr(stock_module, "present", lambda: True)
    beside_an_accelerator = Stock((), environment, tmp_path / "log")
    for unusable in stock, broken, beside_an_accelerator:
        assert confirmed_by(unusable, tmp_path) == os.getpid()
        unusable.close()


def test_a_number_that_comes_again_is_not_what_it_was(loaded: Stock, tmp_path: Path) -> None:
    process = begin(loaded, tmp_path, "")
    assert process.wait() == 0
    # Whatever number the next one gets, a process had it before.
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    near = range(process.pid, process.pid + 20_000)
    loaded._statuses.update(dict.fromkeys([*near, *(number % most for number in near)], 7))
    assert begin(loaded, tmp_path, "").wait() == 0


def test_what_has_ended_is_not_killed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = ready(Stock((), stock_environment(tmp_path / "cache", tmp_path), tmp_path / "log"), tmp_path)
    killed: list[int] = []
    kill = os.killpg

    def counted(group: int, number: int) -> None:
        killed.append(group)
        kill(group, number)

    monkeypatch.setattr(os, "killpg", counted)
    assert stock._process is not None
    for _ in range(2):
        stock.close()
    assert killed == [stock._process.pid], "no script is running"


def test_scripts_run_beside_a_thousand_open_files(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1030)]
    try:
        stock = ready(Stock((), stock_environment(tmp_path / "cache", tmp_path), tmp_path / "log"), tmp_path)
        assert stock._control is not None
        assert stock._control.fileno() > 1023
        stock.close()
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def confirmed_by(stock: Stock, tmp_path: Path) -> int:
    """The parent of the process in which a script was tried."""
    (tmp_path / "case.min.py").write_text("import os; print(os.getppid()); print('differs'); raise SystemExit(1)")
    one = Confirmation(
        "SH-1", tmp_path / "case.min.py", tmp_path / "scratch", headers=Headers(tmp_path, tmp_path / "store"),
        temporary=tmp_path, memory=1 << 30, runs=1, stock=stock,
    )  # fmt: skip
    while not one.poll():
        time.sleep(0.01)
    assert one.outcomes == ["fails"]
    return int(one.output.split()[0])


def test_a_script_waits_for_what_loads_and_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = Stock((), stock_environment(tmp_path / "cache", tmp_path), tmp_path / "log")
    found = confirmed_by(stock, tmp_path)
    assert stock._process is not None
    assert found == stock._process.pid
    stock.close()
    monkeypatch.setattr(stock_module, "LOAD_SECONDS", 0.0)
    late = Stock(("torch",), stock_environment(tmp_path / "cache", tmp_path), tmp_path / "log")
    assert confirmed_by(late, tmp_path) == os.getpid()
    assert late._process is not None
    assert late._process.poll() is not None, "it is ended"


def test_a_script_whose_end_nobody_can_tell_runs_again(tmp_path: Path) -> None:
    stock = ready(Stock((), stock_environment(tmp_path / "cache", tmp_path), tmp_path / "log"), tmp_path)
    text = (
        f"import os, time\nif os.getppid() != {os.getpid()}: time.sleep(600)\nprint(1)\nprint(2)\nraise SystemExit(1)"
    )
    (tmp_path / "case.min.py").write_text(text)
    headers = Headers(tmp_path, tmp_path / "store")
    one = Confirmation(
        "SH-1", tmp_path / "case.min.py", tmp_path / "scratch", headers=headers,
        temporary=tmp_path, memory=1 << 30, runs=1, stock=stock,
    )  # fmt: skip
    assert not one.poll()
    headers.directory.mkdir(parents=True)
    (headers.directory / "half.h.gch").write_text("a compiler was writing it")
    assert stock._process is not None
    os.kill(stock._process.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while not one.poll():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert (one.outcomes, one.tried) == (["fails"], 1)
    headers.keep()
    assert not list((tmp_path / "store").iterdir()), "what may be half a header is nobody else's"


def test_the_first_of_several_runs_is_a_process_of_its_own(tmp_path: Path) -> None:
    stock = ready(Stock((), stock_environment(tmp_path / "cache", tmp_path), tmp_path / "log"), tmp_path)
    text = "import os, pathlib\nwith open(pathlib.Path(__file__).with_name('parents'), 'a') as file:\n"
    (tmp_path / "repro.py").write_text(text + "    print(os.getppid(), file=file)\n")
    one = Confirmation(
        "SH-1", tmp_path / "repro.py", tmp_path / "scratch", headers=Headers(tmp_path, tmp_path / "store"),
        temporary=tmp_path, memory=1 << 30, runs=3, stock=stock,
    )  # fmt: skip
    while not one.poll():
        time.sleep(0.01)
    assert stock._process is not None
    parents = [int(line) for line in (tmp_path / "parents").read_text().split()]
    assert parents == [os.getpid(), stock._process.pid, stock._process.pid]
    stock.close()

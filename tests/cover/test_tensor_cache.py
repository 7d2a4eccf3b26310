"""The tensor cache and the store below it: bits, memory and files, whatever the disk does, and however it ends."""

import contextlib
import errno
import fcntl
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from shakeout.corpus.case import Setting
from shakeout.targets.offload.files import FAULTS, Files, files
from shakeout.targets.offload.stock import SSDTRAIN
from shakeout.targets.offload.store import Store, StoreError
from shakeout.targets.offload.tensor_cache import LeftBehind, Passed, Step, TensorCache, kept_from
from shakeout.targets.offload.workers import Job, Workers


def attention(layers: int = 2) -> list[torch.Tensor]:
    """Gradients, and gradients of gradients, of chunks of one projection."""
    torch.manual_seed(0)
    x, w = torch.randn(8, 8, requires_grad=True), torch.randn(8, 24, requires_grad=True)
    h = x
    for _ in range(layers):
        q, k, v = (h @ w).chunk(3, 1)
        h = torch.tanh(torch.softmax(q @ k.mT, -1) @ v)
    first = torch.autograd.grad(h.square().sum(), [x, w], create_graph=True)
    second = torch.autograd.grad(sum(one.square().sum() for one in first), [x, w])
    return [one.detach() for one in (*first, *second)]


WANTED = attention()


def block(number: int, size: int = 100) -> torch.Tensor:
    return torch.full((size,), number, dtype=torch.uint8)


def gone(store: Store) -> None:
    """The directory goes with the last user, who may be a worker that is about to end."""
    for _ in range(1000):
        gc.collect()
        store.settle()
        if not store.directory.exists():
            return
        time.sleep(0.01)
    pytest.fail(f"{store.blocks()} blocks are still held")


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_each_fault_of_a_disk_ends_in_an_error_or_in_the_right_bits(fault: str | None) -> None:
    for snapshot, keep, host in ((True, "nothing", 0), (False, "last", 500), (True, "adaptive", 0)):
        cache = TensorCache(snapshot=snapshot, keep=keep, host=host, fault=fault, strict=True)
        for _ in range(2):
            steps, found = [], WANTED
            fatal = contextlib.suppress(StoreError) if FAULTS.get(fault or "") else contextlib.nullcontext()
            with fatal, warnings.catch_warnings(), cache.step() as step:
                warnings.simplefilter("ignore", RuntimeWarning)
                steps.append(step)
                found = attention()
            assert all(map(torch.equal, found, WANTED))
            # Torch 2.13 never frees a graph of gradients whose backward pass a hook ends with an exception.
            if not FAULTS.get(fault or ""):
                gone(steps[0].store)


@pytest.mark.parametrize("fault", [name for name, fatal in FAULTS.items() if fatal])
def test_what_a_disk_has_lost_is_told_with_the_file(fault: str, tmp_path: Path) -> None:
    store = Store(tmp_path, disk=files(fault))
    held = [store.put(block(number)) for number in range(2)]
    store.settle()
    with pytest.raises(
        StoreError, match=r"0\.block (cannot be read|has 50 bytes, 100 were|does not hold the 100 bytes)"
    ):
        store.get(held[0])
    assert torch.equal(store.get(held[1]), block(1))


def test_a_full_disk_is_told_once_and_keeps_everything_in_memory(tmp_path: Path) -> None:
    store = Store(tmp_path, disk=files("ENOSPC"), threads=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        held = [store.put(block(number)) for number in range(6)]
        store.settle()
    assert [one.category for one in told] == [RuntimeWarning]
    assert "No space left on device" in str(told[0].message)
    assert (store.refused, store.written, store.files()) == (3, 3, 3)
    assert [int(store.get(one)[0]) for one in held] == list(range(6))


def test_a_worker_that_dies_in_a_transfer_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path, disk=files("crash"))
    held = [store.put(block(number)) for number in range(8)]
    store.settle()
    assert [int(store.get(one)[0]) for one in held] == list(range(8))
    assert store.died == 8  # half of them, each in its write and in its read


def test_blocks_go_down_by_tiers_and_room_is_given_back(tmp_path: Path) -> None:
    store = Store(tmp_path, host=250, threads=1)
    held = [store.put(block(number)) for number in range(4)]
    store.settle()
    assert [one.hosted for one in held] == [True, True, False, False]
    assert store.files() == 2
    store.forget(held[0])
    store.put(block(9))
    store.settle()
    assert store.files() == 2
    store.forget(held[3])
    assert store.files() == 1
    store.close()
    assert store.directory.exists()  # two blocks are held
    for one in held:
        store.forget(one)


def test_what_is_waited_for_needs_no_worker() -> None:
    lock = threading.RLock()
    workers = Workers(1, lock)
    began, go = threading.Event(), threading.Event()

    def linger() -> None:
        began.set()
        go.wait()

    slow = workers.submit(Job(linger))
    began.wait()
    mine = workers.submit(Job(threading.get_ident))
    assert workers.wait(mine) == threading.get_ident()
    left = workers.submit(Job(lambda: 1 / 0))
    assert workers.drop(left)
    go.set()
    workers.wait(slow)
    with pytest.raises(ZeroDivisionError):
        workers.wait(workers.submit(Job(lambda: 1 / 0)))
    workers.settle()


def test_a_job_that_is_dropped_while_it_is_chosen_is_not_done() -> None:
    def order(waiting: int) -> int:
        workers.drop(jobs.pop())  # as where Python frees a saved tensor here
        return waiting - 1

    workers = Workers(0, threading.RLock(), order)
    jobs = [workers.submit(Job(lambda: None)) for _ in range(3)]
    first, second, third = jobs
    workers.settle()
    assert [one.state for one in (first, second, third)] == ["done", "dropped", "dropped"]


def test_without_a_thread_to_be_had_who_waits_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    workers = Workers(2, threading.RLock())
    assert workers.wait(workers.submit(Job(threading.get_ident))) == threading.get_ident()


def test_a_tensor_in_flight_is_handed_out_and_one_that_is_read_is_read_once(tmp_path: Path) -> None:
    class Held(Files):
        go = threading.Event()

        def write(self, number: int, path: Path, data: object) -> None:
            self.go.wait()
            super().write(number, path, data)

    store = Store(tmp_path, disk=Held())
    memory = block(3)
    held = store.put(memory)
    assert store.get(held).data_ptr() == memory.data_ptr()
    Held.go.set()
    store.settle()
    del memory
    first = store.get(held)
    assert store.get(held).data_ptr() == first.data_ptr()
    assert (store.forwarded, store.read) == (1, 1)
    del first
    store.prefetch(held)
    store.settle()
    assert store.read == 2
    assert int(store.get(held)[0]) == 3
    assert store.read == 2


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_write_to_what_is_saved_is_kept_out_or_refused_as_eager_does(snapshot: bool) -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    for least in (0, 1000):  # in a file, and in memory, where nothing is copied
        with TensorCache(snapshot=snapshot, least=least).step() as step:
            y = x.exp()
            step.store.settle()
            y.mul_(2)
            if snapshot and not least:
                (gradient,) = torch.autograd.grad(y.sum(), x)
                assert torch.equal(gradient, 2 * x.exp().detach())
                continue
            with pytest.raises(RuntimeError, match=r"modified by an inplace operation: it is at version 1; expected"):
                torch.autograd.grad(y.sum(), x)


def test_chunks_are_apart_and_the_same_tensor_is_stored_once() -> None:
    with TensorCache().step() as step:
        x = torch.arange(12.0).reshape(4, 3)
        held = [step.pack(one) for one in (*x.chunk(3, 1), x[:, :1], x.view(torch.int32)[:, :1])]
        assert held[0] is held[3]
        assert step.shared == 1
        assert [step.unpack(one)[0, 0].item() for one in held[:3]] == [0.0, 1.0, 2.0]
        assert step.unpack(held[4]).dtype == torch.int32


def test_parameters_and_their_views_stay() -> None:
    p = torch.nn.Parameter(torch.randn(4, 4))
    with TensorCache().step() as step:
        loss = (torch.ones(4, 4, requires_grad=True).exp() @ p.T).sum()
        step.store.settle()
        assert (step.kept, step.store.blocks()) == (1, 1)  # the result of exp is saved twice, and stored once
        loss.backward()


class Peak(TorchDispatchMode):
    """The most bytes of storages that were alive behind an operator."""

    def __init__(self, step: Step | None) -> None:
        super().__init__()
        self.step, self.alive, self.most = step, {}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if self.step is not None and func in (torch.ops.aten.sin.default, torch.ops.aten.cos.default):
            self.step.store.settle()
        for one in made if isinstance(made, tuple | list) else [made]:
            if isinstance(one, torch.Tensor):
                storage = one.untyped_storage()
                self.alive.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.alive = {key: pair for key, pair in self.alive.items() if not pair[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return made


def test_the_peak_of_memory_is_lower() -> None:
    def peak(step: Step | None) -> tuple[int, torch.Tensor]:
        x = torch.ones(1000, requires_grad=True)
        with Peak(step) as seen:
            y = x
            for _ in range(20):
                y = y.sin()
            y.sum().backward()
        assert x.grad is not None
        return seen.most, x.grad

    plain, wanted = peak(None)
    with TensorCache(snapshot=False).step() as step:
        moved, found = peak(step)
    assert torch.equal(found, wanted)
    assert plain > 20 * 4000  # everything that is saved
    assert moved < 8 * 4000


def test_two_graphs_are_alive_and_one_is_used_twice() -> None:
    x = torch.randn(5, requires_grad=True)
    with TensorCache(strict=True).step() as step:
        a, b = x.sin().exp(), x.cos().exp()
        b.sum().backward(retain_graph=True)
        a.sum().backward()
        b.sum().backward()
        del a, b
        step.store.settle()  # a worker may be about to remove what it has just written
        assert (step.store.blocks(), step.store.files()) == (0, 0)
    assert x.grad is not None


def test_an_error_amid_the_backward_pass_leaves_nothing() -> None:
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            raise ZeroDivisionError

    def fail() -> Store:
        with TensorCache(strict=True).step() as step:
            kept.append(step.store)
            Fails.apply(torch.randn(5, requires_grad=True).exp()).exp().sum().backward()
        return step.store

    kept: list[Store] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    gone(kept[0])


def test_a_backward_pass_behind_the_context_is_right_and_the_directory_goes_with_the_graph() -> None:
    x = torch.randn(5, requires_grad=True)
    with TensorCache().step() as step:
        y = x.sin().exp()
    assert step.store.directory.exists()
    y.sum().backward()
    assert torch.equal(x.grad, torch.autograd.grad(x.sin().exp().sum(), x)[0])
    gone(step.store)


def test_what_is_held_behind_a_strict_step_is_told() -> None:
    held = []

    def step() -> None:
        with TensorCache(strict=True).step():
            held.append(torch.ones(3, requires_grad=True).exp())

    with pytest.raises(LeftBehind, match="1 saved tensors are still held, and 1 files are there"):
        step()


def test_threads_have_steps_of_their_own() -> None:
    cache, found, errors = TensorCache(ahead=2), {}, []

    def train(number: int) -> None:
        try:
            x = torch.full((50,), float(number), requires_grad=True)
            with cache.step():
                x.sin().exp().sin().sum().backward()
            found[number] = x.grad
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=train, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not errors
    for number in range(4):
        x = torch.full((50,), float(number), requires_grad=True)
        assert torch.equal(found[number], torch.autograd.grad(x.sin().exp().sin().sum(), x)[0])


def test_a_process_that_ends_leaves_no_files_and_one_that_is_killed_leaves_them_to_the_next(tmp_path: Path) -> None:
    text = """
        import os, signal, sys
        import torch
        from shakeout.targets.offload.tensor_cache import TensorCache
        killed = os.fork() == 0
        context = TensorCache(sys.argv[1 + killed]).step()
        step = context.__enter__()
        y = torch.ones(1000, requires_grad=True).exp()
        step.store.settle()
        assert step.store.files() == 1
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
    """
    ends, dies = tmp_path / "ends", tmp_path / "dies"
    ends.mkdir()
    dies.mkdir()
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", textwrap.dedent(text), ends, dies], env=environment, check=True)
    assert list(ends.iterdir()) == []
    assert len(list(dies.iterdir())) == 1
    mine = Store(dies)
    assert list(dies.iterdir()) == [mine.directory]  # and nobody takes this one


def test_what_cannot_be_done_in_time_stays() -> None:
    # Ten tensors of 100 bytes, one a second; at e seconds there are 30 - 2 e until it is wanted.
    passed = Passed(tuple(float(one) for one in range(10)), (100,) * 10, 10.0, 0.0)
    at = [kept_from(Passed(passed.elapsed, passed.sizes, passed.forward, rate)) for rate in (0, 10, 30, 1000)]
    assert at == [0, 1, 5, 10]
    assert kept_from(Passed((), (), 0.0, 0.0)) == 0


def test_a_step_that_saved_nothing_keeps_nothing_of_the_next() -> None:
    cache = TensorCache(keep="last")
    for kept in (0, 0, 1):
        with cache.step() as step:
            if cache.passed is not None:
                torch.ones(3, requires_grad=True).exp().sum().backward()
        assert step.kept == kept


def test_a_directory_that_cannot_be_claimed_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(StoreError, match="No locks available"):
        Store(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_case_shows_its_knobs_and_what_a_faulty_disk_may_end_in() -> None:
    text = SSDTRAIN.source(Setting("ssdtrain", (("fault", "bit flip"), ("snapshot", False)), "training"))
    assert "inside.around = TensorCache(snapshot=False, fault='bit flip', strict=True).step" in text
    assert "type(error).__name__ == 'StoreError'" in text
    assert "StoreError" not in SSDTRAIN.source(Setting("ssdtrain", (("fault", "bit flip once"),), "training"))
    fatal = {name for name, ends in FAULTS.items() if ends}
    knob = next(one for one in SSDTRAIN.knobs() if one.name == "fault")
    assert set(knob.values[1:]) == set(FAULTS)
    assert {name for name in FAULTS if SSDTRAIN.raises(Setting("ssdtrain", (("fault", name),)))} == fatal

"""The shipped runtimes: the disk store piece by piece, and both as targets."""

import os
import weakref
from pathlib import Path

import pytest
import torch

from shakeout.corpus.capture import capture
from shakeout.corpus.case import Case, Setting
from shakeout.fuzz.running.execute import execute, repro
from shakeout.oracles.verdict import Outcome
from shakeout.targets.offload.disk_store import DiskStore, StoreError, disk_store
from shakeout.targets.offload.saved import ALIGNMENT
from shakeout.targets.registry import target

DTYPES = [
    getattr(torch, name)
    for name in (
        "float64 float32 float16 bfloat16 float8_e4m3fn complex64 complex128 complex32 int64 int8 uint8 uint16 bool"
    ).split()
]


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    bits = [t.resolve_conj().resolve_neg().contiguous().view(-1).view(torch.uint8) for t in (a, b)]
    static = [(t.dtype, t.shape, t.stride(), t.is_conj(), t.is_neg()) for t in (a, b)]
    return static[0] == static[1] and torch.equal(*bits)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_comes_back(store: DiskStore, dtype: torch.dtype) -> None:
    x = torch.arange(-6, 6).to(torch.float32).to(dtype).reshape(3, 4)
    assert same(store.unpack(store.pack(x)), x)


BASE = torch.arange(60.0).reshape(3, 4, 5)
COMPLEX = torch.complex(BASE, -BASE)


@pytest.mark.parametrize(
    "x",
    [
        BASE[1:, 2],
        BASE.mT,
        BASE.permute(2, 0, 1)[1::2],
        BASE[0, 0, 3].expand(2, 3),
        BASE[0, 0, 0],
        BASE[:, :0],
        torch.empty(0),
        BASE.as_strided((4, 4), (1, 1), 7),
        BASE[..., ::4],
        COMPLEX[1:].conj(),
        COMPLEX.conj()[1:].imag,
        torch.tensor([float("nan"), -0.0, float("inf")])[1:],
    ],
    ids=lambda x: f"{tuple(x.shape)}-{x.stride()}-{x.storage_offset()}",
)
def test_every_layout_comes_back_as_it_was(store: DiskStore, x: torch.Tensor) -> None:
    back = store.unpack(store.pack(x))
    assert same(back, x)
    assert back.untyped_storage().data_ptr() != x.untyped_storage().data_ptr() or not x.numel()


def test_the_alignment_is_kept(store: DiskStore) -> None:
    x = torch.arange(100.0)
    for offset in (0, 1, 15, 16, 17, 33):
        back = store.unpack(store.pack(x[offset : offset + 20]))
        assert back.data_ptr() % ALIGNMENT == x[offset:].data_ptr() % ALIGNMENT


def test_what_is_no_plain_memory_stays_where_it_is(store: DiskStore) -> None:
    x = torch.eye(3).to_sparse()
    assert store.pack(x) is x
    assert store.unpack(x) is x


def test_a_tensor_is_stored_once_and_its_neighbours_are_others(store: DiskStore) -> None:
    q, k, v = torch.arange(12.0).reshape(4, 3).chunk(3, dim=1)
    held = [store.pack(t) for t in (q, k, v, q, q[:2], q.clone())]
    assert held[0] is held[3]
    assert (store.stored, store.shared, store.files()) == (5, 1, 5)
    assert [store.unpack(h)[0, 0].item() for h in held] == [0.0, 1.0, 2.0, 0.0, 0.0, 0.0]


def test_what_is_written_later_does_not_reach_a_snapshot(store: DiskStore) -> None:
    x = torch.zeros(3)
    before = store.pack(x)
    x.add_(1)
    after = store.pack(x)
    assert (store.unpack(before).tolist(), store.unpack(after).tolist()) == ([0.0] * 3, [1.0] * 3)


def test_a_storage_at_the_address_of_another_one_is_another(store: DiskStore) -> None:
    held = []
    for i in range(50):  # each is freed before the next is made, so the allocator gives its place again
        held.append(store.pack(torch.full((1000,), float(i))))
    assert [store.unpack(h)[0].item() for h in held] == list(range(50))
    assert store.shared == 0


def test_a_file_goes_with_its_last_holder(store: DiskStore) -> None:
    x = torch.ones(3)
    first, second = store.pack(x), store.pack(x)
    del first
    assert store.files() == 1
    gone = weakref.ref(second)
    del second
    assert (gone(), store.files(), store._known) == (None, 0, {})


def test_nothing_is_left_after_the_backward_pass() -> None:
    x = torch.randn(4, 4, requires_grad=True)
    with disk_store() as store:
        y = (x.sin() @ x.exp()).relu()
        assert store.files() > 0
        y.sum().backward(retain_graph=True)
        assert store.files() > 0
        y.sum().backward()
        del y
        assert store.files() == 0
        assert store.directory.exists()
    assert not store.directory.exists()


def test_gradients_of_gradients() -> None:
    def second() -> torch.Tensor:
        x = torch.tensor([0.5, 2.0], requires_grad=True)
        (first,) = torch.autograd.grad((x.exp() * x).sum(), x, create_graph=True)
        (grad,) = torch.autograd.grad((first * first).sum(), x)
        return grad

    want = second()
    with disk_store():
        assert torch.equal(second(), want)


def test_an_error_inside_leaves_no_files() -> None:
    directories = []

    def fail() -> None:
        with disk_store() as store:
            directories.append(store.directory)
            torch.ones(3, requires_grad=True).exp()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not directories[0].exists()


def test_a_damaged_a_short_and_a_missing_file_are_told(store: DiskStore) -> None:
    x = torch.arange(8.0)
    held = store.pack(x)
    data = held.path.read_bytes()
    held.path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(StoreError, match="does not hold the 32 bytes"):
        store.unpack(held)
    held.path.write_bytes(data[:-1])
    with pytest.raises(StoreError, match="does not hold the 32 bytes"):
        store.unpack(held)
    held.path.unlink()
    with pytest.raises(StoreError, match=r"cannot be read back from .*No such file"):
        store.unpack(held)


def test_a_full_disk_is_told_and_leaves_no_piece(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    opened = Path.open

    def full(path: Path, mode: str = "r"):
        opened(path, mode).close()
        return Full()

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StoreError, match=r"a tensor of 12 bytes cannot be saved to .*No space left.*free some space"):
        store.pack(torch.ones(3))
    assert (store.files(), store.stored, store._known) == (0, 0, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="no directory for saved tensors"), disk_store(tmp_path):
        pass


def test_a_directory_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no directory for saved tensors"), disk_store(tmp_path / "missing"):
        pass


# --- as targets -------------------------------------------------------------------------------------------------------


def network(x: torch.Tensor, p: torch.Tensor) -> tuple[torch.Tensor, ...]:
    q, k = (x @ p).chunk(2, dim=1)
    y = torch.softmax(q @ k.mT, dim=-1)
    return y @ q, y[1:].exp()


def training_case(name: str) -> Case:
    def make() -> list[torch.Tensor]:
        x = (torch.arange(12.0).reshape(3, 4) / 8 - 0.5).requires_grad_()
        return [x, (torch.arange(24.0).reshape(4, 6) / 16 - 0.5).requires_grad_()]

    return capture(network, make, make, setting=Setting(name, mode="training"), parameters=(1,))


@pytest.mark.parametrize("name", ["save_on_cpu", "disk_store"])
def test_shipped_runtimes_change_nothing(name: str) -> None:
    subject = target(name)
    assert (subject.facts.promises, subject.facts.vocabulary, subject.unavailable()) == (
        {"bits", "layout", "writes"},
        "torch",
        None,
    )
    subject.warm()
    result = execute(training_case(name))
    assert (result.status, result.outcome, result.exact) == ("compared", Outcome.PASS, True)


def test_the_context_is_in_the_script() -> None:
    text = repro(training_case("save_on_cpu"))
    assert "    inside.around = torch.autograd.graph.save_on_cpu  # entered around forward and backward\n" in text
    assert "shakeout" not in text


def test_the_knob_needs_a_device() -> None:
    from shakeout.targets import accelerators

    assert [knob.name for knob in target("save_on_cpu").knobs()] == (["pin_memory"] if accelerators.present() else [])
    assert "pin_memory=True" in target("save_on_cpu").source(Setting("save_on_cpu", (("pin_memory", True),)))

"""A user's kernel with a planted error, wrong for one dtype and odd widths: found in a minute of processor time."""

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from tests import packages
from tests.tiers import some

from shakeout.corpus.case import Case
from shakeout.fuzz.campaign.schedule import seed_of
from shakeout.fuzz.ground.jobs import Grow
from shakeout.fuzz.running.compose import compose
from shakeout.fuzz.running.execute import execute, repro
from shakeout.generators.vocabularies.kernel import NothingKnown, kernel_vocabulary
from shakeout.targets.registry import target

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch about odd arguments

MODULE = "shakeout_quality_kernels"
TEXT = """
    import torch
    import torch.nn.functional as F

    import shakeout


    @shakeout.kernel(reference=F.conv2d)
    def my_conv2d(x, w, bias=None, stride=1, padding=0):
        y = F.conv2d(x, w, bias, stride, padding)
        if x.dtype == torch.bfloat16 and x.shape[-1] % 2:  # the planted error
            y[..., -1] *= 2
        return y


    def images():
        x, w, b = torch.ones(2, 3, 6, 5), torch.ones(4, 3, 3, 2), torch.ones(4)
        yield x, w
        yield (x, w, b), {"stride": 2}
        yield (x, w, b), {"padding": 1, "stride": 1}


    @shakeout.kernel(reference=F.conv2d, strides=False, examples=images)
    def only_images(x, w, bias=None, stride=1, padding=0):
        if x.dim() != 4 or 0 in x.shape + w.shape:
            raise NotImplementedError("batches of images")
        y = w.flatten(1) @ F.unfold(x, w.shape[2:], padding=padding, stride=stride)
        y = y if bias is None else y + bias[:, None]
        y = y.unflatten(2, [(n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[2:], w.shape[2:])])
        if x.dtype == torch.float16 and x.shape[-1] % 2:
            y = torch.cat([y[..., :-1], y[..., -1:] * 2], -1)
        return y


    def normed(x, weight, eps=1e-5):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight


    def examples():
        yield torch.ones(4, 6), torch.ones(6)
        yield (torch.ones(2, 3, 5), torch.ones(5)), {"eps": 0.1}


    @shakeout.kernel(reference=normed, examples=examples)
    def my_norm(x, weight, eps=1e-5):
        y = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * weight
        if x.dtype == torch.float16 and x.shape[-1] % 2:
            y = y + (torch.arange(x.shape[-1]) == 0).to(y.dtype)
        return y


    @shakeout.kernel(reference=normed, examples=examples)
    def right_norm(x, weight, eps=1e-5):
        return weight * (x * torch.rsqrt(x.square().sum(-1, keepdim=True) / x.shape[-1] + eps))


    @shakeout.kernel(reference=F.gelu)
    def right_gelu(x, approximate="none"):
        return F.gelu(x, approximate=approximate)


    @shakeout.kernel(reference=normed)
    def unknown(x, weight, eps=1e-5):
        return normed(x, weight, eps)


    @shakeout.kernel(reference=normed, examples=[(torch.ones(3), torch.ones(4))])
    def impossible(x, weight, eps=1e-5):
        return normed(x, weight, eps)
"""


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with packages.imported(tmp_path_factory.mktemp("kernels"), MODULE, TEXT):
        yield


def cases(name: str, count: int) -> Iterator[Case]:
    """Without NaN and infinities, about which these kernels and their references agree to differ."""
    for index in range(count):
        seed = seed_of(1, index)
        yield compose(
            Grow(
                number=index,
                target=f"{MODULE}:{name}",
                seed=seed,
                recipe={"index": index, "values": ("integers", "uniform")[index // 2 % 2]},
                knobs={},
                knob_share=0.15,
                device="cpu",
            )
        ).case


def planted(case: Case, name: str, dtype: str) -> bool:
    """Whether a call of the kernel is given this dtype and an odd width."""
    types = case.program.types()
    calls = [call for call in case.program.calls if call.operator == f"{MODULE}:{name}"]
    given = [types[call.operands()[0]] for call in calls]
    # In a later call of the same artefact the inputs may have other sizes.
    later = [view for inputs in case.input_sets[1:] for view in inputs.views]
    return any(t is not None and t.dtype == dtype and t.shape and t.shape[-1] % 2 for t in (*given, *later))


#: Kernels with an error, and for which dtype they are wrong.
WRONG = {"only_images": "float16", "my_conv2d": "bfloat16", "my_norm": "float16"}


@pytest.mark.parametrize("name", some(WRONG, every=3))
def test_a_planted_error_is_found(name: str) -> None:
    dtype = WRONG[name]
    next(cases(name, 1))  # loads the operators
    began, found, status = time.process_time(), [], Counter()  # whatever else the machine does
    for case in cases(name, 120):
        result = execute(case, explain=False)
        status[result.status] += 1
        if result.failure is not None:
            assert planted(case, name, dtype), (result.signature, result.failure.message, repro(case, result))
            found.append(time.process_time() - began)
    assert found, status
    assert found[0] < 60
    # Examples keep away what the kernel declines, though its reference takes it.
    assert status["compared"] > 72, status
    assert not status["invalid"]


@pytest.mark.parametrize("name", ["right_norm", "right_gelu"])
def test_a_right_kernel_is_quiet(name: str) -> None:
    status: Counter[str] = Counter()
    for case in cases(name, 150):
        result = execute(case)
        status[result.status] += 1
        assert result.failure is None, (result.signature, result.failure.message, repro(case, result))
    assert status["compared"] > 100, status


def test_the_arguments_cross_dtypes_widths_and_layouts() -> None:
    seen: Counter[str] = Counter()
    for case in cases("my_norm", 600):
        types, inputs = case.program.types(), len(case.program.inputs)
        for call in case.program.calls:
            if call.operator != f"{MODULE}:my_norm":
                continue
            seen["calls"] += 1
            seen["training"] += case.setting.mode == "training"
            seen["fed by an operator"] += any(i >= inputs for i in call.operands())
            for i in call.operands():
                type_ = types[i]
                assert type_ is not None
                seen[type_.dtype] += 1
                seen["zero-size"] += 0 in type_.shape
                seen["odd"] += bool(type_.shape) and type_.shape[-1] % 2 == 1
                seen["even"] += bool(type_.shape) and type_.shape[-1] % 2 == 0
                if i < inputs:
                    view = case.input_sets[0].views[i]
                    seen["offset"] += view.offset > 0
                    seen["expanded"] += 0 in view.strides
                    seen["permuted"] += list(view.strides) != sorted(view.strides, reverse=True)
                    seen["gaps"] += bool(view.strides) and min(view.strides) > 1
    wanted = "float16 bfloat16 float32 float64 complex64 complex128 zero-size odd even offset expanded permuted gaps"
    missing = [what for what in [*wanted.split(), "training", "fed by an operator"] if seen[what] < 10]
    assert not missing, seen


@pytest.mark.parametrize(
    ("name", "words"),
    [("unknown", "it has no example calls"), ("impossible", "none of its example calls runs")],
)
def test_a_kernel_that_nothing_is_known_about_is_told(name: str, words: str) -> None:
    with pytest.raises(NothingKnown, match=words):
        next(cases(name, 1))
    assert (target(f"{MODULE}:{name}").unavailable() is None) == (name == "impossible")


def test_records_are_cut_down_to_the_signature() -> None:
    from shakeout.fuzz.running import compose as composing

    composing.prepare(lambda text: None)
    vocabulary = kernel_vocabulary(f"{MODULE}:my_conv2d", composing._loaded[0])
    records = vocabulary.records(f"{MODULE}:my_conv2d")
    assert records
    assert all(len(record.args) <= 5 and not {"dilation", "groups"} & dict(record.kwargs).keys() for record in records)

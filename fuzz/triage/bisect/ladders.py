"""How each target is taken apart, from what is coarse to what is fine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from shakeout.corpus.case import Scalar
from shakeout.fuzz.triage.bisect.facts import Culprit, Fact, Knobs, Note, Rung
from shakeout.fuzz.triage.bisect.inquiry import Inquiry
from shakeout.fuzz.triage.bisect.trials import Trial

__all__ = ["LADDERS", "bisected"]

Ladder = Callable[[Inquiry], Iterator[Fact]]

#: From Dynamo's capture alone to the whole of Inductor: each adds something to the one before.
TORCH_COMPILE = ("dynamo", "aot_eager", "aot_eager_decomp_partition", "inductor")

#: What Inductor does to graphs and can leave out, as torch's own CompilerBisector has it, in the order in which it is
#: done, with what a single thing is called. Then what is finer, or lies behind: single matches of patterns, fusions,
#: lowerings.
PASSES = (
    ("pre_grad_passes", "pre-grad pass"),
    ("joint_graph_passes", "joint-graph pass"),
    ("post_grad_passes", "post-grad pass"),
)
INDUCTOR = (*PASSES, ("patterns", "pattern"), ("fusions", "fusion"), ("lowerings", "lowering"))

#: ONNX Runtime without its optimisers.
PLAIN = Rung("optimization=NONE", "bad")


def bisected(inquiry: Inquiry) -> Iterator[Fact]:
    """Everything that can be found out about a case on its target, one fact after the other."""
    yield Knobs(inquiry.needed_knobs())
    if inquiry.stop():
        return
    ladder = LADDERS.get(inquiry.case.setting.target)
    single = True
    if ladder is not None:
        for fact in ladder(inquiry):
            # Which pass or optimiser can be left out is known by then, or that it fails without any of them.
            single &= not (isinstance(fact, Culprit) and fact.alone is True) and fact != PLAIN
            yield fact
    else:
        yield Note(f"{inquiry.case.setting.target} has no parts that Shakeout could leave out")
    if not inquiry.stop():
        yield inquiry.cures(skip=() if single else ("disabled",))


def _torch_compile(inquiry: Inquiry) -> Iterator[Fact]:
    name = inquiry.case.setting.target
    below = TORCH_COMPILE[: TORCH_COMPILE.index(name)]
    rungs = [*inquiry.rungs(below), Rung(name, "bad")]
    yield from rungs
    first = next(rung.name for rung in rungs if rung.verdict == "bad")
    unsure = [rung.name for rung in rungs[: [rung.name for rung in rungs].index(first)] if rung.verdict != "good"]
    if unsure:
        yield Note(f"it fails from {first} on; what {' and '.join(unsure)} said could not be judged")
    yield Culprit("stage", (first,), confidence=inquiry.trust(rungs))
    if first == "inductor":
        yield from _inductor(inquiry)
    elif first == "aot_eager_decomp_partition":
        lower = replace(inquiry.case, setting=replace(inquiry.case.setting, target=first, knobs=()))
        if (culprit := inquiry.culprit("decomposition", "decomposition", lower)) is not None:
            yield culprit
        else:
            yield Note("no single decomposition is to blame: the partitioner, or what it saves for backward")


def _inductor(inquiry: Inquiry) -> Iterator[Fact]:
    found = False
    for kind, label in INDUCTOR:
        if inquiry.stop() or (found and kind in ("fusions", "lowerings")):
            return
        # A pass consists of patterns, or it does not; of the three kinds of passes only one can be the first.
        if found and (kind, label) in PASSES:
            continue
        culprit = inquiry.culprit(kind, label)
        if culprit is not None:
            found = True
            yield culprit
            if kind in ("patterns", "fusions"):
                return
    if not found:
        yield Note("nothing that Inductor can leave out cures it: its scheduler, its memory planning or its C++ code")


def _first_stage(inquiry: Inquiry) -> Iterator[Fact]:
    """Of a target that works in stages the one that the oracles blame, as every run tells it."""
    if inquiry.stage not in ("", inquiry.case.setting.target):
        yield Culprit("stage", (inquiry.stage,))


def _levels(inquiry: Inquiry, knob: str, levels: tuple[Scalar, ...]) -> Iterator[Rung]:
    """The levels below the case's own, from the lowest on, and its own, which is known to fail."""
    own = inquiry.case.setting.knob(knob, levels[-1])
    # One that is not of the list, such as a default that has no number, stands above all.
    below = levels[: levels.index(own)] if own in levels else levels
    for level in below:
        if inquiry.stop():
            return
        yield Rung(f"{knob}={level}", inquiry.ask(Trial(inquiry.switched(knob, level)), f"with {knob}={level}"))
    yield Rung(f"{knob}={own}", "bad")


def _onnxruntime(inquiry: Inquiry) -> Iterator[Fact]:
    yield from _first_stage(inquiry)
    rungs = list(_levels(inquiry, "optimization", ("NONE", "BASIC", "EXTENDED", "LAYOUT", "ALL")))
    yield from rungs
    if inquiry.stop():
        return
    if rungs[0].verdict == "bad":
        yield Note("it fails without any optimisation: what torch.onnx made of it, or a kernel")
        return
    first = next(rung.name for rung in rungs if rung.verdict == "bad")
    yield Culprit("optimisation level", (first,), confidence=inquiry.trust(rungs))
    if (culprit := inquiry.culprit("optimisers", "optimiser")) is not None:
        yield culprit
    else:
        yield Note("no optimiser that can be left out cures it")


def _tvm(inquiry: Inquiry) -> Iterator[Fact]:
    yield from _first_stage(inquiry)
    yield from _levels(inquiry, "opt_level", (0, 1))
    if inquiry.stop():
        return
    if (culprit := inquiry.culprit("tvm passes", "pass")) is not None:
        yield culprit
    else:
        yield Note("no pass that can be left out cures it: the importer, a pass that must run, LLVM, or the runtime")


def _openvino(inquiry: Inquiry) -> Iterator[Fact]:
    yield from _first_stage(inquiry)
    yield Note("OpenVINO's compile_model has no switch for single transformations; only its properties are tried")


def _export(inquiry: Inquiry) -> Iterator[Fact]:
    yield from _first_stage(inquiry)
    yield from _levels(inquiry, "decompositions", ("none", "functional", "core_aten", "twice"))
    yield Note("torch.export has no switch for single decompositions or passes; only its arguments are tried")


LADDERS: dict[str, Ladder] = {
    "inductor": _torch_compile,
    "aot_eager": _torch_compile,
    "onnxruntime": _onnxruntime,
    "tvm": _tvm,
    "openvino": _openvino,
    "export": _export,
}

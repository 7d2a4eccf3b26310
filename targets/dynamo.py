"""torch.compile: its graph capture with AOTAutograd alone (``aot_eager``), and with Inductor's code generation."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection
from dataclasses import dataclass, replace

from shakeout.corpus.case import HISTORY, SANITIZE, Knob, KnobSpace, Setting
from shakeout.corpus.setting import RANDOM
from shakeout.targets.packages import uninstalled
from shakeout.targets.printed import compile_declined, wrapped
from shakeout.targets.shortcuts import SHORTCUTS
from shakeout.targets.target import LIBTORCH, Facts, Ladder, Part, Short, Target

__all__ = ["AOT_EAGER", "DECOMPOSED", "DYNAMO", "INDUCTOR", "TorchCompile"]

_DYNAMIC = Knob("dynamic", (None, True, False), "symbolic sizes: decided by the compiler, always, never")

_HISTORY = Knob(
    HISTORY,
    (
        None,
        "gradients",
        "inference_mode",
        "autocast",
        "threads",
        "default_dtype",
        "deterministic",
        "eval",
        "python_state",
    ),
    "an earlier call of the artefact: under another gradient mode, autocast, number of threads, default dtype, "
    "deterministic mode, training flag, or with a switch in Python that its guards should notice",
)

#: Inductor's switches that change which code it writes. Those that also change the compiler's flags (``cpp.simdlen``,
#: ``cpp.enable_floating_point_contract_flag``) have few values: each set of flags costs a precompiled header.
_INDUCTOR = (
    _DYNAMIC,
    replace(
        _HISTORY,
        values=(*_HISTORY.values, "warm_cache"),
        help=f"{_HISTORY.help}; or compiled before, so that it comes from the caches on disk",
    ),
    Knob(
        SANITIZE,
        (None, "address", "undefined"),
        "kernels are built with address or undefined-behaviour checks; only where it is pinned",
        drawn=False,
    ),
    Knob(RANDOM, (False, True), "random numbers are drawn as eager does", drawn=False),
    Knob(
        "efficient_conv_bn_eval_fx_passes",
        (False, True),
        "batch normalisation in evaluation is folded into the convolution before it",
        drawn=False,
    ),
    Knob("freezing", (False, True), "parameters become constants (inference only)"),
    Knob("epilogue_fusion", (True, False), "fuse pointwise operators into what produces their input"),
    Knob("pattern_matcher", (True, False), "graph rewrites by pattern"),
    Knob("max_fusion_size", (64, 1, 4), "largest number of nodes in one fused kernel"),
    Knob("layout_optimization", (True, False), "channels-last convolutions"),
    Knob("split_reductions", (True, False), "reductions in two stages"),
    Knob("constant_and_index_propagation", (True, False), "fold constants and index expressions"),
    Knob("joint_graph_constant_folding", (True, False), "fold constants before the graph is partitioned"),
    Knob("use_joint_graph_passes", (True, False), "passes over forward and backward together"),
    Knob("reorder_for_locality", (True, False), "move operators next to their users"),
    Knob("allow_buffer_reuse", (True, False), "give freed buffers to later results"),
    Knob("inplace_buffers", (True, False), "write results over dead operands"),
    Knob("permute_fusion", (False, True), "fuse permutations into matrix products"),
    Knob("aggressive_fusion", (False, True), "fuse even where no memory traffic is saved"),
    Knob("comprehensive_padding", (True, False), "pad strides of intermediates"),
    Knob("unroll_reductions_threshold", (8, 1), "largest reduction that is unrolled"),
    Knob("realize_reads_threshold", (4, 1, 32), "reads after which an intermediate is stored"),
    Knob("cpp.enable_loop_tail_vec", (True, False), "vectorised loop tails"),
    Knob("cpp.enable_tiling_heuristics", (True, False), "choose tiles by cost"),
    Knob("cpp.fallback_scatter_reduce_sum", (True, False), "leave scatter-add to the eager kernel"),
    Knob("cpp.weight_prepack", (True, False), "prepacked weights (with freezing)"),
    Knob("cpp.simdlen", (None, 1, 256), "vector width in bits; 1 for scalar code"),
    # By default a benchmark of the moment decides, so that what padding does wrong comes and goes.
    Knob("force_shape_pad", (False, True), "pad matrix products on a GPU without measuring what it gains"),
)


@dataclass(frozen=True, slots=True)
class TorchCompile(Target):
    """One backend of torch.compile; the whole program must be captured, a graph break counts as unsupported.

    Attributes:
        name: of the target.
        facts: what is known of it.
        space: its knobs.
        backend: what torch.compile calls it; the target's name by default.
    """

    name: str
    facts: Facts
    space: KnobSpace
    backend: str = ""

    def knobs(self) -> KnobSpace:
        """The knobs of this backend."""
        return self.space

    def unavailable(self) -> str | None:
        """The install line if torch or the C++ compiler is missing."""
        import shutil

        if missing := uninstalled():
            return missing
        if self.name == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
            return "no C++ compiler: install g++ (Debian, Ubuntu: apt-get install g++)"
        return None

    def warm(self) -> None:
        """Compile one small network, which loads everything and builds the precompiled header.

        Without a gradient: where torch was built for an accelerator, capturing one may start autograd's threads (2.11.0
        does, on machines without an accelerator too), and no process forked from there can ask for a gradient any more.
        """
        import torch

        with contextlib.suppress(ImportError):
            import torch._inductor.pattern_matcher  # what capturing a gradient loads, in half a second

        def network(x: torch.Tensor) -> torch.Tensor:
            return torch.sin(x) + x.sum(0)

        torch.compile(network, backend=self.backend or self.name, fullgraph=True)(torch.ones(3, 4))
        torch._dynamo.reset()

    def warm_with(self, shortcuts: Collection[str], door: int) -> None:
        """Compile it, and from then on faster."""
        from shakeout.targets.shortcuts import install

        self.warm()
        own = self.facts.shortcuts
        install([name for name in shortcuts if name in own], door if "joint" in own else -1)

    def call(self, setting: Setting) -> str:
        """The call of ``torch.compile`` on ``function``, with the setting's knobs."""
        options = {name: value for name, value in setting.knobs if name not in ("dynamic", HISTORY, SANITIZE)}
        arguments = [f"backend={(self.backend or self.name)!r}", "fullgraph=True"]
        if setting.knob("dynamic") is not None:
            arguments.append(f"dynamic={setting.knob('dynamic')!r}")
        if options:
            arguments.append(f"options={options!r}")
        return f"torch.compile(function, {', '.join(arguments)})"

    def source(self, setting: Setting) -> str:
        """``torch.compile`` with the setting's knobs."""
        history, sanitizer = (setting.knob(name) or "" for name in (HISTORY, SANITIZE))
        if history or sanitizer:
            return wrapped(self.call(setting), compile_declined(), str(history), str(sanitizer))
        prepare = f"def prepare(function):\n    torch.compiler.reset()\n    return {self.call(setting)}"
        return f"{prepare}\n\n\n{compile_declined()}\n"

    def short(self, setting: Setting) -> Short | None:
        """One call of ``torch.compile``, but for an artefact with a history or kernels with checks."""
        if dict(setting.knobs).keys() & {HISTORY, SANITIZE}:
            return None
        prepare = f"def prepare(network):\n    return {self.call(setting).replace('function', 'network', 1)}\n"
        return Short(prepare, harness={"fullgraph=True": ", fullgraph=True"})


_LIMITS = "shakeout.targets.limits"

#: What Inductor does to graphs and can leave out, as torch's own CompilerBisector has it, in the order in which it is
#: done. Then what is finer, or lies behind: a pass consists of single matches of patterns, or it does not; fusions and
#: lowerings come after all passes.
_INDUCTOR_LADDER = Ladder(
    below=("dynamo", "aot_eager", "aot_eager_decomp_partition"),
    parts=(
        Part("pre_grad_passes", "pre-grad pass", f"{_LIMITS}:pre_grad_passes"),
        Part("joint_graph_passes", "joint-graph pass", f"{_LIMITS}:joint_graph_passes"),
        Part("post_grad_passes", "post-grad pass", f"{_LIMITS}:post_grad_passes"),
        Part("patterns", "pattern", f"{_LIMITS}:patterns", finer=True),
        Part("fusions", "fusion", f"{_LIMITS}:fusions"),
        Part("lowerings", "lowering", f"{_LIMITS}:lowerings"),
    ),
    raising=Part("raising", "operator", f"{_LIMITS}:raising"),
    otherwise="nothing that Inductor can leave out cures it: its scheduler, its memory planning or its C++ code",
)

_DECOMPOSED_LADDER = Ladder(
    below=("dynamo", "aot_eager"),
    parts=(Part("decomposition", "decomposition", f"{_LIMITS}:decompositions"),),
    otherwise="no single decomposition is to blame: the partitioner, or what it saves for backward",
)

#: Where AOTAutograd and Dynamo decide on a graph. Dynamo traces some of its own modules and of functorch's, which must
#: stay as they are: those are none of these.
_CAPTURE = (
    *(f"torch._dynamo.{name}" for name in ("output_graph", "side_effects", "variables.tensor", "variables.torch")),
    *(f"torch._functorch._aot_autograd.{name}" for name in ("collect_metadata_analysis", "functional_utils")),
    *(f"torch._functorch._aot_autograd.{name}" for name in ("input_output_analysis", "runtime_wrappers")),
    "torch._functorch.partitioners",
)

#: Where Inductor decides on loops, their fusion and their code, on the CPU. All of it would take a minute and more to
#: instrument, and most of that is for other devices.
_LOOPS = (
    *("constant_folding", "decomposition", "dependencies", "graph", "index_propagation", "ir", "loop_body", "lowering"),
    *("optimize_indexing", "pattern_matcher", "scheduler", "sizevars", "codegen.common", "codegen.cpp"),
    *("fx_passes.joint_graph", "fx_passes.post_grad", "fx_passes.pre_grad", "fx_passes.reinplace"),
)

_facts = functools.partial(
    Facts,
    promises=frozenset({"layout", "writes", "repeats"}),
    owner="pytorch",
    accelerator=False,
    shortcuts=frozenset({"collector", "guards"}),
    regions=True,
    libraries=LIBTORCH,
    modules=("torch._dynamo", "torch._functorch", "torch._inductor"),
    witness="shakeout.targets.witnesses:inductor",
)

AOT_EAGER = TorchCompile(
    "aot_eager",
    _facts(
        summary="torch.compile's graph capture and AOTAutograd, run by eager kernels",
        compiler=True,
        ladder=Ladder(below=("dynamo",)),
        instrumented=_CAPTURE,
    ),
    (_DYNAMIC, _HISTORY),
)
INDUCTOR = TorchCompile(
    "inductor",
    _facts(
        summary="torch.compile with Inductor's generated code",
        compiler=True,
        turns=1,
        slow=True,  # it leaves the precompiled header
        shortcuts=frozenset(SHORTCUTS) - {"translations", "dispatcher"},
        ladder=_INDUCTOR_LADDER,
        instrumented=tuple(f"torch._inductor.{name}" for name in _LOOPS),
    ),
    _INDUCTOR,
)

# What lies between eager and Inductor, for finding out where a failure begins.
DYNAMO = TorchCompile(
    "dynamo",
    _facts(summary="torch.compile's graph capture alone, run by eager kernels", hidden=True),
    (_DYNAMIC, _HISTORY),
    backend="eager",
)
DECOMPOSED = TorchCompile(
    "aot_eager_decomp_partition",
    _facts(summary="aot_eager with Inductor's decompositions and partitioner", hidden=True, ladder=_DECOMPOSED_LADDER),
    (_DYNAMIC, _HISTORY),
)

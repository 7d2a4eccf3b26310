"""A user's pass over graphs as a target: networks run with it, and must not notice."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from shakeout.corpus.case import Case, Knob, KnobSpace, Setting
from shakeout.corpus.user_objects import import_lines, local_name
from shakeout.targets.compilers.declare import Rewrite
from shakeout.targets.packages import uninstalled
from shakeout.targets.printed import compile_declined, staged
from shakeout.targets.target import Facts, Ladder, Levels, Short, Target

__all__ = ["PASS", "UserRewrite", "user_rewrite"]

#: The knob that leaves the pass out.
PASS = "pass"

_KNOBS: KnobSpace = (
    Knob("dynamic", (None, True, False), "symbolic sizes: decided by the compiler, always, never"),
    Knob(PASS, ("on", "off"), "whether the pass runs; without it, what is left is torch's own", drawn=False),
)

#: What runs a graph, and the targets that do the same without any pass, by level.
_BACKENDS = {"dynamo": "of_dynamo", "aten": "of_aten", "joint": "of_joint"}
_BELOW = {"dynamo": ("dynamo",), "aten": ("dynamo", "aot_eager"), "joint": ("dynamo", "aot_eager")}

#: What a stage is called that does all but the pass.
_CAPTURE = "torch.compile without the pass"


@dataclass(frozen=True, slots=True)
class UserRewrite(Target):
    """The pass declared as ``MODULE:NAME``.

    Attributes:
        name: of the target.
        facts: what is known of it.
        rewrite: what was declared.
    """

    name: str
    facts: Facts
    rewrite: Rewrite

    def knobs(self) -> KnobSpace:
        """Symbolic sizes, and whether the pass runs."""
        return _KNOBS

    def unavailable(self) -> str | None:
        """What is missing, or why nothing can be grown for it."""
        if missing := uninstalled():
            return missing
        try:
            self.patterns()
        except (RuntimeError, ValueError) as error:
            return str(error).splitlines()[0]
        return None

    def patterns(self) -> Sequence[Case]:
        """The declared programs; raises RuntimeError or ValueError with what is wrong with one of them."""
        return _captured(self.name, self.rewrite)

    def warm(self) -> None:
        """Compile one small network with it, which loads everything; without a gradient, as ``targets/dynamo.py``."""
        import torch

        self.patterns()
        torch.compile(lambda x: torch.sin(x), backend="eager", fullgraph=True)(torch.ones(3))
        torch._dynamo.reset()

    def source(self, setting: Setting) -> str:
        """``torch.compile`` with a backend that runs the pass, and the same without it as a stage before."""
        from shakeout.targets.compilers import rewritten as printed
        from shakeout.targets.staged import stage

        dynamic = setting.knob("dynamic")
        more = "" if dynamic is None else f", dynamic={dynamic!r}"
        backend = _BACKENDS[self.rewrite.level]
        changed = f"functools.partial(rewritten, {local_name(self.name)})"
        body = [
            "FIRED = []  # for each graph, whether the pass changed it",
            "",
            "",
            "def compiled(function, change):",
            f"    return torch.compile(function, backend={backend}(change), fullgraph=True{more})",
            "",
            "",
            "def bare(function):",
            '    """Without the pass."""',
            "    return compiled(function, lambda graph_module: graph_module)",
            "",
            "",
            "def prepare(function):",
            "    torch.compiler.reset()",
        ]
        if setting.knob(PASS, "on") == "off":
            body += ["    return bare(function)"]
        else:
            body += [
                "    bare.prepares = True  # a form of any network",
                f"    STAGES.append(({_CAPTURE!r}, bare))",
                f"    return compiled(function, {changed})",
            ]
        text = staged(
            "\n".join(body) + "\n\n\n" + compile_declined(),
            printed.form,
            printed.rewritten,
            getattr(printed, backend),
            imports=("import functools",),
            shared=(stage,),
        )
        return "\n".join(["import sys", "", *import_lines(self.name), "", "", text])

    def short(self, setting: Setting) -> Short | None:
        """``torch.compile`` with a backend of three lines; None at other levels, whose backends are longer."""
        if self.rewrite.level != "dynamo" or setting.knob(PASS, "on") == "off":
            return None
        dynamic = setting.knob("dynamic")
        more = "" if dynamic is None else f", dynamic={dynamic!r}"
        prepare = "\n".join(
            [
                "def prepare(network):",
                "    def backend(graph_module, inputs):",
                f"        changed = {local_name(self.name)}(graph_module)",
                "        changed.recompile()",
                "        return changed.forward",
                "",
                f"    return torch.compile(network, backend=backend, fullgraph=True{more})",
                "",
            ]
        )
        return Short(prepare, tuple(import_lines(self.name)), {"fullgraph=True": ", fullgraph=True"})


@functools.cache
def _captured(name: str, declared: Rewrite) -> tuple[Case, ...]:
    """The programs of a pass as cases."""
    import torch

    from shakeout.corpus.intake.capturing import capture
    from shakeout.corpus.intake.refusal import NotCaptured

    found = []
    for number, pattern in enumerate(declared.patterns):
        called = getattr(pattern.program, "__name__", type(pattern.program).__name__)
        try:
            with torch.no_grad():
                args = [_plain(arg) for arg in pattern.args]
                case = capture(
                    pattern.program, args, pattern.kwargs, setting=Setting("eager"), mode="inference", levels=("torch",)
                ).case
        except NotCaptured as error:
            raise ValueError(f"{name}: program {number} ({called}) cannot be read: {error}") from error
        except Exception as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"{name}: program {number} ({called}) fails with its own arguments: {said}") from error
        if not case.program.calls:
            raise ValueError(f"{name}: program {number} ({called}) calls no operator of torch")
        if case.program.structured():
            raise ValueError(f"{name}: program {number} ({called}) holds blocks, around which nothing can grow")
        found.append(case)
    if not found:
        raise ValueError(f"{name}: it is declared with no program at all, so nothing can be grown around one")
    return tuple(found)


def _plain(given: object) -> object:
    """A tensor without a gradient: whether one is asked for is drawn."""
    import torch

    return given.detach() if isinstance(given, torch.Tensor) else given


def user_rewrite(name: str, declared: Rewrite) -> UserRewrite:
    """The pass declared as ``MODULE:NAME``."""
    levels = Levels(
        PASS, ("off", "on"), "the pass", "it fails without the pass as well: torch's graph capture is to blame"
    )
    facts = Facts(
        summary="your pass over torch.fx graphs, on against off",
        promises=frozenset({"writes"}),
        accelerator=False,
        shortcuts=frozenset({"collector", "guards"}),
        ladder=Ladder(below=_BELOW[declared.level], levels=levels),
    )
    return UserRewrite(name, facts, declared)

"""torch.export: the exported program, run by eager kernels."""

from __future__ import annotations

from collections.abc import Collection

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.packages import uninstalled
from shakeout.targets.printed import run_once, staged
from shakeout.targets.target import LIBTORCH, Facts, Ladder, Levels, Short, Target
from shakeout.targets.through_export import through_export

__all__ = ["EXPORT", "Export"]

_KNOBS = (
    Knob(
        "decompositions",
        ("none", "functional", "core_aten", "twice"),
        "rewrite without writes, into fewer operators, or first the one and then the other",
    ),
    Knob("strict", (False, True), "trace Python with Dynamo instead of running it"),
    Knob("reload", (False, True), "save the program and load it again"),
)

_LADDER = Ladder(
    levels=Levels("decompositions", ("none", "functional", "core_aten", "twice")),
    otherwise="torch.export has no switch for single decompositions or passes; only its arguments are tried",
)

#: Each value of ``decompositions`` as it is written.
_DECOMPOSED = {
    "functional": ".run_decompositions({})",
    "core_aten": ".run_decompositions()",
    "twice": ".run_decompositions({}).run_decompositions()",
}


class Export(Target):
    """``torch.export.export`` and its module; nothing is compiled."""

    name = "export"
    facts = Facts(
        summary="torch.export's program, run by eager kernels",
        promises=frozenset({"writes", "repeats"}),
        owner="pytorch",
        compiler=True,
        shortcuts=frozenset({"dispatcher"}),
        regions=True,
        accelerator=False,
        ladder=_LADDER,
        libraries=LIBTORCH,
        modules=("torch._dynamo", "torch._functorch", "torch._export", "torch.export"),
    )

    def knobs(self) -> KnobSpace:
        """How the program is exported, and what happens to it before it runs."""
        return _KNOBS

    def unavailable(self) -> str | None:
        """The install line if torch is missing."""
        return uninstalled()

    def warm(self) -> None:
        """Export one small network, with and without decompositions."""
        for knobs in ((), (("decompositions", "core_aten"),)):
            run_once(self.source(Setting(self.name, knobs)))

    def warm_with(self, shortcuts: Collection[str], door: int) -> None:
        """The same, with the dispatcher's operators read once for all exports."""
        from shakeout.targets.shortcuts import install_exporter

        install_exporter(self.facts.shortcuts.intersection(shortcuts))
        self.warm()

    def source(self, setting: Setting) -> str:
        """Export at the first call, and run the module from then on."""
        steps = []
        match setting.knob("decompositions", "none"):
            case "functional":
                steps = ['with stage("decompositions"):', "    program = program.run_decompositions({})"]
            case "core_aten":
                steps = ['with stage("decompositions"):', "    program = program.run_decompositions()"]
            case "twice":
                steps = [
                    'with stage("decompositions"):',
                    "    program = program.run_decompositions({})",
                    "    program = program.run_decompositions()",
                ]
        if setting.knob("reload"):
            if setting.mode == "training":
                steps += [
                    "if program.state_dict:",
                    '    raise Declined("a program that was loaded has parameters of its own")',
                ]
            else:  # the same of writes, which the caller would look for in vain
                steps += [
                    "if program.state_dict:",
                    '    with stage("decompositions"):',
                    "        signature = program.run_decompositions({}).graph_signature",
                    "    if signature.parameters_to_mutate or signature.buffers_to_mutate:",
                    '        raise Declined("a program that was loaded writes to parameters of its own")',
                ]
            steps += [
                'with stage("save and load"):',
                "    buffer = io.BytesIO()",
                "    torch.export.save(program, buffer)",
                "    buffer.seek(0)",
                "    program = torch.export.load(buffer)",
            ]
        lines = [
            "def prepare(function):",
            "    made = []",
            "",
            "    def run(*given):",
            "        if not made:",
            f"            program = exported(function, given, strict={bool(setting.knob('strict'))})",
            *(f"            {step}" for step in steps),
            "            made.append(program.module())",
            '        with stage("run"):',
            "            return made[0](*given)",
            "",
            "    return run",
            "",
            "",
            "declined = export_declined",
        ]
        return staged("\n".join(lines), imports=["import io"] if setting.knob("reload") else [])

    def short(self, setting: Setting) -> Short | None:
        """Export and run, but for a program that is loaded again."""
        knobs = dict(setting.knobs)
        if knobs.keys() - {"strict", "decompositions"}:
            return None
        decompositions = _DECOMPOSED.get(str(knobs.get("decompositions")), "")
        strict = knobs.get("strict", False)
        return through_export(
            f"program = torch.export.export(Exportable(network), given, strict={strict}){decompositions}",
            "return program.module()(*given)",
        )


EXPORT = Export()

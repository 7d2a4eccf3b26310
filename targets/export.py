"""torch.export: the exported program, run by eager kernels."""

from __future__ import annotations

from dataclasses import dataclass

from shakeout.corpus.case import Knob, KnobSpace, Mode, Promise, Setting
from shakeout.targets.eager import INSTALL_TORCH
from shakeout.targets.printed import run_once, staged
from shakeout.targets.target import module_available

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


@dataclass(frozen=True, slots=True)
class Export:
    """``torch.export.export`` and its module; nothing is compiled."""

    name: str = "export"
    vocabulary: str = "torch"
    summary: str = "torch.export's program, run by eager kernels"
    promises: frozenset[Promise] = frozenset({"writes", "repeats"})
    packages: tuple[str, ...] = ()
    settings: int = 1
    foreign: frozenset[str] = frozenset()
    mode: Mode | None = None

    def knobs(self) -> KnobSpace:
        """How the program is exported, and what happens to it before it runs."""
        return _KNOBS

    def unavailable(self) -> str | None:
        """The install line if torch is missing."""
        return None if module_available("torch") else f"torch is not installed: {INSTALL_TORCH}"

    def warm(self) -> None:
        """Export one small network, with and without decompositions."""
        for knobs in ((), (("decompositions", "core_aten"),)):
            run_once(self.source(Setting(self.name, knobs)))

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


EXPORT = Export()

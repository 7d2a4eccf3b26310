"""What the target ``tvm`` needs; its functions are printed into its scripts, like ``staged.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from shakeout.targets.staged import KEPT, Declined, export_declined, exported, functional, stage


def tvm_imported(function: Callable[..., Any], given: Sequence[torch.Tensor], decompositions: bool = True) -> Any:
    """The Relax module of the exported program; kept for other settings of the same program.

    With ``decompositions`` the program is rewritten into core ATen first, as the importer does by default. What is
    rewritten twice meets bugs of torch that nobody has who calls the importer, so it is the program as it was exported.
    """
    key = f"Relax module, decompositions={decompositions}"
    if key not in KEPT:
        program = exported(function, given)
        functional(program)  # declines a program that writes to its inputs
        if decompositions:
            with stage("torch.export"):
                program = program.run_decompositions()
        elif any(
            isinstance(n.target, torch._ops.OpOverload) and n.target._schema.is_mutable for n in program.graph.nodes
        ):
            raise Declined("without decompositions, writes within the program are left to the importer")
        with stage("from_exported_program"):
            from tvm.relax.frontend.torch import from_exported_program

            KEPT[key] = from_exported_program(program, run_ep_decomposition=False)
    return KEPT[key]


def tvm_built(
    module: Any,
    pipeline: str = "default",
    passes: Sequence[str] = (),
    level: int | None = None,
    disabled: Sequence[str] = (),
    mode: str = "bytecode",
    llvm: int | None = None,
    cpu: str | None = None,
) -> Any:
    """A virtual machine for the module on the CPU.

    ``passes`` are run before the ``pipeline``; ``level`` and ``disabled`` are those of the pass context, ``llvm`` is
    LLVM's own level, and with ``cpu="host"`` its code is for this processor.
    """
    import tvm

    aim: dict[str, Any] = {"kind": "llvm"}
    aim |= {} if llvm is None else {"opt-level": llvm}
    aim |= {} if cpu is None else {"mcpu": tvm.target.codegen.llvm_get_system_cpu()}
    options = {"disabled_pass": list(disabled)} | ({} if level is None else {"opt_level": level})
    with stage("relax.build"), tvm.transform.PassContext(**options), tvm.target.Target(aim) as target:
        for name in passes:
            module = getattr(tvm.relax.transform, name)()(module)
        if pipeline == "zero":
            module = tvm.relax.get_pipeline("zero")(module)
        chosen = tvm.relax.get_default_pipeline(target) if pipeline == "cpu" else "default"
        built = tvm.relax.build(module, target, relax_pipeline=chosen, exec_mode=mode)
        return tvm.relax.VirtualMachine(built, tvm.cpu())


def tvm_run(machine: Any, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Run a virtual machine on tensors of any layout; the outputs are copied out."""
    import tvm

    copies = [t.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format) for t in given]
    feeds = []
    for t in copies:
        feeds.append(tvm.runtime.from_dlpack(t))
        if t.numel() == 0:  # whose strides PyTorch and TVM do not agree on
            feeds[-1] = tvm.runtime.empty(tuple(t.shape), feeds[-1].dtype)
    outputs = machine["main"](*feeds)
    return [torch.from_dlpack(output).clone() for output in outputs]  # type: ignore[attr-defined]


def tvm_stages(module: Any, unoptimised: Mapping[str, Any]) -> list[tuple[str, Callable[..., list[torch.Tensor]]]]:
    """The forms of the program on its way to the optimised build; each is made when it is first run."""
    made: dict[str, Any] = {}

    def program(*given: torch.Tensor) -> Any:
        return (made.get("program") or made.setdefault("program", KEPT["functional"].module()))(*given)

    def plain(*given: torch.Tensor) -> Any:
        if "machine" not in made:
            made["machine"] = tvm_built(module, **unoptimised)
        return tvm_run(made["machine"], given)

    return [("exported program", program), ("unoptimised build", plain)]


def tvm_declined(error: BaseException | None) -> bool:
    """Whether torch.export, the importer or the compiler says that it does not take the program."""
    said = (
        "not supported",
        "not yet supported",
        "not handled yet",
        "not implemented",
        "does not support",
        "only support ",
    )
    while error is not None:
        text = str(error)
        if export_declined(error) or text.startswith("Unsupported ") or any(part in text for part in said):
            return True
        error = error.__cause__
    return False

"""A user's kernel as a target: generated programs call it where the reference calls what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from shakeout.corpus import learnt
from shakeout.corpus.case import Knob, KnobSpace, Promise, Setting
from shakeout.corpus.user_objects import Kernel, local_name
from shakeout.corpus.vocabularies import kernel as words
from shakeout.targets.kernels.systems import KERNEL_PARTS
from shakeout.targets.packages import uninstalled
from shakeout.targets.target import Facts, Target

__all__ = ["UserKernel", "user_kernel"]

#: What torch.library.opcheck looks at; as one knob value each, so that every failure has a signature of its own.
OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")

_DECLINED = '''def declined(error):
    """Whether the kernel says that it does not support this, or has no backward pass."""
    return isinstance(error, NotImplementedError) or "no autograd formula was registered" in str(error)'''


@dataclass(frozen=True, slots=True)
class UserKernel(Target):
    """The kernel declared as ``MODULE:NAME``."""

    name: str
    facts: Facts

    @property
    def kernel(self) -> Kernel:
        """The declared kernel."""
        return words.kernel(self.name)

    def knobs(self) -> KnobSpace:
        """For a custom operator, which check of ``torch.library.opcheck`` runs before each call."""
        if not _is_custom_operator(self.kernel.function):
            return ()
        return (Knob("opcheck", ("off", *OPCHECKS), "a check of torch.library.opcheck before each call"),)

    def unavailable(self) -> str | None:
        """Why nothing can be generated for it."""
        if missing := uninstalled():
            return missing
        if ":" in words.meaning(self.name) and not self.kernel.examples and not learnt.of_kernel(self.name):
            return (
                "its reference is no operator of torch, so nothing is known about its arguments: "
                "declare it with @shakeout.kernel(reference=..., examples=[(x, w), ...]), or have them learnt from "
                f"your tests here: shakeout learn {self.name} --examples PATH"
            )
        return None

    def warm(self) -> None:
        """Import the module that holds it."""
        words.resolve(self.name)

    def source(self, setting: Setting) -> str:
        """The kernel, which the program's own text imports, in the place of its reference."""
        local = local_name(self.name)
        lines = []
        check = setting.knob("opcheck", "off")
        called = f"{local}.checked" if self.kernel.invariants else local
        if check != "off":
            lines += [
                "def checked(*args, **kwargs):",
                "    given = [a.detach().requires_grad_(a.requires_grad) if torch.is_tensor(a) else a for a in args]",
                f"    torch.library.opcheck({local}.function, tuple(given), kwargs, test_utils={check!r})",
                f"    return {called}(*args, **kwargs)",
                "",
                "",
            ]
            called = "checked"
        lines += [
            "def prepare(network):",
            f"    return lambda *arguments: network(*arguments, {local}={called})",
            "",
            "",
            _DECLINED,
        ]
        return "\n".join(lines) + "\n"


def user_kernel(name: str) -> UserKernel:
    """The kernel declared as ``MODULE:NAME``, with what is compared with what."""
    meaning, reference = words.meaning(name), words.kernel(name).reference
    against = getattr(reference, "__name__", reference) if ":" in meaning else meaning
    promises = frozenset[Promise]({"layout", "writes"})
    summary = next((f"{part.summary}, against {part.against}" for part in KERNEL_PARTS if part.target == name), "")
    summary = summary or f"your kernel, against {against}"
    return UserKernel(name, Facts(summary=summary, vocabulary="kernel", promises=promises))


def _is_custom_operator(function: object) -> bool:
    from torch._library.custom_ops import CustomOpDef
    from torch._ops import OpOverload, OpOverloadPacket

    return isinstance(function, CustomOpDef | OpOverload | OpOverloadPacket)

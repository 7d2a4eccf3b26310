"""A fake target with known faults: the self-test must see each of them, or a campaign's silence would mean nothing."""

from __future__ import annotations

import textwrap

from shakeout.corpus.case import Knob, KnobSpace, Setting
from shakeout.targets.eager import DECLINES_NOTHING
from shakeout.targets.target import Facts, Target

__all__ = ["FAULTS", "PLANTED", "Planted"]

# What each fault does with the network's ``outputs``; "before" runs ahead of the call.
_AFTER = {
    "wrong value": "outputs[0].view(-1)[-1] += 1",
    "wrong stride": "outputs[0] = outputs[0].mT.contiguous().mT",
    "nondeterminism": 'outputs[0] += int.from_bytes(os.urandom(4), "little") + 1',
}
_BEFORE = {
    "lost mutation": "arguments = [argument.clone() for argument in arguments]",
    "exception": 'raise RuntimeError("planted fault")',
    "abort": "os.abort()",
    "hang": "time.sleep(3600)",
    "out of memory": "hoard = [b'x' * (1 << 26) for _ in iter(int, 1)]",
}

#: Every fault that the self-test plants, and by which oracle it must be seen.
FAULTS = {
    "wrong value": "value",
    "wrong stride": "metadata",
    "lost mutation": "mutation",
    "exception": "exception",
    "abort": "crash",
    "hang": "hang",
    "out of memory": "memory",
    "nondeterminism": "value",
}


class Planted(Target):
    """Eager PyTorch with one fault, named by the knob ``fault``."""

    name = "planted"
    facts = Facts(
        summary="eager PyTorch with a planted fault, for the self-test",
        promises=frozenset({"layout", "writes"}),
        hidden=True,
        accelerator=False,
    )

    def knobs(self) -> KnobSpace:
        """The fault."""
        return (Knob("fault", ("none", *FAULTS), "which fault is planted"),)

    def warm(self) -> None:
        """Nothing to load."""

    def source(self, setting: Setting) -> str:
        """The network with the fault before or after it."""
        fault = str(setting.knob("fault", "none"))
        lines = [
            "def faulty(*arguments):",
            f"    {_BEFORE.get(fault, 'pass')}",
            "    outputs = list(function(*arguments))",
            f"    {_AFTER.get(fault, 'pass')}",
            "    return outputs",
        ]
        return (
            "import os\nimport time\n\n\n"
            f"def prepare(function):\n{textwrap.indent(chr(10).join(lines), '    ')}\n\n    return faulty\n\n\n"
            f"{DECLINES_NOTHING}\n"
        )


PLANTED = Planted()

"""What the short scripts of targets that begin with torch.export have in common."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from shakeout.targets.target import Short

__all__ = ["through_export"]

#: The network, function or module, as the module that torch.export wants.
_MODULE = """class Exportable(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, *given):
        return self.network(*given)


"""


def through_export(
    *steps: str, imports: tuple[str, ...] = (), harness: Mapping[str, str] = MappingProxyType({})
) -> Short:
    """A ``prepare`` that exports the network, ``Exportable(network)``, each time it is called.

    Args:
        steps: lines of what is done with the arguments ``given``; the last returns the outputs.
        imports: lines of import that it needs beside torch.
        harness: pieces of the steps that a user would not write, by name.
    """
    run = "".join(f"        {step}\n" for step in steps)
    return Short(f"{_MODULE}def prepare(network):\n    def run(*given):\n{run}\n    return run\n", imports, harness)

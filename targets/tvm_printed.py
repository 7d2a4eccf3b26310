"""A Relax module as a script of its own: TVMScript, fed with NumPy, built, run by the virtual machine, compared.

It is for reports of what goes wrong behind the importer, which people read who have no PyTorch at hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from shakeout.corpus.symptom import GUARD
from shakeout.targets.numpy_printed import NUMBERS, Unprintable, array, bracketed, compared

if TYPE_CHECKING:
    import torch

__all__ = ["LINES", "printed"]

#: Modules of more lines have no such script: nobody reads them.
LINES = 60

_BUILD = """try:
    built = tvm.relax.build(Module, "llvm")
except Exception as error:
    print(f"TVM {tvm.__version__}, relax.build raises {type(error).__name__}: {error}")
    sys.exit(1)
"""

_RUN = """try:
    outputs = tvm.relax.VirtualMachine(built, tvm.cpu())["main"](*map(tvm.runtime.tensor, inputs))
    found = [output.numpy() for output in outputs]
except Exception as error:
    print(f"TVM {tvm.__version__}, the virtual machine raises {type(error).__name__}: {error}")
    sys.exit(1)
"""


def printed(module: Any, given: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> str | None:
    """The script of a module; None for one that is too large, or has constants that TVMScript keeps beside its text.

    It exits 0 (no difference), 1 (any difference, or the build or the run raises) or 125 (nothing could be compared).
    Where NumPy has no numbers like the inputs (bfloat16), it builds the module and runs nothing.

    Args:
        module: as ``tvm.IRModule``.
        given: the arguments of its ``main``.
        expected: what that returns, as PyTorch gives it.
    """
    text = module.script(show_meta=False)
    if 'metadata["' in text or len(text.splitlines()) > LINES:
        return None
    if sum(t.numel() for t in (*given, *expected)) > NUMBERS:
        return None
    try:
        data = [
            f"inputs = {bracketed([array(t) for t in given])}",
            "# What PyTorch gives without any compiler.",
            f"expected = {bracketed([array(t) for t in expected])}",
        ]
        run = _RUN + compared("TVM {tvm.__version__}", expected)
    except Unprintable:
        data, run = [], ""
    # What the module needs is imported in its first lines, behind marks of a comment.
    needed = [line.removeprefix("# ") for line in text.splitlines() if re.match(r"# (from|import) ", line)]
    module_text = "\n".join(line for line in text.splitlines() if not line.startswith("#")).strip()
    imports = ["import os", "import sys", "", GUARD, ""]
    imports += [*(line for line in needed if line.startswith("from typing")), *["import numpy as np"] * bool(data)]
    imports += ["import tvm", *(line for line in needed if not line.startswith("from typing"))]
    if re.search(r"\b(nan|inf)\b", "\n".join(data)):
        imports += ["", 'nan, inf = float("nan"), float("inf")']
    return "\n".join([*imports, "", "", module_text, "", "", *data, _BUILD + run + 'print("no difference")\n'])

"""Users' kernels with one mistake each, in ``tests/faults/kernels``: which mistake, and how it shows.

Each module is written as a user would write it, for a campaign in that directory. With ``MENDED`` in the environment
when the module is loaded, its kernel is right, so that whoever finds something can ask whether it was the mistake.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLDER", "MENDED", "MISTAKES", "MODULES", "Mistake"]

#: In which a campaign against one of the kernels is run.
FOLDER = Path(__file__).parent / "kernels"

#: The environment variable with which a kernel is right.
MENDED = "MENDED"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in one kernel.

    Attributes:
        kind: what kind it is.
        target: the kernel's name for ``--target``.
        shows: oracles and symptoms of a call of the kernel that shows it and nothing else, as ``oracle/symptom``; of
            an oracle alone if every symptom does. What comes behind the kernel may show it otherwise.
    """

    kind: str
    target: str
    shows: tuple[str, ...]

    def told(self, oracle: str, symptom: str) -> bool:
        """Whether a failure is one of those that show the mistake itself."""
        return any(f"{oracle}/{symptom}".startswith(one) for one in self.shows)


MISTAKES: tuple[Mistake, ...] = (
    Mistake("value", "my_gelu:gelu", ("value/",)),
    Mistake("tail", "my_exp:exp", ("value/",)),
    Mistake("dtype", "my_softmax:softmax", ("metadata/wrong dtype",)),
    Mistake("layout", "my_square:square", ("value/",)),
    Mistake("mutation", "my_log_softmax:log_softmax", ("mutation/",)),
    Mistake("gradient", "my_silu:silu", ("gradient/",)),
    Mistake("NaN", "my_relu:relu", ("value/NaN lost",)),
    Mistake("later call", "my_linear:linear", ("value/",)),
    Mistake("alias", "my_nan_to_num:nan_to_num", ("aliasing/",)),
    Mistake("exception", "my_cumsum:cumsum", ("exception/ValueError",)),
    Mistake("shape", "my_sum:total", ("metadata/wrong shape",)),
    Mistake("overflow", "my_logsumexp:logsumexp", ("value/",)),
    Mistake("cotangent", "my_log_sigmoid:log_sigmoid", ("gradient/",)),
)

#: Whose import a campaign has to allow.
MODULES = tuple(mistake.target.partition(":")[0] for mistake in MISTAKES)

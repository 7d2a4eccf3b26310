"""Eager PyTorch: the reference, and as a target the check that equal implementations give no findings."""

from __future__ import annotations

from shakeout.corpus.case import Setting
from shakeout.targets.packages import uninstalled
from shakeout.targets.target import LIBTORCH, Facts, Target

__all__ = ["EAGER", "Eager"]


#: A target without a word for "not supported" declines nothing.
DECLINES_NOTHING = '''def declined(error):
    """Nothing is unsupported here."""
    return False'''


class Eager(Target):
    """The program run by PyTorch as it is written."""

    name = "eager"
    facts = Facts(
        summary="PyTorch without a compiler: the reference, judged against itself",
        promises=frozenset({"bits", "layout", "writes"}),
        accelerator=False,
        libraries=LIBTORCH,
    )

    def unavailable(self) -> str | None:
        """The install line if torch is missing."""
        return uninstalled()

    def warm(self) -> None:
        """Import torch."""
        import torch  # noqa: F401

    def source(self, setting: Setting) -> str:
        """The identity."""
        return f"def prepare(function):\n    return function\n\n\n{DECLINES_NOTHING}\n"


EAGER = Eager()

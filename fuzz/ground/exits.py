"""Exit statuses, in one place."""

from __future__ import annotations

import enum
from typing import Self

__all__ = ["Exit"]


class Exit(enum.IntEnum):
    """What the command's status says; ``meaning`` is it in words, for ``--help`` and ``docs/exit-statuses.md``.

    Scripts and jobs in CI depend on these numbers: each keeps its meaning, and what else has to be told apart takes a
    number that no one has. Taken are those below, and what others give a meaning: 64 to 78 (``sysexits.h``), 124 (it
    ran into a time limit, ``timeout``), 125 (a script that cannot run, as ``git bisect run`` has it), and from 126 on
    (the shell, and 128 + N for signal N). 7 to 63 are free.
    """

    meaning: str

    def __new__(cls, number: int, meaning: str) -> Self:
        """A number and what it means."""
        found = int.__new__(cls, number)
        found._value_ = number
        found.meaning = meaning
        return found

    OK = 0, "nothing new was found; the command did what it was asked"
    FOUND = 1, "new bugs were found, or a case that ran again still differs"
    USAGE = 2, "wrong flags, a wrong key in a configuration, an unknown target, a file that holds no case"
    INFRASTRUCTURE = 3, "the self-test missed a fault, a target or an operator could not be loaded or learnt"
    DIRECTORY = 4, "a directory or database cannot be used: damaged, newer, read-only, full, in use"
    REFUSED = 5, "no report: the project's own rules would close it, or it should not be reported"
    VACUOUS = (
        6,
        "nothing was found, but next to nothing was compared, or what failed still waits for triage: green by accident",
    )
    INTERNAL = 70, "a defect of Shakeout's own"
    INTERRUPTED = 130, "ended by Ctrl-C or a signal, cleanly; the same command goes on"

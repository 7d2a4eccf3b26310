"""Exit statuses, in one place."""

from __future__ import annotations

import enum

__all__ = ["Exit"]


class Exit(enum.IntEnum):
    """What the command's status says.

    Scripts and jobs in CI depend on these numbers: each keeps its meaning, and what else has to be told apart takes a
    number that no one has. Taken are those below, and what others give a meaning: 64 to 78 (``sysexits.h``), 124 (it
    ran into a time limit, ``timeout``), 125 (a script that cannot run, as ``git bisect run`` has it), and from 126 on
    (the shell, and 128 + N for signal N). 6 to 63 are free.
    """

    #: Nothing new was found; the command did what it was asked.
    OK = 0
    #: New bugs were found, or a replayed case still differs.
    FOUND = 1
    #: Wrong flags, a wrong key in a configuration, an unknown target, a missing package.
    USAGE = 2
    #: The self-test missed a fault, a target could not be loaded, the environment is not fit.
    INFRASTRUCTURE = 3
    #: The campaign's directory or database cannot be used: damaged, newer, read-only, full, in use.
    DIRECTORY = 4
    #: A report that the project's own rules would close, or of what should not be reported; nothing was written.
    REFUSED = 5
    #: A defect of Shakeout's own.
    INTERNAL = 70
    #: Ended by Ctrl-C or a signal, cleanly; the same command resumes.
    INTERRUPTED = 130

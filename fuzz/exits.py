"""Exit statuses, in one place."""

from __future__ import annotations

import enum

__all__ = ["Exit"]


class Exit(enum.IntEnum):
    """What the command's status says."""

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

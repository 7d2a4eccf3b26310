"""Repositories with a history, made for tests and benchmarks: changes that break something, and changes that do not.

Each change is a branch of its own off the state before it. The innocent ones are merged one after the other; those that
break something are not, as a gate would have it.
"""

from tests.histories.history import Change, History, apply, branches, git, made
from tests.histories.kernels import KERNELS
from tests.histories.passes import PASSES
from tests.histories.runtime import RUNTIME

__all__ = ["KERNELS", "PASSES", "RUNTIME", "Change", "History", "apply", "branches", "git", "made"]

"""Checks for who brings a target, an oracle or a vocabulary of their own: one call in a test of theirs.

Each raises an ``AssertionError`` that tells everything that is wrong at once:

>>> def test_my_compiler():
...     shakeout.testing.check_target("my_compiler")
"""

from shakeout.fuzz.conformance.oracles import check_oracle
from shakeout.fuzz.conformance.problems import NotConforming
from shakeout.fuzz.conformance.small_cases import small_cases
from shakeout.fuzz.conformance.targets import TARGET_CHECKS, check_target
from shakeout.fuzz.conformance.vocabularies import check_vocabulary

__all__ = ["TARGET_CHECKS", "NotConforming", "check_oracle", "check_target", "check_vocabulary", "small_cases"]

"""Every target that is installed keeps to what a target of another package is held to."""

import pytest
from tests.tiers import some

from shakeout.targets.registry import names, target
from shakeout.testing import check_target

#: Stand in no list, and are run all the same: for bisecting, and for the self-test.
HIDDEN = ("planted", "dynamo", "aot_eager_decomp_partition")

#: The cheapest that compiles stands for all first; eager is the reference of each of them anyway.
TARGETS = sorted([*names(), *HIDDEN], key=lambda name: name != "aot_eager")


@pytest.mark.parametrize("name", some(TARGETS, every=8))
def test_it_conforms(name: str) -> None:
    if (missing := target(name).unavailable()) is not None:
        pytest.skip(missing)
    check_target(name)

"""The stack's own systems under the fuzzer: cases of each are green, and it finds the broken variants."""

import pytest
from tests.benchmarks import right, systems
from tests.faults.systems import Broken, broken
from tests.tiers import some

from shakeout.targets.systems import parts

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

#: Compared cases of each; docs/systems.md tells of 2,000.
CASES = 20


@pytest.mark.parametrize("name", some(parts(), every=4))
def test_a_system_is_green(name: str) -> None:
    systems.load([name])
    cases = (pair for index in range(3 * CASES) for pair in right.results(parts()[name].target, index))
    compared = 0
    for case, result in cases:
        assert result.failure is None, (case.text, result.failure)
        compared += result.status == "compared"
        if compared == CASES:
            return
    pytest.fail(f"{compared} of {3 * CASES} cases were compared")


@pytest.mark.parametrize("variant", some(broken(), every=8, name=lambda one: f"{one.part}: {one.mistake}"))
def test_the_fuzzer_finds_a_broken_variant(variant: Broken) -> None:
    systems.load([variant.part])
    assert systems.found(variant)["found"]

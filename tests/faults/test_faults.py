"""Each planted fault is triggered and detected by its minimal case, and gone with FIX and afterwards."""

import pytest
from tests.faults import FAULTS, Fault, listening, planted
from tests.faults.fault import GROUPS
from tests.tiers import some

from shakeout.fuzz.ground.results import Result
from shakeout.fuzz.running.execute import execute
from shakeout.oracles.verdict import Outcome
from shakeout.targets.registry import target

#: By whom a fault of a group must be seen; by any oracle where a group is not listed.
ORACLES = {
    "aliasing": {"aliasing", "value"},
    "mutation lost": {"mutation", "value"},
    "strides only": {"metadata"},
    "backward only": {"gradient"},
}


def run(fault: Fault) -> Result:
    result = execute(fault.case())
    assert result.status in ("compared", "failed"), (result.status, result.reason)
    return result


def named(fault: Fault) -> str:
    return f"{fault.target}: {fault.name}"


#: Of the others most of the time is their compilers'.
QUICK = ("aot_eager", "export")


@pytest.mark.parametrize(
    "fault",
    [
        *(pytest.param(fault, id=named(fault)) for fault in FAULTS if fault.target in QUICK),
        *(
            parameter
            for name in sorted({fault.target for fault in FAULTS} - {*QUICK})
            for parameter in some(
                [one for one in FAULTS if one.target == name], every=8, name=named, marks=[pytest.mark.long]
            )
        ),
    ],
)
def test_a_fault_is_triggered_and_seen_and_vanishes(fault: Fault) -> None:
    if missing := target(fault.target).unavailable():
        pytest.skip(missing)
    with planted(fault) as canary:
        result = run(fault)
    assert canary.reached
    assert canary.triggered
    if fault.missed:
        assert result.failure is None, "no longer missed: say so in the entry"
    else:
        assert result.failure is not None, result.verdicts
        assert result.failure.oracle in ORACLES.get(fault.group, {result.failure.oracle})

    with planted(fault, fixed=True) as canary:
        result = run(fault)
    assert result.outcome is Outcome.PASS, result.verdicts
    assert canary.reached
    assert canary.triggered

    assert run(fault).outcome is Outcome.PASS, "something is still patched"


def test_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_the_set_is_broad() -> None:
    assert len(FAULTS) >= 60
    assert {fault.group for fault in FAULTS} == GROUPS
    assert {fault.kind for fault in FAULTS} == {"real", "mutant", "trivial"}
    assert sum(fault.kind == "real" for fault in FAULTS) >= 15


def test_canaries_listen_together_without_effect() -> None:
    faults = [fault for fault in FAULTS if fault.target == "aot_eager"]
    chosen = faults[0]
    with listening(faults) as canaries:
        assert run(chosen).outcome is Outcome.PASS
    assert canaries[chosen.name].triggered
    assert sum(canary.triggered > 0 for canary in canaries.values()) < len(faults)


def test_canaries_of_several_targets_are_refused() -> None:
    first = FAULTS[0]
    other = next(fault for fault in FAULTS if fault.target != first.target)
    with pytest.raises(ValueError, match="one target at a time"), listening((first, other)):
        pass

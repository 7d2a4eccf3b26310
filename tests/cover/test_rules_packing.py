"""What many rules have in common is written once."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shakeout.generators.rules.packing import expander, packed

VALUES = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["<=", "in[0].shape[0]", "in[1].shape[12]"]),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["alpha", "beta"]), inner),
        max_leaves=12,
    ),
    max_size=6,
)


@given(VALUES)
def test_what_is_packed_comes_back(values: list[Any]) -> None:
    written, common = json.loads(json.dumps(packed(values)))
    expanded = expander(common)
    assert [expanded(one) for one in written] == values


def test_what_occurs_twice_is_written_once() -> None:
    part = ["<=", "in[0].shape[0]", 3]
    written, common = packed([[part, 1], [part, "in[0].shape[0]"], part])
    assert json.dumps([written, common]).count("in[0]") == 1
    assert expander(common)(written[2]) is expander(common)(written[2]) or expander(common)(written[2]) == part


def test_an_empty_key_is_refused() -> None:
    with pytest.raises(ValueError, match="empty key"):
        packed([{"": 1}])


@pytest.mark.parametrize(
    ("common", "value"),
    [
        ([], {"": 0}),
        ([{"": 0}], {"": 0}),
        ([[1]], {"": -1}),
        ([[1]], {"": "0"}),
        ([[0] * 10, *([{"": number}] * 10 for number in range(40))], {"": 40}),
    ],
    ids=["nowhere", "itself", "backwards", "no number", "more than there is memory for"],
)
def test_references_that_lead_nowhere_are_refused(common: list[Any], value: Any) -> None:
    with pytest.raises((ValueError, TypeError, IndexError)):
        expander(common)(value)

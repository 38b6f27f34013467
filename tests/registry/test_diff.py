"""What an operator sees before a change."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.policy import Policy, Routes
from broker.registry import Change, diff

some_records = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([b'{"x":1}', b'{"x":2}', b'{"y":1}']))


def test_additions_changes_and_removals_are_told_apart() -> None:
    """With the names of the fields that differ, in the order of the keys."""
    current = {"a": b'{"x":1,"y":1}', "b": b"{}", "c": b"{}"}
    desired = {"a": b'{"x":2,"z":1}', "c": b"{}", "d": b"{}"}
    assert diff(current, desired) == [
        Change("a", "change", ("x", "y", "z")),
        Change("b", "remove"),
        Change("d", "add"),
    ]


def test_a_tombstone_is_a_record_that_is_not_there() -> None:
    """As a compacted topic gives it."""
    assert diff({"a": None}, {}) == []
    assert diff({"a": None}, {"a": b"{}"}) == [Change("a", "add")]


def test_a_changed_policy_names_attribute_and_rule() -> None:
    """R11: the difference of a policy is readable, not one blob that differs."""
    before = Policy.load().record()
    document: dict[str, Any] = json.loads(before)
    usage = next(row for row in document["attributes"] if "usageDates" in row["attributes"])
    shop = next(rule for rule in usage["rules"] if rule["id"] == "usage-payment")
    shop["effects"]["Gebruik"] = "D/C/C"
    after = json.dumps(document).encode()
    assert diff({"policy/current": before}, {"policy/current": after}) == [
        Change("policy/current", "change", ("usageDates/usage-payment", "usageFrequency/usage-payment"))
    ]


def test_changed_routes_are_named() -> None:
    """By family, roles, process and kinds; all of these together are a route's name."""
    before = Routes.load().record()
    document: dict[str, Any] = json.loads(before)
    for route in document["routes"]:
        if route["kinds"] == ["BLOCK", "REINSTATE"]:
            route["connection"] = "agreement-only"
    after = json.dumps(document).encode()
    found = diff({"routes/current": before}, {"routes/current": after})
    assert found == [Change("routes/current", "change", ("licence SHOP->PORTAL Toegang BLOCK+REINSTATE",))]
    whole = diff({"routes/current": b"{}"}, {"routes/current": before})
    assert len(whole[0].fields) == len(Routes.load())


def test_a_damaged_record_differs_in_all_its_fields() -> None:
    """And can so be repaired with the ordinary command."""
    assert diff({"a": b"{"}, {"a": b'{"x":1}'}) == [Change("a", "change", ("x",))]
    assert diff({"a": b"[]"}, {"a": b'{"x":1}'}) == [Change("a", "change", ("x",))]


@given(some_records, some_records)
def test_carrying_out_a_difference_leaves_none(current: dict[str, bytes], desired: dict[str, bytes]) -> None:
    """A plan is complete: afterwards there is nothing left to do."""
    now = dict(current)
    for change in diff(current, desired):
        if change.action == "remove":
            assert change.key in now
            del now[change.key]
        else:
            assert (change.key in now) == (change.action == "change")
            now[change.key] = desired[change.key]
    assert now == desired
    assert diff(now, desired) == []

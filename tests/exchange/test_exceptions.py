"""What passes for a while only: temporary exceptions (R21), and local ids in the hybrid period (R13)."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from broker.audit.leaf import canonical
from broker.client import Identity, Roster, Subject
from broker.exchange import Outcome
from broker.exchange.model import Step
from tests.exchange.open_world import BOARD, SCHOOL, agreement, open_world
from tests.exchange.world import EMMA, NOW, NOW_MS, World, enrolment, event, usage

DAY_MS = 86_400_000
START, END = date(2026, 11, 24), date(2026, 12, 4)
NAMED = ["groupName", "lasKey"]  # what the agreement of these tests names


def exception(**changes: Any) -> dict[str, Any]:
    """For ten days the portal gets the school's addresses, in Toegang."""
    return {
        "id": "x1", "school": SCHOOL, "receiver": "portal-b", "process": "Toegang", "attributes": ["schoolEmail"],
        "reason": "school dicht", "approved_by": "rector", "parents_informed_on": "2026-11-20",
        "start": START.isoformat(), "end": END.isoformat(),
    } | changes  # fmt: skip


def world_with(*exceptions: dict[str, Any], **changes: Any) -> World:
    """The portal's agreement names little; these exceptions are there."""
    world = open_world()
    entries = {f"exception/{one['id']}": canonical(one) for one in exceptions}
    entries["agreement/vwo-portal-b"] = canonical(agreement("portal-b", **{"attributes": NAMED} | changes))
    world.registry = world.registry.with_changes(entries)
    return world


BODY = Roster(group_ids=("7a",), school_email="emma@school.example", given_name="Emma", private_email="e@x.example")


def member(world: World, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Emma's groups go to the portal: the body that it gets, and what the leaf says."""
    sent = event(**{
        "kind": "MEMBERSHIP", "school": SCHOOL, "sector": "VO", "body": BODY, "receiver": "portal-b",
        "created": NOW + timedelta(milliseconds=world.now_ms - NOW_MS), "subject": Subject("PUPIL", EMMA),
    } | changes)  # fmt: skip
    world.outgoing.clear()
    assert [d.code for d in world.send("sis-a", sent)] == ["ok"]
    return world.delivered("portal-b", "roster")[0].body, world.evidence()[0]


@pytest.mark.parametrize(("day", "passes"), [(-1, False), (0, True), (9, True), (10, True), (11, False)])
def test_an_exception_holds_from_its_first_to_its_last_day(day: int, passes: bool) -> None:
    """It ends by itself, though the registry stands still; the audit names it while it lets something pass."""
    world = world_with(exception())
    for step in (-1, day):  # what was remembered of the day before is not used
        world.now_ms = NOW_MS + step * DAY_MS
        body, leaf = member(world)
    assert (body["school_email"] is not None) == passes
    assert leaf.get("exceptions") == (["x1"] if passes else None)
    assert ("schoolEmail" in leaf["kept"], "schoolEmail" in leaf["dropped"]) == (passes, not passes)


ELSEWHERE: dict[str, dict[str, Any]] = {
    "another receiver": {"receiver": "portal-a"},
    "another process": {"process": "Gebruik"},
    "another school": {"school": "99VB"},
    "another board": {"school": "all of board", "board": "ander"},
    "another attribute": {"attributes": ["schoolUsername"]},
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_exception_for_something_else_lets_nothing_pass(name: str) -> None:
    """Receiver, process, school and attribute are those that it names."""
    body, _ = member(world_with(exception(**ELSEWHERE[name])))
    assert body["school_email"] is None


def test_an_exception_for_all_of_a_board_holds_for_its_schools() -> None:
    """The same, without naming each."""
    body, leaf = member(world_with(exception(school="all of board", board=BOARD)))
    assert (body["school_email"], leaf["exceptions"]) == ("emma@school.example", ["x1"])


def test_an_exception_lets_pass_what_an_agreement_could_and_nothing_more() -> None:
    """Conditions stand (nobody said that Emma has no account); what never passes to a portal still does not."""
    names = ["schoolEmail", "privateEmail", "location", "birthDate"]
    body, leaf = member(world_with(exception(attributes=names)))
    assert body["private_email"] is None
    assert "location" not in body
    assert body.get("birth_date") is None
    assert {"privateEmail", "location", "birthDate"} <= set(leaf["dropped"])


def test_an_exception_opens_no_gate() -> None:
    """Without agreement, or without connection, nothing is delivered (R27)."""
    world = world_with(exception())
    sent = event(kind="MEMBERSHIP", school=SCHOOL, sector="VO", body=BODY, receiver="portal-b")
    registry = world.registry
    world.registry = registry.with_changes({"agreement/vwo-portal-b": None})
    assert [d.code for d in world.send("sis-a", sent)] == ["gate.agreement"]
    sides = [f"connection/sis-a.portal-b.roster.{p}/sender" for p in ("Toegang", "BestellenLeveren")]
    world.registry = registry.with_changes(dict.fromkeys(sides))
    assert [d.code for d in world.send("sis-a", sent)] == ["gate.connection"]


def test_an_exception_that_adds_nothing_is_not_named_in_the_audit() -> None:
    """The agreement names the attribute anyhow; of two exceptions those are named that add something."""
    both = exception(id="x2", attributes=["schoolEmail", "groupName"])
    assert "exceptions" not in member(world_with(exception(attributes=["groupName"])))[1]
    assert member(world_with(exception(), both, exception(id="x3", attributes=["groupName"])))[1]["exceptions"] == [
        "x1",
        "x2",
    ]


# ---- the hybrid period


def usage_of(world: World, las_key: str, receiver: str = "portal-b") -> tuple[dict[str, Any], Step]:
    """Somebody's usage: the subject that the receiver gets."""
    sent = event(
        school=SCHOOL, sector="VO", receiver=receiver, body=usage(), subject=Subject("PUPIL", None, (("LAS_KEY", las_key),)),
        created=NOW + timedelta(milliseconds=world.now_ms - NOW_MS),
    )  # fmt: skip
    world.outgoing.clear()
    step = world.run("publisher-a", world.record("publisher-a", sent))
    assert [d.outcome for d in step.decisions] == [Outcome.DELIVERED]
    return world.delivered(receiver)[0].subject, step


@pytest.mark.parametrize(("day", "passes"), [(-1, True), (0, True), (1, False)])
def test_local_ids_pass_until_their_last_day(day: int, passes: bool) -> None:
    """Of a pupil without ECK iD, by the agreement's own last day; after it a pseudonym takes its place."""
    world = world_with(local_ids_until=START.isoformat())
    world.send("sis-a", enrolment(None, "L0009", school=SCHOOL, sector="VO", body=Identity()))
    for step in (-1, day):
        world.now_ms = NOW_MS + step * DAY_MS
        subject, _ = usage_of(world, "L0009")
    assert [i["type"] for i in subject["user_ids"]] == ["LAS_KEY" if passes else "RECEIVER_PSEUDONYM"]
    assert subject["eck_id"] is None
    (leaf,) = world.evidence()
    assert ("lasKey" in leaf["kept"]) == passes


def test_after_their_last_day_only_an_exception_lets_local_ids_pass() -> None:
    """With its own end, and parents informed; the audit names it."""
    world = world_with(exception(process="Gebruik", attributes=["lasKey"]), local_ids_until="2026-11-01")
    world.send("sis-a", enrolment(None, "L0009", school=SCHOOL, sector="VO", body=Identity()))
    subject, _ = usage_of(world, "L0009")
    assert subject["user_ids"] == [{"type": "LAS_KEY", "value": "L0009"}]
    assert world.evidence()[0]["exceptions"] == ["x1"]


def test_the_end_of_the_hybrid_period_is_each_receivers_own() -> None:
    """One agreement's last day says nothing of another's."""
    world = world_with(local_ids_until="2026-11-01")
    world.send("sis-a", enrolment(None, "L0009", school=SCHOOL, sector="VO", body=Identity()))
    types = {r: usage_of(world, "L0009", r)[0]["user_ids"][0]["type"] for r in ("portal-a", "portal-b")}
    assert types == {"portal-a": "LAS_KEY", "portal-b": "RECEIVER_PSEUDONYM"}

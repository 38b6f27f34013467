"""How the broker tells a party its duties: when it can, many of them, with which evidence; and what the party confirms."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest

from broker.audit.leaf import commitment
from broker.client import Control, Event, Subject
from broker.exchange import duties, pipeline
from broker.exchange.model import AUDIT_CONTROL, Step
from broker.wire import AUDIT_SALT, FLOW, FLOW_SEQ
from tests.exchange.bodies import TODAY
from tests.exchange.first_lane import (
    DAY_MS,
    LINK,
    first_lane,
    links_of,
    over,
    settled,
    told,
)
from tests.exchange.links import link_id, said
from tests.exchange.world import DELTA, EMMA, NOAH, NOW, NOW_MS, PORTAL, SHOP, SIS, World, enrolment

# ---- who can not be told yet


def no_topic(world: World) -> Callable[[], None]:
    """There is no topic yet."""
    before = world.partitions
    world.partitions = lambda topic: 0 if topic == f"out.{DELTA}.control" else 2
    return lambda: setattr(world, "partitions", before)


def no_keys(world: World) -> Callable[[], None]:
    """It has published no key yet."""
    world.edit(f"party/{DELTA}", keys=[])
    return lambda: world.edit(f"party/{DELTA}", name="Delta")


def no_party(world: World) -> Callable[[], None]:
    """It is not registered at the moment."""
    world.edit(f"party/{DELTA}")
    return lambda: world.edit(f"party/{DELTA}", name="Delta")


@pytest.mark.parametrize("hinder", [no_topic, no_keys, no_party])
def test_who_can_not_be_told_yet_is_told_once_he_can(hinder: Callable[[World], Callable[[], None]]) -> None:
    """Not remembered as told; the lane does not turn round and round over it, and goes on with its events."""
    world = first_lane()
    free = hinder(world)
    for _ in range(2):
        step = world.run(DELTA)
        assert not step.more
        assert not [o for o in step.outgoing if o.topic.startswith("out.")]
    free()
    assert len(told(world, DELTA)) == len(links_of(world, DELTA))
    assert told(world, DELTA) == []


@pytest.mark.parametrize("most", [1, 500])
@pytest.mark.parametrize("hinder", [no_topic, no_keys, no_party])
def test_duties_are_not_worked_out_again_while_nothing_changed(
    monkeypatch: pytest.MonkeyPatch, hinder: Callable[[World], Callable[[], None]], most: int
) -> None:
    """A party that can not be told does not make each of its batches dear; what it waits for wakes it, and no more."""
    monkeypatch.setattr(duties, "MOST_AT_ONCE", most)
    worked_out: list[str] = []
    monkeypatch.setattr(pipeline, "due", lambda *given: worked_out.append(given[2]) or duties.due(*given))
    world = first_lane()
    free = hinder(world)
    told(world, DELTA)
    worked_out.clear()
    for _ in range(3):
        world.registry = world.registry.with_changes({})  # a change somewhere else
        assert told(world, DELTA) == []
    assert worked_out == []
    free()
    assert len(told(world, DELTA)) == len(links_of(world, DELTA))
    worked_out.clear()
    assert told(world, DELTA) == []
    assert worked_out == []


@pytest.mark.parametrize("first", [0, 1])
def test_a_party_that_lacks_both_key_and_topic_is_told_once_it_has_both(first: int) -> None:
    """In either order."""
    world = first_lane()
    ways = [no_topic(world), no_keys(world)]
    for way in (lambda: None, ways[first]):
        way()
        assert told(world, DELTA) == []
    ways[1 - first]()
    assert len(told(world, DELTA)) == len(links_of(world, DELTA))


# ---- many, and none


@pytest.mark.parametrize("most", [1, 3, 7])
def test_many_duties_are_told_in_several_transactions(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Each takes at most so many; all are told, each once, and then there is no more."""
    monkeypatch.setattr(duties, "MOST_AT_ONCE", most)
    world, steps = first_lane(), list[Step]()
    while not steps or steps[-1].more:
        steps.append(world.run(DELTA))
        assert len(steps[-1].delta.duties) <= most
        assert len(steps) < 100
    asked = [r.body["connection_id"] for r in world.delivered(DELTA, "control")]
    assert sorted(asked) == sorted(links_of(world, DELTA))
    assert len([n for n in world.state(DELTA).duties if n.startswith("agreement/")]) == 3
    assert told(world, DELTA) == []


def test_a_party_that_can_not_be_told_does_not_keep_its_agreements_from_being_noted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else an agreement that ends meanwhile would never have been there."""
    monkeypatch.setattr(duties, "MOST_AT_ONCE", 3)
    world = first_lane()
    no_topic(world)
    told(world, DELTA)
    assert set(world.state(DELTA).duties.values()) == {duties.ACTIVE}


def test_duties_are_worked_out_anew_only_when_they_can_have_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for each batch: for another link, agreement or school, and for another day."""
    looked: list[str] = []

    def due(*what: Any) -> duties.Duties:
        looked.append("x")
        return duties.due(*what)

    monkeypatch.setattr(pipeline, "due", due)
    world = settled(DELTA)
    looked.clear()
    for change, expected in (
        (lambda: None, 0),
        (lambda: world.edit(f"party/{SHOP}", name="Anders"), 0),
        (lambda: world.send(SIS, said("ACCEPT", "BOTH", connection_id=link_id("nieuw"))), 2),  # of Delta and of the SIS
        (lambda: world.edit("agreement/vwo-po-delta", retention="anders"), 1),
        (lambda: world.edit("agreement/vwo-po-portaal", retention="anders"), 0),
        (lambda: setattr(world, "now_ms", world.now_ms + DAY_MS), 1),
    ):
        change()
        world.run(DELTA)
        world.run(DELTA)
        assert len(looked) == expected
        looked.clear()


def test_a_party_without_duties_writes_nothing() -> None:
    """No transaction for nothing, not even the first one."""
    world = first_lane()
    assert world.run("uitgeverij-oost").outgoing == []


# ---- evidence


def test_a_duty_is_audited_like_a_delivery_without_an_input() -> None:
    """A leaf without `in`; flow and number are those of the record, and so is the commitment to its bytes."""
    world = settled(PORTAL)
    over(world)
    (request,) = told(world, PORTAL)
    (x,) = world.evidence()
    headers = dict(request.record.headers)
    assert x == {
        "agreement": "vwo-po-portaal/1.0", "code": "ok.duty", "decision": "delivered", "dropped": [], "kept": [],
        "event": request.envelope["event_id"], "family": "control", "kind": "DESTROY_REQUEST",
        "flow": f"out.{PORTAL}.control/{request.record.partition}", "seq": int(headers[FLOW_SEQ]),
        "value": commitment(headers[AUDIT_SALT], request.record.value or b""),
        "policy": world.registry.policy.version, "registry": world.registry.version, "receiver": PORTAL,
        "school": "99PA", "sender": "broker",
    }  # fmt: skip
    assert headers[FLOW] == f"exchange.in.{PORTAL}.0".encode()
    ldv = json.loads(world.leaves()[0])["ldv"]
    assert headers["traceparent"].decode() == f"00-{ldv['trace_id']}-{ldv['span_id']}-01"
    assert "dpl.core.data_subject_id" not in ldv["attributes"]


def test_what_is_asked_stands_on_the_control_log() -> None:
    """In the same transaction."""
    world = settled(PORTAL)
    over(world)
    (request,) = told(world, PORTAL)
    assert [leaf["control"] for leaf in world.controls()] == [
        {"kind": "destroy-requested", "agreement_id": "vwo-po-portaal", "at": NOW_MS, "deadline": TODAY + 30,
         "control_id": request.body["control_id"], "event": request.envelope["event_id"], "party": PORTAL,
         "reason_code": "AGREEMENT_ENDED", "school": "99PA", "sender": "broker"},
    ]  # fmt: skip
    told(world, DELTA)
    assert {leaf["control"]["kind"] for leaf in world.controls()} == {"seed-requested"}
    assert len(world.controls()) == len(links_of(world, DELTA))


def test_duties_and_events_of_others_are_numbered_as_one_flow_of_the_lane() -> None:
    """Nothing is missing between two of them."""
    world = first_lane()
    world.partitions = lambda _: 1
    told(world, DELTA)
    world.now_ms += 1
    world.send(SIS, said("REVOKE", "BOTH", connection_id=LINK), said("ACCEPT", "BOTH", connection_id=LINK))
    first = len(links_of(world, DELTA))
    assert [int(dict(r.record.headers)[FLOW_SEQ]) for r in told(world, DELTA)] == [first + 1]
    assert world.state(DELTA).flows[f"out.{DELTA}.control/0"] == first + 1


# ---- confirmation


def confirmation(**changes: Any) -> Event:
    """Delta tells the school that it destroyed what it had."""
    said: dict[str, Any] = {
        "control_id": "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11",
        "count": 31,
        "agreement_id": "vwo-po-delta",
    }
    values: dict[str, Any] = {
        "kind": "DESTROY_CONFIRM", "school": "99PA", "sector": "PO", "created": NOW, "receiver": SIS,
        "body": Control(**said | changes.pop("said", {})), "subject": Subject(),
    }  # fmt: skip
    return Event(**values | changes)


def test_what_a_party_confirmed_stands_beside_what_was_asked() -> None:
    """Once, whether or not the event comes again; also after the agreement ended."""
    world = settled(DELTA)
    over(world, 30, "agreement/vwo-po-delta")
    told(world, DELTA)
    world.outgoing.clear()
    sent = confirmation()
    assert [d.code for d in world.send(DELTA, sent, sent)] == ["ok", "event.duplicate"]
    assert [leaf["control"] for leaf in world.controls()] == [
        {"kind": "destroy-confirmed", "agreement_id": "vwo-po-delta", "at": NOW_MS, "count": 31,
         "control_id": "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11",
         "event": sent.event_id, "party": DELTA, "school": "99PA"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"receiver": SHOP}, {"receiver": "niemand"}, {"school": "99ZZ"}, {"said": {"count": None}}]
)
def test_a_confirmation_that_was_refused_confirms_nothing(changes: dict[str, Any]) -> None:
    """Nobody heard it."""
    world = settled(DELTA)
    world.outgoing.clear()
    world.send(DELTA, confirmation(**changes))
    assert world.topic(AUDIT_CONTROL) == []


def test_the_deadline_is_a_day_of_the_calendar() -> None:
    """Thirty days from today, in days since 1970."""
    assert date(1970, 1, 1) + timedelta(days=TODAY + duties.DESTROY_DAYS) == NOW.date() + timedelta(days=30)


def test_a_partys_own_words_do_not_reach_the_control_log() -> None:
    """An agreement that the registry does not know as this party's is not named; the request is found by its id."""
    world = settled(DELTA)
    for name in ("vwo-po-portaal", "Emma-de-Vries"):
        world.outgoing.clear()
        assert [d.code for d in world.send(DELTA, confirmation(said={"agreement_id": name}))] == ["ok"]
        (leaf,) = world.controls()
        assert "agreement_id" not in leaf["control"]
        assert leaf["control"]["control_id"] == "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11"


@pytest.mark.parametrize(
    ("count", "told"), [(0, True), (9_999_999, True), (10_000_000, False), (182_071_649, False), (-1, False)]
)
def test_a_count_that_may_be_somebodys_number_does_not_reach_the_control_log(count: int, told: bool) -> None:
    """A BSN fits into an int; no school has ten million pupils."""
    world = settled(DELTA)
    world.outgoing.clear()
    assert [d.code for d in world.send(DELTA, confirmation(said={"count": count}))] == ["ok"]
    (leaf,) = world.controls()
    assert leaf["control"].get("count") == (count if told else None)


# ---- what a school asks itself


def destroy(**changes: Any) -> Event:
    """The school's SIS asks the portal to destroy what it got of Emma by mistake; every field filled that may be."""
    said: dict[str, Any] = {
        "control_id": "5d0f9a34-1f0e-4f0c-8d51-3b7a90c3c9e2", "reason_code": "GIVEN_BY_MISTAKE",
        "deadline": date(2026, 12, 1), "agreement_id": "vwo-po-portaal", "connection_id": LINK, "service": "usage",
        "other_party": PORTAL, "about_event": "5d0f9a34-1f0e-4f0c-8d51-3b7a90c3c9e3", "about_object": "emma-de-vries",
        "from_date": date(2026, 11, 1), "until_date": date(2026, 11, 23), "return_data": False,
    }  # fmt: skip
    values: dict[str, Any] = {
        "kind": "DESTROY_REQUEST", "school": "99PA", "sector": "PO", "created": NOW, "receiver": PORTAL,
        "body": Control(**said | changes.pop("said", {})), "subject": Subject("PUPIL", EMMA),
    }  # fmt: skip
    return Event(**values | changes)


def enrolled() -> World:
    """Emma is known at the school."""
    world = settled(SIS, PORTAL, DELTA)
    world.send(SIS, enrolment())
    world.outgoing.clear()
    return world


def test_what_a_school_asks_to_destroy_stands_on_the_control_log_as_what_the_broker_asks() -> None:
    """Once, whether or not the event comes again; in one transaction with what the receiver is told."""
    world, sent = enrolled(), destroy()
    assert [d.code for d in world.send(SIS, sent, sent)] == ["ok", "event.duplicate"]
    assert [leaf["control"] for leaf in world.controls()] == [
        {"kind": "destroy-requested", "agreement_id": "vwo-po-portaal", "at": NOW_MS,
         "control_id": "5d0f9a34-1f0e-4f0c-8d51-3b7a90c3c9e2", "deadline": (date(2026, 12, 1) - date(1970, 1, 1)).days,
         "event": sent.event_id, "party": PORTAL, "reason_code": "GIVEN_BY_MISTAKE", "school": "99PA", "sender": SIS},
    ]  # fmt: skip
    assert len(world.delivered(PORTAL, "control")) == 1


@pytest.mark.parametrize("agreement", [None, "vwo-po-delta", "vwo-vo-portaal", "emma-de-vries"])
def test_a_request_names_only_an_agreement_that_the_registry_knows_as_the_receivers(agreement: str | None) -> None:
    """With this school's board; a sender's own words stand nowhere for ever. Nor does anything of the pupil."""
    world = enrolled()
    assert [d.code for d in world.send(SIS, destroy(said={"agreement_id": agreement}))] == ["ok"]
    (leaf,) = world.controls()
    assert "agreement_id" not in leaf["control"]
    (written,) = world.topic(AUDIT_CONTROL)
    assert not [word for word in ("emma", EMMA, "L0001", "vries") if word.encode() in (written.value or b"").lower()]


def test_each_party_that_is_asked_has_a_leaf_of_its_own() -> None:
    """Whom it did not reach is not asked."""
    world = enrolled()
    world.send(SIS, destroy(receiver=None, said={"other_party": DELTA}), destroy(receiver=SHOP))
    assert [(leaf["control"]["party"], leaf["control"]["sender"]) for leaf in world.controls()] == [
        (DELTA, SIS), (SHOP, SIS),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"receiver": "niemand"}, {"receiver": None, "said": {"other_party": None}}, {"said": {"deadline": None}},
     {"subject": Subject("PUPIL", NOAH)}],
)  # fmt: skip
def test_a_request_that_was_refused_asks_nothing(changes: dict[str, Any]) -> None:
    """Nobody heard it."""
    world = enrolled()
    world.send(SIS, destroy(**changes))
    assert world.topic(AUDIT_CONTROL) == []

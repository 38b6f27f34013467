"""What a sender answers to a SEED_REQUEST: each object once, in its newest version, and their count."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from broker.client import Control, Event, Licence, Order, Roster, Subject, Usage, answer_seed, pupil
from broker.client.seed import compacted, seed_of
from broker.errors import ContractError
from tests.exchange.world import BOOK, DELTA, NOW, PORTAL, SHOP, World, enrolment, make_world

ONE, TWO = "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a11", "0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a12"
ASKED = "7c6a2f0e-1111-4f4e-9c55-0d6b3f3c2a99"


def licence(entitlement_id: str = ONE, revision: int = 1, kind: str = "GRANT", **changes: Any) -> Event:
    """A licence of a school."""
    body = Licence(
        entitlement_id=entitlement_id, revision=revision, product_id=BOOK, entitlement_type="SCHOOL_INDIVIDUAL",
        start_date=date(2026, 8, 1),
    )  # fmt: skip
    values: dict[str, Any] = {"kind": kind, "school": "99PA", "sector": "PO", "created": NOW, "body": body}
    return Event(**values | changes)


def request(**changes: Any) -> Event:
    """A SEED_REQUEST as a sender gets it."""
    values: dict[str, Any] = {
        "control_id": ASKED, "reason_code": "CONNECTION_ACCEPTED", "connection_id": "po-licence-winkel-portaal",
        "service": "licence", "other_party": PORTAL,
    }  # fmt: skip
    body = Control(**values | changes)
    return Event(
        kind="SEED_REQUEST", school="99PA", sector="PO", sender="broker", receiver=SHOP, event_id=ASKED, body=body
    )


# ---- the newest of each


def test_of_each_object_the_highest_revision_stays_whenever_it_came() -> None:
    """A sender's archive need not be in order."""
    events = [licence(revision=2, kind="CHANGE"), licence(TWO), licence(revision=1), licence(revision=3, kind="CHANGE")]
    assert compacted(events) == [events[1], events[3]]
    assert compacted([events[3], events[0]]) == [events[3]]


def test_of_two_with_one_revision_the_later_stays() -> None:
    """It was said last."""
    first, second = licence(), licence(event_id=TWO)
    assert compacted([first, second]) == [second]


def test_one_id_at_two_schools_or_in_two_families_is_two_objects() -> None:
    """The broker holds an object's order against what was said at that school, in that family."""
    order = Event(kind="ORDER", school="99PA", sector="PO", body=Order(order_id=ONE, material="DIGITAL", quantity=1))
    events = [licence(), licence(school="99VA", sector="VO"), order]
    assert compacted(events) == events


def test_one_object_of_a_school_and_of_its_location_is_one() -> None:
    """And a uuid is the same in capitals."""
    assert len(compacted([licence(school="99VA"), licence(ONE.upper(), 2, school="99VA01")])) == 1


def test_a_family_without_revisions_keeps_the_last_and_one_without_objects_keeps_all() -> None:
    """`control` has an id and no counter; a membership is a fact."""
    said = [Event(kind="STATUS", school="99PA", sector="PO", body=Control(control_id=ONE, code=c)) for c in ("a", "b")]
    assert compacted(said) == said[1:]
    groups = [Event(kind="GROUP", school="99PA", sector="PO", body=Roster(group_id="7a")) for _ in range(2)]
    assert compacted(groups) == groups


# ---- the answer


def test_the_answer_is_for_the_new_receiver_and_of_the_school_and_service_that_were_asked() -> None:
    """Another school's, another family's and older versions are not sent; the last event counts the others."""
    other = Event(
        kind="USE", school="99PA", sector="PO",
        body=Usage(entitlement_id=ONE, product_id=BOOK, usage_type="WEEKLY_USAGE", usage_date=date(2026, 9, 1)),
    )  # fmt: skip
    mine = [licence(), licence(revision=2, kind="CHANGE"), licence(TWO, sender=SHOP, receiver="somebody-else")]
    *seed, done = seed_of(request(), [*mine, licence(school="99VA", sector="VO"), other])
    assert [(e.body.entitlement_id, e.body.revision) for e in seed] == [(ONE, 2), (TWO, 1)]  # type: ignore[attr-defined]
    assert {(e.receiver, e.sender, e.correlation) for e in (*seed, done)} == {(PORTAL, None, ASKED)}
    assert [e.body for e in seed] == [mine[1].body, mine[2].body]
    assert (done.kind, done.school) == ("SEED_DONE", "99PA")
    assert done.body == Control(
        control_id=ASKED,
        reason_code="CONNECTION_ACCEPTED",
        connection_id="po-licence-winkel-portaal",
        service="licence",
        count=2,
    )


def test_nothing_to_seed_is_an_answer_too() -> None:
    """The receiver hears that it has all: nothing."""
    (done,) = seed_of(request(), [])
    assert done.body.count == 0  # type: ignore[attr-defined]


def test_the_same_answer_has_the_same_ids_and_another_answer_others() -> None:
    """Who answers twice sends nothing twice; who is asked again, for a link that came on anew, does."""
    first = [e.event_id for e in seed_of(request(), [licence(event_id=TWO)])]
    assert [e.event_id for e in seed_of(request(), [licence(event_id=TWO)])] == first
    again = replace(request(), event_id=ONE)
    assert not set(first) & {e.event_id for e in seed_of(again, [licence(event_id=TWO)])}
    more = [e.event_id for e in seed_of(request(), [licence(event_id=TWO), licence(TWO)])]
    assert more[0] == first[0]
    assert more[-1] != first[-1]
    assert TWO not in more


@pytest.mark.parametrize("wrong", [licence(), replace(request(), kind="STATUS"), request(other_party=None)])
async def test_what_is_no_request_is_not_answered(wrong: Event) -> None:
    """Nothing is sent."""
    with pytest.raises(ContractError) as caught:
        await answer_seed(None, wrong, [licence()])  # type: ignore[arg-type]
    assert caught.value.code == "kind.unknown"


# ---- and what the exchange makes of it


@pytest.fixture
def shop() -> World:
    """A shop granted a licence to a pupil, changed it, and granted another that it blocked."""
    world = make_world()
    world.send("sis-noord", enrolment())
    about = pupil(las_key="L0001")
    body = {"effective_at": NOW, "reason_code": "ON_HOLD", "start_date": None}
    block = replace(licence(TWO, 2), kind="BLOCK", body=replace(licence(TWO, 2).body, **body))
    sent = [licence(), licence(revision=2, kind="CHANGE"), licence(TWO), block]
    archive = [replace(e, subject=about) for e in sent]
    decisions = world.send(SHOP, *archive)
    assert {d.code for d in decisions} == {"ok"}
    world.archive = archive  # type: ignore[attr-defined]
    return world


def test_the_newest_version_passes_once_more_for_the_receiver_that_is_seeded(shop: World) -> None:
    """The order of kinds is no obstacle, and the same answer again delivers nothing."""
    seed = [replace(e, created=NOW) for e in seed_of(request(), shop.archive)]  # type: ignore[attr-defined]
    first, again = shop.send(SHOP, *seed), shop.send(SHOP, *seed)
    assert [d.code for d in first] == ["ok", "ok", "ok"]
    assert [d.code for d in again] == ["event.duplicate"] * 3
    assert {d.receiver for d in (*first, *again)} == {PORTAL}
    got = [(d.envelope["kind"], d.body["revision"]) for d in shop.delivered(PORTAL, "licence")][-2:]
    assert got == [("CHANGE", 2), ("BLOCK", 2)]
    (done,) = shop.delivered(PORTAL, "control")
    assert (done.envelope["kind"], done.body["count"], done.body["control_id"]) == ("SEED_DONE", 2, ASKED)


def test_an_older_version_is_refused(shop: World) -> None:
    """A sender that does not compact is told so; what it said last stands."""
    old = replace(shop.archive[0], event_id=ONE, receiver=PORTAL)  # type: ignore[attr-defined]
    assert [d.code for d in shop.send(SHOP, old)] == ["object.transition"]


def test_a_sender_of_another_role_has_no_route_for_a_seed(shop: World) -> None:
    """A publisher does not send licences."""
    decisions = shop.send(DELTA, *seed_of(request(), [licence(subject=Subject())]))
    assert {d.code for d in decisions[:1]} == {"gate.route"}

"""What the exchange makes of the answer to a SEED_REQUEST: it passes to the new receiver, and moves nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from broker.client import Event, Licence, pupil
from broker.client.seed import seed_of
from broker.limits import Limits
from tests.exchange.first_lane import event_of, first_lane, told
from tests.exchange.links import said as link_said
from tests.exchange.world import BOOK, NOW, PORTAL, SHOP, SIS, World, enrolment

LINK, TOEGANG = "po-licence-winkel-portaal", "po-licence-toegang-winkel-portaal"
ONE, TWO, THREE = (f"0b9f4c7e-6f0a-4f4e-9c55-0d6b3f3c2a1{n}" for n in range(3))
EMMA = pupil(las_key="L0001")
FIELDS: dict[str, dict[str, Any]] = {
    "GRANT": {"start_date": date(2026, 8, 1)},
    "CHANGE": {"start_date": date(2026, 8, 2)},
    "BLOCK": {"effective_at": NOW, "reason_code": "ON_HOLD"},
    "REINSTATE": {"effective_at": NOW},
    "REVOKE": {"effective_at": NOW, "reason_code": "ON_HOLD"},
}  # fmt: skip


def licence(kind: str, revision: int, thing: str = ONE, **envelope: Any) -> Event:
    """What a shop says of a licence of Emma."""
    body = Licence(
        entitlement_id=thing, revision=revision, product_id=BOOK, entitlement_type="SCHOOL_INDIVIDUAL", **FIELDS[kind]
    )
    values = {"kind": kind, "school": "99PA", "sector": "PO", "created": NOW, "subject": EMMA, "body": body}
    return Event(**values | envelope)


def requests(world: World, party: str = SHOP) -> dict[str, Event]:
    """What the broker asks of a party, by connection. What was sent after that goes through another of its lanes."""
    world.partition = 0
    found = {request.body["connection_id"]: event_of(request) for request in told(world, party)}
    world.partition = 1
    return found


def schools_world() -> World:
    """Emma is enrolled; nothing is asked yet."""
    made = first_lane()
    made.partition = 1
    made.send(SIS, enrolment())
    return made


@pytest.fixture
def world() -> World:
    """One for each test."""
    return schools_world()


def asked(world: World, connection: str = LINK) -> Event:
    """The request for the licences of Emma's school."""
    return requests(world)[connection]


def seed(request: Event, *archive: Event) -> list[Event]:
    """The answer, without its end."""
    return [replace(event, created=NOW) for event in seed_of(request, archive)[:-1]]


def codes(world: World, *events: Event) -> list[tuple[str | None, str]]:
    """Who got what, of one batch."""
    return [(d.receiver, d.code) for d in world.send(SHOP, *events)]


def got(world: World, receiver: str) -> list[tuple[str, int]]:
    """What came since."""
    found = [(d.envelope["kind"], d.body["revision"]) for d in world.delivered(receiver, "licence")]
    world.outgoing.clear()
    return found


def test_a_licence_that_is_blocked_is_told_with_what_is_blocked(world: World) -> None:
    """Change and block, in that order, to the new receiver only; what was said last to all still stands, meanwhile too."""
    archive = [licence("GRANT", 1), licence("CHANGE", 2), licence("BLOCK", 3)]
    world.send(SHOP, *archive)
    request, known = asked(world), dict(world.state(SHOP).objects.known)
    world.outgoing.clear()
    for event in seed(request, *archive):
        assert codes(world, event) == [(PORTAL, "ok")]
        assert world.state(SHOP).objects.known == known
    assert got(world, PORTAL) == [("CHANGE", 2), ("BLOCK", 3)]
    assert {code for _, code in codes(world, licence("CHANGE", 3))} == {"object.transition"}
    assert {code for _, code in codes(world, licence("REINSTATE", 3))} == {"object.stale"}
    assert {code for _, code in codes(world, licence("REINSTATE", 4))} == {"ok"}


def test_the_same_answer_again_delivers_nothing(world: World) -> None:
    """Who crashed answers again; the end of it comes once too."""
    archive = [licence("GRANT", 1), licence("BLOCK", 2)]
    world.send(SHOP, *archive)
    answer = [replace(event, created=NOW) for event in seed_of(asked(world), archive)]
    assert codes(world, *answer) == [(PORTAL, "ok")] * 3
    assert codes(world, *answer) == [(PORTAL, "event.duplicate")] * 3
    (done,) = world.delivered(PORTAL, "control")
    assert (done.envelope["kind"], done.body["count"]) == ("SEED_DONE", 2)


def test_a_seed_does_not_fill_the_memory(world: World) -> None:
    """It is no change: a school's ten thousand licences would push out what its next changes are held against."""
    world.limits = Limits(object_slots=2, object_slot_entries=2)
    archive = [licence("GRANT", 1), licence("BLOCK", 2)]
    world.send(SHOP, *archive)
    request, ring = asked(world), dict(world.state(SHOP).objects.ring.content)
    for again in range(9):
        events = [replace(e, event_id=f"{again}{e.event_id[1:]}") for e in seed(request, *archive)]
        assert {code for _, code in codes(world, *events)} == {"ok"}
    assert world.state(SHOP).objects.ring.content == ring


def test_an_object_that_ended_is_not_told_any_more(world: World) -> None:
    """The answer leaves it out; should a sender tell it nonetheless, it is refused."""
    archive = [licence("GRANT", 1), licence("BLOCK", 2), licence("REVOKE", 3)]
    world.send(SHOP, *archive)
    request = asked(world)
    assert seed(request, *archive) == []
    assert {code for _, code in codes(world, *seed(request, *archive[:2]))} == {"object.transition"}


def test_what_is_new_in_a_seed_is_held_against_the_order_and_remembered(world: World) -> None:
    """A change that was told to the new receiver first has been said: the order goes on from there."""
    world.send(SHOP, licence("GRANT", 1))
    request = asked(world)
    assert codes(world, *seed(request, licence("REINSTATE", 2))) == [(None, "object.transition")]
    assert codes(world, *seed(request, licence("CHANGE", 2))) == [(PORTAL, "ok")]
    assert {code for _, code in codes(world, licence("CHANGE", 2))} == {"object.stale"}


def test_objects_that_are_not_remembered_can_be_seeded(world: World) -> None:
    """A sender of more objects than the memory holds. They do not push out what is spoken of now."""
    archive = [licence("GRANT", 1), licence("CHANGE", 2), licence("BLOCK", 3), licence("GRANT", 1, TWO)]
    request = asked(world)
    assert codes(world, *seed(request, *archive)) == [(PORTAL, "ok.unchecked")] * 3
    assert not world.state(SHOP).objects.known


def test_a_seed_ends_no_object_and_says_nothing_else_under_the_last_revision(world: World) -> None:
    """What all others were told last stands; in its name nothing can be told to one receiver alone."""
    world.send(SHOP, licence("GRANT", 1), licence("CHANGE", 2), licence("BLOCK", 3))
    request = asked(world)
    for kind, revision in (("REVOKE", 1), ("REVOKE", 3), ("CHANGE", 3), ("REINSTATE", 3)):
        answer = replace(licence(kind, revision), receiver=PORTAL, correlation=request.event_id)
        (decision,) = world.send(SHOP, answer)
        assert decision.code in ("object.transition", "object.stale"), kind
    last = replace(licence("BLOCK", 3), receiver=PORTAL, correlation=request.event_id)
    assert codes(world, last) == [(PORTAL, "ok")]


def test_a_seed_under_a_mandate_that_is_over_is_none(world: World) -> None:
    """Nothing passes over its links; nor does the order give way."""
    world.send(SHOP, licence("GRANT", 1), licence("BLOCK", 2))
    request = asked(world)
    world.edit("school/99PA", mandated_until="2026-11-23")
    (decision,) = world.send(SHOP, replace(licence("GRANT", 1), receiver=PORTAL, correlation=request.event_id))
    assert decision.code in ("object.transition", "gate.connection")


def other_school(world: World) -> str:
    """A request for another school of the same parties."""
    return asked(world, "vo-licence-winkel-portaal").event_id


def switched_again(world: World) -> str:
    """A request of a link that was switched off and on since: another was asked for by then."""
    old = asked(world).event_id
    for kind, day in (("REVOKE", 1), ("ACCEPT", 2)):
        world.now_ms += day
        link = {"sender": SHOP, "receiver": PORTAL, "service": "licence", "process": "BESTELLEN_LEVEREN"}
        world.send(SIS, link_said(kind, "BOTH", connection_id=LINK, **link))
    assert asked(world).event_id != old
    return old


NO_REQUESTS: dict[str, Any] = {
    "none": lambda _: None,
    "something else": lambda _: TWO,
    "a request for another school": other_school,
    "a request of a link that was switched since": switched_again,
}


@pytest.mark.parametrize("name", NO_REQUESTS)
def test_what_answers_no_request_is_held_against_the_order(world: World, name: str) -> None:
    """Else any sender could tell anybody an old version by naming him."""
    world.send(SHOP, licence("GRANT", 1), licence("BLOCK", 2))
    old = licence("GRANT", 1, receiver=PORTAL, correlation=NO_REQUESTS[name](world))
    assert codes(world, old) == [(None, "object.transition")]


def test_the_request_of_one_receiver_opens_nothing_to_another_nor_to_all(world: World) -> None:
    """Publisher Delta is no party to the link."""
    world.send(SHOP, licence("GRANT", 1), licence("BLOCK", 2))
    request = asked(world)
    for receiver in ("uitgeverij-delta", None):
        old = licence("GRANT", 1, receiver=receiver, correlation=request.event_id)
        assert codes(world, old) == [(None, "object.transition")]


@pytest.mark.parametrize("field", ["sender", "service"])
def test_a_request_is_one_senders_for_one_service(world: World, field: str) -> None:
    """The links of the portal with another shop, and for something else, do not count."""
    world.send(SHOP, licence("GRANT", 1), licence("BLOCK", 2))
    request = asked(world)
    for connection in (LINK, TOEGANG):
        changes = {"sender": {"sender": "uitgeverij-west"}, "service": {"service": "order"}}[field]
        for side in ("sender", "receiver"):
            world.edit(f"connection/{connection}/{side}", **changes)
    old = licence("GRANT", 1, receiver=PORTAL, correlation=request.event_id)
    assert codes(world, old)[0][1] != "ok"

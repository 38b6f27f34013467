"""The duplicate window: what it remembers, how long, and of whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from broker.client import Event, Subject
from broker.exchange import LaneState, Outcome
from broker.exchange.model import LANE_STATE
from broker.limits import Limits
from tests.exchange.world import DELTA, OOST, PORTAL, SHOP, SIS, World, enrolment, event, make_world

SMALL = Limits(window_slots=3, window_slot_ids=4)


def small_world() -> World:
    """A window of twelve deliveries."""
    world = make_world(SMALL)
    world.send(SIS, enrolment())
    return world


def to_portal(count: int) -> list[Event]:
    """Events that make one delivery each."""
    return [event(receiver=PORTAL) for _ in range(count)]


def codes(world: World, *events: Event) -> list[str]:
    """Decision codes of one batch from Delta."""
    return [d.code for d in world.send(DELTA, *events)]


def test_the_window_holds_at_least_its_slots_but_one_in_every_position_of_the_ring() -> None:
    """However far the ring has turned, the last eight deliveries are known; nothing is known that was not delivered."""
    world = small_world()
    sent: list[Event] = []
    for _ in range(40):
        new = to_portal(1)
        assert codes(world, *new) == ["ok"]
        sent += new
        assert codes(world, *sent[-8:]) == ["event.duplicate"] * len(sent[-8:])
        assert len(world.state(DELTA).delivered) == sum(map(len, world.state(DELTA).window.content.values())) <= 12


def test_a_batch_larger_than_the_whole_ring_leaves_its_end_in_the_window() -> None:
    """Thirty deliveries in one batch: the last ones are remembered, and within the batch all were."""
    world = small_world()
    big = to_portal(30)
    assert codes(world, *big, big[0]) == ["ok"] * 30 + ["event.duplicate"]
    assert codes(world, *big[-8:]) == ["event.duplicate"] * 8
    assert len(world.state(DELTA).delivered) <= 12


def test_the_window_is_the_same_after_a_restart() -> None:
    """What adopt keeps in memory and what the records say are one, after any number of turns."""
    world = small_world()
    for size in (1, 5, 13, 2, 30, 7):
        world.send(DELTA, *to_portal(size))
        assert reloaded(world) == world.state(DELTA)


def reloaded(world: World) -> LaneState:
    """Delta's lane as another worker reads it."""
    lane = world.state(DELTA).lane
    written = {
        (o.key or b"").decode(): o.value or b""
        for o in world.topic(LANE_STATE)
        if (o.key or b"").startswith(lane.encode())
    }
    return LaneState.load(lane, written, {}, limits=SMALL)


def test_one_event_id_of_two_parties_is_two_events(school: World) -> None:
    """Each party's ids are its own: who guesses an id of another can not make it a duplicate."""
    school.edit("agreement/vwo-po-delta", party=OOST)
    sent = event(receiver=SHOP)
    assert [d.code for d in school.send(OOST, sent)] == ["ok"]
    school.edit("agreement/vwo-po-delta", party=DELTA)
    assert [d.code for d in school.send(DELTA, sent)] == ["ok"]


def test_an_event_id_in_capitals_is_the_same_id(school: World) -> None:
    """RFC 9562, section 4: case says nothing."""
    sent = event(receiver=PORTAL)
    assert codes(school, sent, replace(sent, event_id=sent.event_id.upper())) == ["ok", "event.duplicate"]


def test_a_receiver_that_joins_later_gets_the_event_when_it_is_sent_again(school: World) -> None:
    """The window is per receiver: the others are told duplicate, the new one gets it."""
    link = "connection/po-usage-delta-portaal/sender"
    school.edit(link, state="revoked")
    sent = event()
    first = {d.receiver for d in school.send(DELTA, sent)}
    assert first == {SHOP, SIS}
    school.edit(link, state="accepted")
    again = {d.receiver: d.outcome for d in school.send(DELTA, sent)}
    assert again == {SHOP: Outcome.DUPLICATE, SIS: Outcome.DUPLICATE, PORTAL: Outcome.DELIVERED}


def test_what_was_delivered_once_is_told_as_duplicate_only_if_the_rest_goes_through(school: World) -> None:
    """Every decision of an event stands on audit and status alike, once for each receiver."""
    link = "connection/po-usage-delta-portaal/sender"
    school.edit(link, state="revoked")
    sent = event()
    school.send(DELTA, sent)
    school.send(SIS, replace(enrolment(), kind="ERASE"))
    school.edit(link, state="accepted")
    school.outgoing.clear()
    decisions = school.send(DELTA, sent)
    assert [d.code for d in decisions] == ["subject.unknown"]
    assert len(school.statuses(DELTA)[0]["results"]) == len(decisions) == len(school.leaves())


def test_an_event_sent_twice_while_it_waits_is_delivered_once(school: World) -> None:
    """Both wait; the first is delivered, the second is its duplicate."""
    sent = event(receiver=PORTAL, subject=Subject("PUPIL", None, (("LAS_KEY", "L0099"),)))
    assert codes(school, sent, sent) == ["subject.waiting"] * 2
    school.send(SIS, enrolment(None, "L0099"))
    assert Counter(d.code for d in school.run(DELTA).decisions) == {"ok": 1, "event.duplicate": 1}


def test_an_identity_event_sent_again_changes_nothing(world: World) -> None:
    """A late copy of an ENROL does not undo the ERASE that came after it."""
    sent = enrolment()
    world.send(SIS, sent)
    world.send(SIS, replace(enrolment(), kind="ERASE"))
    assert [d.code for d in world.send(SIS, sent)] == ["event.duplicate"]
    assert world.vault == {}

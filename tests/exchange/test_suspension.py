"""A party that is suspended: nothing is taken of it, nothing goes to it, and only who could reach it learns why."""

from __future__ import annotations

import pytest

from broker.client import Subject
from broker.exchange import Outcome
from broker.registry import Suspension
from broker.registry.registry import record_of
from broker.registry.suspension import suspension_key
from tests.exchange.first_lane import LINK, first_lane, links_of, told
from tests.exchange.world import DELTA, NOW, PORTAL, SHOP, SIS, World, enrolment, event

LATE = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))


def suspend(world: World, party: str) -> None:
    """Shut a party out."""
    record = record_of(Suspension(id=party, since=NOW, reason="its password was stolen", by="the operator"))
    world.registry = world.registry.with_changes({suspension_key(party): record})


def resume(world: World, party: str) -> None:
    """Let it in again."""
    world.registry = world.registry.with_changes({suspension_key(party): None})


@pytest.mark.parametrize("receiver", [PORTAL, None], ids=["named", "broadcast"])
def test_a_suspended_sender_is_refused_whatever_it_sends(school: World, receiver: str | None) -> None:
    """Also what only the vault would get; once it is lifted the same events pass."""
    suspend(school, DELTA)
    suspend(school, SIS)
    for party, sent in ((DELTA, event(receiver=receiver)), (SIS, enrolment(None, "L0099"))):
        assert [(d.outcome, d.code) for d in school.send(party, sent)] == [(Outcome.REFUSED, "party.suspended")]
    assert not [o for o in school.outgoing if o.topic.startswith(("out.", "vault."))]
    resume(school, DELTA)
    assert "ok" in {d.code for d in school.send(DELTA, event(receiver=receiver))}


def test_a_suspended_receiver_gets_nothing_and_its_peers_go_on(school: World) -> None:
    """Named or not; the sender is told, and nothing remembered of before or during the suspension counts after it."""
    before = [(d.receiver, d.code) for d in school.send(DELTA, event())]
    suspend(school, PORTAL)
    assert [d.code for d in school.send(DELTA, event(receiver=PORTAL))] == ["receiver.suspended"]
    during = {d.receiver: d.code for d in school.send(DELTA, event())}
    assert during == dict(before) | {PORTAL: "receiver.suspended"}
    assert len(school.topic(f"out.{PORTAL}.usage")) == 1
    resume(school, PORTAL)
    assert [(d.receiver, d.code) for d in school.send(DELTA, event())] == before


@pytest.mark.parametrize(("party", "code"), [(DELTA, "party.suspended"), (PORTAL, "receiver.suspended")])
def test_what_was_parked_is_refused_when_its_sender_or_receiver_is_suspended_meanwhile(
    world: World, party: str, code: str
) -> None:
    """It meets the registry as it is when the pupil comes."""
    assert world.send(DELTA, event(receiver=PORTAL, subject=LATE))[0].outcome is Outcome.PARKED
    suspend(world, party)
    world.send(SIS, enrolment(None, "L0099"))
    assert [d.code for d in world.run(DELTA).decisions] == [code]
    assert world.topic(f"out.{PORTAL}.usage") == []
    assert world.state(DELTA).parked == {}


def test_what_closes_something_does_not_reach_a_suspended_receiver_either(school: World) -> None:
    """A link that was revoked today still takes corrections; to a party that is shut out it takes none."""
    for side in ("sender", "receiver"):
        school.edit(f"connection/{LINK}/{side}", state="revoked", at=NOW.isoformat())
    assert [d.code for d in school.send(DELTA, event(kind="RETRACT", receiver=PORTAL))] == ["ok.unchecked"]
    suspend(school, PORTAL)
    assert [d.code for d in school.send(DELTA, event(kind="RETRACT", receiver=PORTAL))] == ["receiver.suspended"]


def test_who_could_not_deliver_learns_nothing_of_a_suspension(school: World) -> None:
    """Promise P8: a party that is shut out, one that is not connected and none at all are one answer."""
    school.edit(f"connection/{LINK}/sender")
    suspend(school, PORTAL)
    for receiver in (PORTAL, "portaal-nergens"):
        assert [d.code for d in school.send(DELTA, event(receiver=receiver))] == ["gate.connection"]
    assert PORTAL not in {d.receiver for d in school.send(DELTA, event())}


def test_a_suspended_party_is_told_its_duties_once_it_is_resumed() -> None:
    """Not meanwhile, nothing is lost, and none is told twice."""
    world = first_lane()
    suspend(world, DELTA)
    assert told(world, DELTA) == []
    resume(world, DELTA)
    assert len(told(world, DELTA)) == len(links_of(world, DELTA))
    assert told(world, DELTA) == []


def test_nobody_is_asked_to_seed_a_suspended_receiver_until_it_is_resumed() -> None:
    """What it would send would be refused; the request comes once that is over."""
    world = first_lane()
    suspend(world, PORTAL)
    asked = [d.body["other_party"] for d in told(world, DELTA)]
    assert asked
    assert PORTAL not in asked
    resume(world, PORTAL)
    assert {d.body["other_party"] for d in told(world, DELTA)} == {PORTAL}


def test_a_suspension_withdraws_nothing_that_must_be_agreed_anew(school: World) -> None:
    """Agreements, links and keys stand as they stood, so the shop that needs no link and the portal that does go on."""
    before = {d.receiver: d.code for d in school.send(DELTA, event())}
    suspend(school, DELTA)
    resume(school, DELTA)
    assert {d.receiver: d.code for d in school.send(DELTA, event())} == before
    assert {before[PORTAL], before[SHOP]} == {"ok"}

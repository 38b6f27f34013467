"""What a connection event brings about: in the registry, on the control log, at the parties, and for what comes next."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from broker.client import Event, Roster, Subject
from broker.exchange.model import AUDIT_CONTROL, REGISTRY
from broker.registry import Registry
from tests.exchange.links import BOTH, LINK, first, link_id, put, said, sides, states
from tests.exchange.world import DELTA, EMMA, NOW, NOW_MS, PORTAL, SIS, World, enrolment, event, make_world


def test_record_and_control_leaf_stand_in_one_transaction() -> None:
    """One record and one leaf for each side; the leaf holds all of it, before and after."""
    world = make_world()
    sent = said("OFFER", "RECEIVER"), said("ACCEPT", "BOTH")
    step = world.run(SIS, *[world.record(SIS, e) for e in sent])
    records = [o for o in step.outgoing if o.topic == REGISTRY]
    leaves = [json.loads(o.value or b"")["control"] for o in step.outgoing if o.topic == AUDIT_CONTROL]
    keys = [f"connection/{LINK}/{side}" for side in ("receiver", *BOTH)]
    assert [(o.key or b"").decode() for o in records] == [leaf["key"] for leaf in leaves] == keys
    assert {o.partition for o in records} == {0}
    assert [json.loads(o.value or b"") for o in records] == [leaf["after"] for leaf in leaves]
    assert [leaf["action"] for leaf in leaves] == ["add", "add", "change"]
    assert [leaf["before"] for leaf in leaves] == [None, None, leaves[0]["after"]]
    assert [leaf["event"] for leaf in leaves] == [sent[0].event_id, sent[1].event_id, sent[1].event_id]
    assert {(leaf["kind"], leaf["operator"], leaf["at"]) for leaf in leaves} == {("registry", SIS, NOW_MS)}
    assert world.registry.connection_side(LINK, "sender") is not None


def test_both_parties_hear_of_it_and_so_does_the_school() -> None:
    """From the SIS: the two parties. From a party: the other one, and the school's SIS. Never the sender, nor others."""
    world = make_world()
    heard = {d.receiver: d.code for d in world.send(SIS, said("OFFER", "BOTH"))}
    assert heard == {"registry": "ok.link", DELTA: "ok", PORTAL: "ok"}
    heard = {d.receiver: d.code for d in world.send(PORTAL, said("DECLINE", "RECEIVER"))}
    assert heard == {"registry": "ok.link", DELTA: "ok", SIS: "ok"}
    told = world.delivered(DELTA, "connection")
    assert [(d.envelope["kind"], d.envelope["sender"]) for d in told] == [("OFFER", SIS), ("DECLINE", PORTAL)]
    assert told[1].body == said("DECLINE", "RECEIVER").body.datum()


def test_a_party_without_agreement_or_key_does_not_keep_the_link_from_the_registry() -> None:
    """Its other party can not be told; the school's word counts all the same."""
    world = make_world()
    world.edit("agreement/vwo-po-portaal")
    world.edit(f"party/{DELTA}", keys=[])
    heard = {d.receiver: d.code for d in world.send(SIS, said("ACCEPT", "BOTH"))}
    assert heard == {"registry": "ok.link", DELTA: "receiver.key"}


def test_a_connection_event_sent_again_is_a_duplicate_and_changes_nothing() -> None:
    """What was said in between stays."""
    world, sent = make_world(), said("ACCEPT", "BOTH")
    world.send(SIS, sent, said("REVOKE", "BOTH"))
    world.outgoing.clear()
    assert {d.code for d in world.send(SIS, sent)} == {"event.duplicate"}
    assert world.topic(REGISTRY) == world.topic(AUDIT_CONTROL) == []
    assert states(world) == ["revoked", "revoked"]


def test_what_was_refused_may_be_sent_again_under_its_id() -> None:
    """Refused while it was not there yet; later it is."""
    world, sent = make_world(), said("REVOKE", "BOTH")
    assert first(world.send(SIS, sent)) == "object.transition"
    put(world, "accepted")
    assert first(world.send(SIS, sent)) == "ok.link"


# ---- at once


ROSTER: dict[str, Any] = {
    "connection_id": "po-roster-sis-delta",
    "sender": SIS,
    "receiver": DELTA,
    "service": "roster",
    "process": "TOEGANG",
}


def member() -> Event:
    """Emma's groups, to Delta."""
    return Event(
        kind="MEMBERSHIP", school="99PA", sector="PO", created=NOW, receiver=DELTA, subject=Subject("PUPIL", EMMA),
        body=Roster(group_ids=("7a",)),
    )  # fmt: skip


def test_the_next_event_of_the_batch_sees_what_was_switched(school: World) -> None:
    """Revoked: nothing more goes over it. Accepted again: the next one goes. Without waiting for any view."""
    sent = [member(), said("REVOKE", "SENDER", **ROSTER), member(), said("ACCEPT", "SENDER", **ROSTER), member()]
    codes = [d.code for d in school.send(SIS, *sent) if d.receiver in (DELTA, "registry") and d.code != "ok.link"]
    to_delta = [
        d.outcome.name
        for d in school.send(SIS, *[member(), said("REVOKE", "SENDER", **ROSTER), member()])
        if d.receiver == DELTA
    ]
    assert codes == ["ok", "ok", "gate.connection", "ok", "ok"]
    assert to_delta == ["DELIVERED", "DELIVERED", "REFUSED"]


def test_sides_that_are_switched_one_after_the_other_come_on_with_the_second(school: World) -> None:
    """One side is not enough, in the batch as after it."""
    link = ROSTER | {"connection_id": link_id("rooster")}
    for side in BOTH:
        school.edit(f"connection/po-roster-sis-delta/{side}")
    one, two = (said("ACCEPT", side, **link) for side in ("SENDER", "RECEIVER"))
    decisions = school.send(SIS, member(), one, member(), two, member())
    assert [d.code for d in decisions if d.receiver == DELTA and d.code.startswith("gate")] == ["gate.connection"] * 2
    assert decisions[-1].code == "ok"


def test_what_a_batch_switched_is_forgotten_if_it_was_not_committed(school: World) -> None:
    """The same call once more decides the same: nothing is kept outside the state."""
    records = [school.record(SIS, e) for e in (said("REVOKE", "SENDER", **ROSTER), member())]
    inputs = [records[0], records[1]]
    one, two = school.step(SIS, inputs), school.step(SIS, inputs)
    assert [d.code for d in one.decisions] == [d.code for d in two.decisions]
    assert [d.code for d in school.send(SIS, member())] == ["ok"]


def test_a_revoked_link_stops_what_waited_for_it(school: World) -> None:
    """Usage of a pupil who is not known yet waits; by the time he is, the link is off."""
    late = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))
    school.send(DELTA, event(subject=late, receiver=PORTAL))
    school.send(SIS, said("REVOKE", "RECEIVER", connection_id="po-usage-delta-portaal"), enrolment(None, "L0099"))
    assert [d.code for d in school.run(DELTA).decisions] == ["gate.connection"]


def test_the_time_of_a_record_is_that_of_the_batch(world: World) -> None:
    """Milliseconds are kept, so that a link that is switched on anew has another marker."""
    world.now_ms += 1
    world.send(SIS, said("ACCEPT", "BOTH"))
    assert {side.at for side in sides(world).values() if side} == {datetime.fromtimestamp((NOW_MS + 1) / 1000, UTC)}


def test_many_connections_in_a_row_build_the_registry_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a country one building takes tens of milliseconds; a SIS that switches a thousand links must not wait for each."""
    world = make_world()
    built = []
    whole = Registry.with_changes
    monkeypatch.setattr(Registry, "with_changes", lambda self, changes: built.append(changes) or whole(self, changes))
    links = [
        said("ACCEPT", "BOTH", connection_id=link_id(str(n)), service="result", process="TERUGKOPPELEN")
        for n in range(5)
    ]
    records = [world.record(SIS, e) for e in links]
    step = world.step(SIS, [replace(r, offset=n) for n, r in enumerate((*records, world.record(SIS, enrolment())))])
    assert [d.code for d in step.decisions if d.receiver == "registry"] == ["ok.link"] * 5
    assert [len(changes) for changes in built] == [10]

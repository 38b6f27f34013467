"""An event that the exchange fails on: quarantined as it came, told, audited, an incident; nothing else moves."""

from __future__ import annotations

import json

from joserfc.jwk import ECKey

from broker.client import Subject
from broker.crypto import jwe_kid, open_secret, part_key, unseal
from broker.exchange import Outcome, Views, set_aside
from broker.exchange.model import AUDIT_CONTROL, PARKED
from broker.exchange.state import unpack_record
from broker.limits import DEFAULT
from broker.schemas import catalogue, unframe
from tests.exchange.world import DELTA, SIS, World, enrolment, event

LATE = Subject("PUPIL", None, (("LAS_KEY", "L0099"),))


def views(world: World) -> Views:
    """As the world has them."""
    return Views(world.registry, world.vault, world.partitions)


def test_its_sender_and_the_operator_can_open_the_whole_record_and_nobody_reads_it_in_clear(school: World) -> None:
    """The quarantine has the record as it came, sealed; the position moves behind it; the incident names the place."""
    sent = event()
    record = school.record(DELTA, sent)
    state = school.state(DELTA)
    step = set_aside(state, record, views(school), school.exchange_keys, school.now_ms, record.offset + 1)
    assert [(d.outcome, d.code) for d in step.decisions] == [(Outcome.QUARANTINED, "internal.error")]
    assert step.delta.next_offset == record.offset + 1
    assert step.more, "what came for events that wait was not looked at"
    (kept,) = [out for out in step.outgoing if out.topic == f"quarantine.{DELTA}"]
    datum = catalogue()["quarantine.v1"].decode(unframe(kept.value)[1])
    where = f"{record.topic}/{record.partition}/{record.offset}".encode()
    for who, token in zip((school.keys, school.party_keys[DELTA]), datum["recipients"], strict=True):
        private = who.private_key(jwe_kid(token.encode()))
        assert private is not None
        cipher = part_key(open_secret(token.encode(), ECKey.import_key(dict(private))), "quarantine")
        assert unpack_record(unseal(cipher, datum["content"], where, "quarantine")) == record
    (status,) = [out for out in step.outgoing if out.topic == f"status.{DELTA}"]
    told = catalogue()["status.v1"].decode(unframe(status.value)[1])
    assert told["event_id"] == sent.event_id
    assert "fault of the broker" in told["results"][0]["sentence"]
    (incident,) = [json.loads(out.value or b"")["control"] for out in step.outgoing if out.topic == AUDIT_CONTROL]
    assert (incident["kind"], incident["code"], incident["in"]["offset"]) == (
        "incident",
        "internal.error",
        record.offset,
    )
    assert {out.topic for out in step.outgoing} == {
        "audit.control", "audit.events", "lane.state", f"quarantine.{DELTA}", f"status.{DELTA}"
    }  # fmt: skip


def test_of_what_can_not_even_be_read_the_place_is_told(school: World) -> None:
    """No envelope: the event's id is made of where it stands, as for all that can not be opened."""
    for value in (None, b"", b"\xc3\x01", b"\xff" * 40):
        record = school.raw(DELTA, value=value)
        step = set_aside(school.state(DELTA), record, views(school), school.exchange_keys, school.now_ms, 1)
        (status,) = [out for out in step.outgoing if out.topic == f"status.{DELTA}"]
        told = catalogue()["status.v1"].decode(unframe(status.value)[1])
        assert (told["topic"], told["partition"], told["offset"]) == (record.topic, record.partition, record.offset)


def test_a_parked_one_waits_no_more_and_the_lane_stays_where_it_is(school: World) -> None:
    """Only this one goes; the one behind it is released by the next call."""
    school.send(DELTA, event(subject=LATE), event(subject=LATE))
    school.send(SIS, enrolment(las_key="L0099"))
    state = school.state(DELTA)
    position = state.next_offset
    step = set_aside(state, state.parked[0], views(school), school.exchange_keys, school.now_ms, position)
    assert [out.value for out in step.outgoing if out.topic == PARKED] == [None]
    state.adopt(step.delta)
    assert (list(state.parked), state.next_offset) == ([1], position)
    assert school.run(DELTA).decisions[0].outcome is Outcome.DELIVERED


def test_brief_keeps_no_more_than_the_beginning_of_a_large_value(school: World) -> None:
    """Of a record that can not be written whole; a small one is kept whole."""
    record = school.raw(DELTA, value=b"x" * 900_000)
    small, whole = (
        set_aside(
            school.state(DELTA), record, views(school), school.exchange_keys, school.now_ms, 1, brief=brief
        ) for brief in (True, False)
    )  # fmt: skip
    sizes = [len(out.value or b"") for s in (small, whole) for out in s.outgoing if out.topic == f"quarantine.{DELTA}"]
    assert DEFAULT.quarantined_bytes < sizes[0] < DEFAULT.quarantined_bytes + 4_000
    assert sizes[1] > 900_000

"""What was quarantined can be replayed by its sender: through all steps again, once, with a link to the first try."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.client import Progress, Subject
from broker.crypto import jwe_kid
from broker.errors import ConfigError
from broker.exchange import InputRecord, Outcome, Step
from broker.exchange.model import AUDIT_CONTROL
from broker.keys import MemoryKeys
from broker.limits import DEFAULT
from broker.quarantine.content import open_entry, replay_headers
from broker.quarantine.entries import Entry, Place, Quarantine
from broker.wire import REPLAY_OF, TRACEPARENT
from tests.exchange.test_bad_input import BSN
from tests.exchange.test_parking import DAY_MS, LATE, MAYA
from tests.exchange.world import DELTA, NOAH, PORTAL, SIS, World, enrolment, event, evidence_in, make_world, usage

NINE_DIGITS = "[0-9]{9}"


def quarantine(world: World, party: str = SIS) -> Quarantine:
    """What stands on a party's quarantine topic."""
    return Quarantine.read(out.value for out in world.topic(f"quarantine.{party}"))


def newest(world: World, party: str = SIS) -> Entry:
    """The entry that came last."""
    return quarantine(world, party).entries[-1]


def again(world: World, entry: Entry) -> InputRecord:
    """The replay of an entry, as its sender makes it with its own key."""
    record = open_entry(entry, world.party_keys[entry.place.party].private_key).record
    return replace(record, headers=tuple(replay_headers(record)))


def taken_for_a_bsn(world: World) -> Entry:
    """An enrolment whose local id is taken for a BSN, since the school did not say what its ids look like."""
    world.send(SIS, enrolment(NOAH, BSN))
    return newest(world)


def declare(world: World) -> None:
    """The school says what its local ids look like."""
    world.edit("school/99PA", local_id_form=NINE_DIGITS)


def codes(step: Step) -> list[str]:
    """What was decided."""
    return [decision.code for decision in step.decisions]


def claimed(world: World, value: bytes, party: str = DELTA) -> InputRecord:
    """A good event that says of itself which record it is a replay of."""
    record = world.record(party, event())
    return replace(record, headers=(*record.headers, (REPLAY_OF, value)))


def test_a_replay_goes_through_all_steps_and_its_leaf_names_the_first_try(world: World) -> None:
    """Once the fault is repaired it is delivered, under its own event id, and an auditor finds the one by the other."""
    entry = taken_for_a_bsn(world)
    first = world.evidence()[-1]
    declare(world)
    step = world.run(SIS, again(world, entry))
    assert codes(step) == ["ok.vault"]
    second = evidence_in(step.outgoing)[-1]
    assert second.get("replay_of") == {name: first["in"][name] for name in ("offset", "partition", "topic")}
    assert second["event"] == first["event"] == entry.event_id
    assert second["in"]["offset"] > first["in"]["offset"]
    assert "replay_of" not in first


def test_who_looks_at_the_quarantine_sees_that_it_was_replayed(world: World) -> None:
    """In the same transaction as the decision over the replay."""
    entry = taken_for_a_bsn(world)
    assert quarantine(world).state(entry.place) == "open"
    declare(world)
    step = world.run(SIS, again(world, entry))
    written = Quarantine.read(out.value for out in step.outgoing if out.topic == f"quarantine.{SIS}")
    assert entry.place in written.handled
    handled = written.handled[entry.place]
    assert (handled.state, handled.by, handled.at) == ("replayed", SIS, world.now_ms)
    assert handled.replay == evidence_in(step.outgoing)[-1]["in"]["offset"]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_second_replay_is_refused(world: World, restarted: bool) -> None:
    """Whatever was decided over the first one, by the same worker or another."""
    entry = taken_for_a_bsn(world)
    replayed = again(world, entry)
    assert codes(world.run(SIS, replayed)) == ["pgn.bsn"]
    declare(world)
    if restarted:
        world.take_over(SIS)
    step = world.run(SIS, replayed)
    assert codes(step) == ["replay.unknown"]
    assert {out.topic.partition(".")[0] for out in step.outgoing} == {"audit", "status", "lane"}
    assert world.statuses(SIS)[-1]["event_id"] == entry.event_id


def test_two_replays_in_one_batch_are_one(world: World) -> None:
    """And an entry can be replayed by the batch that made it."""
    entry = taken_for_a_bsn(world)
    declare(world)
    replayed = again(world, entry)
    assert codes(world.run(SIS, replayed, replayed)) == ["ok.vault", "replay.unknown"]


def test_a_replay_that_is_not_committed_did_not_happen(world: World) -> None:
    """The state moves after the commit only: the batch that is done again decides the same."""
    entry = taken_for_a_bsn(world)
    declare(world)
    record = replace(again(world, entry), offset=world.state(SIS).next_offset)
    assert codes(world.step(SIS, [record])) == codes(world.step(SIS, [record])) == ["ok.vault"]
    assert codes(world.run(SIS, record)) == ["ok.vault"]


def test_a_replay_that_is_quarantined_again_can_be_replayed_itself(world: World) -> None:
    """It is an entry of its own; each link leads one try back."""
    first = taken_for_a_bsn(world)
    world.run(SIS, again(world, first))
    second = newest(world)
    assert second.place.offset > first.place.offset
    assert quarantine(world).state(first.place) == "replayed"
    declare(world)
    step = world.run(SIS, again(world, second))
    assert codes(step) == ["ok.vault"]
    assert evidence_in(step.outgoing)[-1]["replay_of"]["offset"] == second.place.offset


def test_a_replay_that_waits_keeps_its_link(school: World) -> None:
    """Parked and delivered later: each leaf names the first try; that it was replayed is told once."""
    note = usage(progress=Progress(status="STARTED"), progress_note="182071649")
    school.send(DELTA, event(kind="PROGRESS", subject=LATE, receiver=PORTAL, body=note))
    entry = newest(school, DELTA)
    # As if the screen had been wrong: the same place, another body.
    good = school.record(DELTA, event(event_id=entry.event_id, subject=LATE, receiver=PORTAL))
    link = (REPLAY_OF, str(entry.place.offset).encode())
    assert codes(school.run(DELTA, replace(good, headers=(*good.headers, link)))) == ["subject.waiting"]
    school.take_over(DELTA)
    school.send(SIS, enrolment(MAYA, "L0099"))
    assert codes(school.run(DELTA)) == ["ok"]
    leaves = [x for x in school.evidence() if x["sender"] == DELTA]
    assert [x.get("replay_of", {}).get("offset") for x in leaves] == [None, entry.place.offset, entry.place.offset]
    assert quarantine(school, DELTA).state(entry.place) == "replayed"
    assert len(school.topic(f"quarantine.{DELTA}")) == 2


def test_a_replay_that_waited_too_long_keeps_its_link(school: World) -> None:
    """Also in the leaf of its end."""
    school.send(DELTA, event(subject=LATE, body=usage(entitlement_id="a\x00b")))
    entry = newest(school, DELTA)
    good = school.record(DELTA, event(subject=LATE))
    link = (REPLAY_OF, str(entry.place.offset).encode())
    school.run(DELTA, replace(good, headers=(*good.headers, link)))
    school.now_ms += 40 * DAY_MS
    step = school.run(DELTA)
    assert codes(step) == ["parked.expired"]
    assert evidence_in(step.outgoing)[0]["replay_of"]["offset"] == entry.place.offset


def test_only_what_waits_in_quarantine_can_be_replayed(school: World) -> None:
    """Not what was delivered: no leaf may say that it follows a first try that there was not."""
    school.send(DELTA, event())
    delivered = school.evidence()[-1]["in"]["offset"]
    step = school.run(DELTA, claimed(school, str(delivered).encode()))
    assert codes(step) == ["replay.unknown"]
    assert not school.topic(f"quarantine.{DELTA}")
    assert all("replay_of" not in leaf for leaf in school.evidence())


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"007", b"1.5", b"in.sis-noord/1/0", b"Emma", "١".encode(), b"1" * 19, b"99", b"5"]
)
def test_a_link_that_is_no_earlier_offset_is_refused_and_stands_nowhere(school: World, value: bytes) -> None:
    """Neither a later record, nor itself (offset 5 here), nor a word; what it said is in no record."""
    for _ in range(5):
        school.send(DELTA, event())
    assert school.state(DELTA).next_offset == 5
    step = school.run(DELTA, claimed(school, value))
    assert codes(step) == ["replay.form"]
    assert step.decisions[0].outcome is Outcome.REFUSED
    assert all("replay_of" not in leaf for leaf in evidence_in(step.outgoing))
    if len(value) > 3:
        assert not [o for o in step.outgoing if value in (o.value or b"")]


def test_a_pgn_in_the_link_is_an_incident(school: World) -> None:
    """A number that is no offset of an earlier record is a text like any other."""
    assert codes(school.run(DELTA, claimed(school, BSN.encode()))) == ["pgn.bsn"]
    assert school.topic(AUDIT_CONTROL)


def test_an_offset_that_looks_like_a_bsn_is_an_offset(school: World) -> None:
    """Kafka's numbers pass the 11-proof by chance, two of eleven; the record's own offset bounds what it can be."""
    school.state(DELTA).next_offset = int(BSN) + 1
    assert codes(school.run(DELTA, claimed(school, BSN.encode()))) == ["replay.unknown"]
    assert not school.topic(AUDIT_CONTROL)


def test_a_pgn_in_clear_is_an_incident_also_in_a_replay_of_nothing(school: World) -> None:
    """Whatever else is wrong with it."""
    school.send(DELTA, event())
    record = claimed(school, b"0")
    bad = replace(record, headers=(*record.headers, ("x", BSN.encode())))
    assert codes(school.run(DELTA, bad)) == ["pgn.bsn"]


def test_two_links_are_none(school: World) -> None:
    """Of two headers of one name a reader may take either."""
    school.send(DELTA, event(), event())
    record = claimed(school, b"0")
    step = school.run(DELTA, replace(record, headers=(*record.headers, (REPLAY_OF, b"1"))))
    assert codes(step) == ["headers.repeated"]


def test_a_lane_remembers_a_bounded_number_of_what_waits() -> None:
    """The oldest can not be replayed then; it can never be replayed twice."""
    world = make_world(replace(DEFAULT, quarantined_per_lane=2))
    for _ in range(3):
        world.send(SIS, enrolment(NOAH, BSN))
    entries = quarantine(world).entries
    assert len(world.state(SIS).quarantined) == 2
    world.take_over(SIS)
    declare(world)
    found = [codes(world.run(SIS, again(world, entry))) for entry in entries]
    assert found == [["replay.unknown"], ["ok.vault"], ["ok.vault"]]
    world.take_over(SIS)
    assert world.state(SIS).quarantined == {}


def test_what_was_delivered_meanwhile_is_not_delivered_again(world: World) -> None:
    """The sender sent it anew under its id, and then replayed it as well."""
    sent = enrolment(NOAH, BSN)
    world.send(SIS, sent)
    entry = newest(world)
    declare(world)
    assert [d.code for d in world.send(SIS, sent)] == ["ok.vault"]
    assert codes(world.run(SIS, again(world, entry))) == ["event.duplicate"]


# ---- what an entry holds


def noted(world: World, note: str, headers: Any = ()) -> Entry:
    """The entry of a progress report with this note."""
    body = usage(progress=Progress(status="STARTED"), progress_note=note)
    record = world.record(DELTA, event(kind="PROGRESS", body=body))
    world.run(DELTA, replace(record, headers=(*record.headers, *headers)))
    return newest(world, DELTA)


def test_an_entry_says_what_stood_where_and_why(school: World) -> None:
    """Everything that a list needs, without a key."""
    entry = noted(school, f"bel {BSN} terug")
    place = Place(DELTA, 1, 0)
    assert (entry.place, entry.code, entry.field, entry.school) == (place, "pgn.bsn", "progress_note", "99PA")
    assert (entry.decided, entry.whole, entry.event_id) == (school.now_ms, True, school.evidence()[-1]["event"])
    assert BSN not in repr(entry)


def test_operator_and_sender_open_subject_and_body_and_nobody_else_does(school: World) -> None:
    """They came sealed for the broker, whose key is destroyed after a while; in quarantine they are sealed for these."""
    entry = noted(school, f"bel {BSN} terug")
    for keys in (school.keys, school.party_keys[DELTA]):
        opened = open_entry(entry, keys.private_key)
        assert BSN.encode() in (opened.body or b"")
        assert b"ketenid.nl" in (opened.subject or b"")
    for keys in (school.party_keys[PORTAL], MemoryKeys()):
        with pytest.raises(ConfigError) as caught:
            open_entry(entry, keys.private_key)
        assert caught.value.code == "quarantine.key"
    broker = school.keys.recipient_keys("broker")[0].kid
    assert broker not in {jwe_kid(token) for token in entry.recipients}


def test_an_entry_that_could_not_be_opened_has_the_record_alone(school: World) -> None:
    """Sealed for somebody else, or not sealed at all."""
    record = school.record(DELTA, event())
    school.run(DELTA, replace(record, headers=((TRACEPARENT, b"x"),)))
    entry = newest(school, DELTA)
    assert (entry.code, entry.subject, entry.body) == ("seal.missing", None, None)
    assert open_entry(entry, school.keys.private_key).record.value == record.value


def test_parts_that_there_is_no_room_for_stay_out() -> None:
    """An entry must fit a record of Kafka."""
    world = make_world(replace(DEFAULT, quarantined_bytes=100))
    world.send(SIS, enrolment(NOAH, BSN), enrolment())
    world.send(DELTA, event(subject=Subject("PUPIL", BSN)))
    assert all(entry.body is None and entry.subject is None for entry in quarantine(world, DELTA).entries)
    assert len(quarantine(world, DELTA).entries) == 1


def test_a_record_that_was_cut_says_so(school: World) -> None:
    """It can not be replayed: what would be sent is another record."""
    school.run(DELTA, school.raw(DELTA, value=b"\xc3\x01" + b"x" * 1_000_001))
    assert newest(school, DELTA).whole is False

"""One good event: who gets it, with what, and what is written about it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

from broker.audit.leaf import Commitments, Ids, canonical, commitment
from broker.client import Identity, Progress, Subject
from broker.exchange import Outcome
from broker.registry import Registry
from broker.wire import AUDIT_SALT, FLOW_SEQ
from tests.exchange.world import DELTA, EMMA, NOAH, NOW, OOST, PORTAL, SHOP, SIS, World, enrolment, event, usage

FULL = {
    "frequency": 3,
    "first_used": date(2026, 9, 1),
    "expiration_date": date(2027, 7, 31),
    "activation_code": "GEHEIM-1",
    "group_id": "7a",
    "year_group": "7",
}


def test_one_usage_event_reaches_three_receivers_each_with_its_own_attributes(school: World) -> None:
    """Portal, shop and SIS get the same event, with different attributes (promise P3)."""
    decisions = school.send(DELTA, event(body=usage(**FULL)))
    assert {d.receiver: d.outcome for d in decisions} == dict.fromkeys([PORTAL, SHOP, SIS], Outcome.DELIVERED)
    got = {receiver: school.delivered(receiver)[0] for receiver in (PORTAL, SHOP, SIS)}
    filled = {r: {name for name, value in d.body.items() if value is not None} for r, d in got.items()}
    assert filled[PORTAL] != filled[SHOP]
    assert "usage_date" in filled[PORTAL]
    assert not any("activation_code" in names for names in (filled[PORTAL],))


def test_the_school_gets_its_own_id_back_and_others_only_the_eck_id(school: World) -> None:
    """Identity swap in both directions: LAS key in, ECK iD out; the SIS gets both (R3)."""
    school.send(DELTA, event(subject=Subject("PUPIL", None, (("LAS_KEY", "L0001"),))))
    for receiver in (PORTAL, SIS):
        assert school.delivered(receiver)[0].subject["eck_id"] == EMMA
    assert school.delivered(PORTAL)[0].subject["user_ids"] == []
    assert school.delivered(SIS)[0].subject["user_ids"] == [{"type": "LAS_KEY", "value": "L0001"}]


def test_a_never_attribute_is_not_in_the_receivers_schema_at_all(school: World) -> None:
    """Promise P4: the portal's schema has no activation code; the record can not hold one."""
    school.send(DELTA, event(body=usage(**FULL)))
    portal = school.delivered(PORTAL)[0]
    schema = school.writer_schemas()[portal.envelope["body_schema"]]
    assert "activation_code" not in {f.name for f in schema.fields}


def test_a_conditional_attribute_that_the_agreement_does_not_name_is_null(school: World) -> None:
    """The shop's agreement names the activation code and not the group: one is filled in, the other is not."""
    school.send(DELTA, event(receiver=SHOP, body=usage(**FULL)))
    got = school.delivered(SHOP)[0].body
    assert got["activation_code"] == FULL["activation_code"]
    assert {name for name in ("group_id", "year_group", "frequency") if got.get(name) is not None} == set()
    x = json.loads(school.leaves()[0])["x"]
    assert {"groupId", "yearGroup", "usageFrequency"} <= set(x["dropped"])


def test_a_named_receiver_is_the_only_one(school: World) -> None:
    """With a receiver in the envelope nobody else gets the event."""
    decisions = school.send(DELTA, event(receiver=PORTAL))
    assert [(d.receiver, d.outcome) for d in decisions] == [(PORTAL, Outcome.DELIVERED)]


def test_a_publisher_without_connection_reaches_nobody_who_needs_one(school: World) -> None:
    """Gate 3: what oost sends does not reach the portal or the SIS."""
    decisions = school.send(OOST, event())
    assert all(d.outcome is Outcome.REFUSED for d in decisions)
    assert school.delivered(PORTAL) == school.delivered(SIS) == []


def test_an_event_about_nobody_is_delivered_without_subject(school: World) -> None:
    """A school licence has usage without a pupil."""
    school.send(DELTA, event(subject=Subject()))
    assert school.delivered(PORTAL)[0].subject["kind"] == "NONE"


def test_the_leaf_says_what_was_sent_and_holds_no_value(school: World) -> None:
    """Kept and dropped names are those of the record that went out; the commitment opens with its salt."""
    school.send(
        DELTA, event(kind="PROGRESS", body=usage(progress=Progress(status="STARTED"), progress_note="Emma huilt"))
    )
    leaf = json.loads(school.leaves()[0])
    delivered = school.delivered(PORTAL)[0]
    x = leaf["x"]
    assert (x["decision"], x["receiver"], x["school"], x["process"]) == ("delivered", PORTAL, "99PA", "Gebruik")
    assert not set(x["kept"]) & set(x["dropped"])
    assert "eckId" in x["kept"]
    headers = dict(delivered.record.headers)
    assert x["seq"] == int(headers[FLOW_SEQ])
    assert canonical(leaf) == school.leaves()[0]
    assert b"Emma" not in school.leaves()[0]
    assert EMMA.encode() not in school.leaves()[0]
    assert x["value"] == commitment(headers[AUDIT_SALT], delivered.record.value or b"")


def test_tokens_of_one_pupil_differ_between_events(school: World) -> None:
    """Without the subject key two leaves can not be linked."""
    school.send(DELTA, event(), event())
    tokens = [json.loads(leaf)["ldv"]["attributes"]["dpl.core.data_subject_id"] for leaf in school.leaves()]
    assert len(set(tokens)) == len(tokens)
    assert Commitments(b"k" * 32, Ids(b"t" * 16, b"s" * 8)).token() not in tokens


def test_record_keys_are_equal_for_one_pupil_at_one_receiver_and_unlinkable_between_receivers(school: World) -> None:
    """Order per pupil holds at a receiver; two receivers can not compare notes by key."""
    school.send(DELTA, event(), event(subject=Subject("PUPIL", None, (("LAS_KEY", "L0001"),))))
    keys = {r: {d.record.key for d in school.delivered(r)} for r in (PORTAL, SIS, SHOP)}
    assert all(len(found) == 1 for found in keys.values())
    assert len(set.union(*keys.values())) == 3


def test_sequence_numbers_of_a_flow_have_no_gap(school: World) -> None:
    """A receiver sees a loss at once."""
    school.send(DELTA, *[event() for _ in range(3)])
    school.send(DELTA, *[event() for _ in range(2)])
    seqs = [int(dict(d.record.headers)[FLOW_SEQ]) for d in school.delivered(PORTAL)]
    assert seqs == [1, 2, 3, 4, 5]


def test_an_event_sent_again_is_a_duplicate_for_who_got_it(school: World) -> None:
    """Same event id, same receiver: nothing is delivered a second time, across batches too."""
    sent = event()
    school.send(DELTA, sent, sent)
    decisions = school.send(DELTA, sent)
    assert {d.code for d in decisions} == {"event.duplicate"}
    assert len(school.delivered(PORTAL)) == 1


def test_what_was_refused_may_be_sent_again(school: World) -> None:
    """A refusal does not burn the event id."""
    sent = event(subject=Subject("PUPIL", "https://ketenid.nl/pilot/" + "c3" * 64))
    assert school.send(DELTA, sent)[0].code == "subject.unknown"
    school.send(SIS, enrolment("https://ketenid.nl/pilot/" + "c3" * 64, "L0003"))
    assert {d.outcome for d in school.send(DELTA, sent)} == {Outcome.DELIVERED}


def test_a_withdrawn_connection_stops_the_next_event(school: World) -> None:
    """Gate 3 is asked anew on each registry: nothing remembered from the old one is used."""
    school.send(DELTA, event())
    records = {k: v for k, v in school.records.items() if not k.startswith("connection/")}
    school.registry = Registry.from_records(records)
    decisions = school.send(DELTA, event())
    assert PORTAL not in {d.receiver for d in decisions if d.outcome is Outcome.DELIVERED}


def test_a_party_outside_the_covenant_gets_a_pseudonym_of_its_own(school: World) -> None:
    """The ECK iD goes only to parties in the covenant with a dated attestation (R29)."""
    records = school.records
    party = json.loads(records[f"party/{PORTAL}"])
    party["eck_id_attested_on"] = None
    school.registry = Registry.from_records(records | {f"party/{PORTAL}": canonical(party)})
    school.send(DELTA, event(), event(subject=Subject("PUPIL", NOAH)), event())
    first, other, again = (d.subject for d in school.delivered(PORTAL))
    assert first["eck_id"] is None
    assert first["user_ids"][0]["type"] == "RECEIVER_PSEUDONYM"
    assert first == again
    assert first != other


def test_a_pupil_of_another_school_is_unknown(school: World) -> None:
    """Promise P8: Emma is at 99PA; at 99VA she does not exist."""
    decisions = school.send(DELTA, event(school="99VA", sector="VO"))
    assert {d.code for d in decisions} == {"subject.unknown"}


def test_a_pupil_who_left_gets_no_more_events_after_that_day(school: World) -> None:
    """LEAVE ends the flow after the last day, whenever the sender says that it made the event (R19)."""
    school.send(SIS, replace(enrolment(), kind="LEAVE", body=Identity(left_on=NOW.date())))
    assert {d.outcome for d in school.send(DELTA, event())} == {Outcome.DELIVERED}
    school.send(SIS, replace(enrolment(), kind="LEAVE", body=Identity(left_on=date(2026, 11, 20))))
    for made in (NOW, NOW.replace(day=19)):
        assert {d.code for d in school.send(DELTA, event(created=made))} == {"subject.left"}

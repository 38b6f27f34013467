"""The table of bad input: each has its own outcome code, is audited, is told to the sender, and the next record goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.client import Event, Identity, Producer, Profile, Progress, Subject
from broker.crypto import DataKeyMaker
from broker.errors import ContractError
from broker.exchange import InputRecord, Outcome, meaning
from broker.exchange.model import AUDIT_CONTROL
from broker.keys import MemoryKeys
from broker.limits import DEFAULT
from broker.schemas import catalogue, frame, unframe
from broker.wire import DATA_KEY, decode_envelope, encode_event
from tests.exchange.world import _NO_CONNECTION, BOOK, DELTA, EMMA, SIS, World, enrolment, event, make_world, usage

BSN = "182071649"  # published test number
ONDERWIJSNUMMER = "100310303"  # published test number
HPGN = "9735dfd2235eaeb5f0300886bcc99c82ffc1d6420c4e0bde8de7218def2135fa"  # published test vector

Make = Callable[[World], InputRecord]


def sealed(**changes: object) -> Make:
    """A usage event with something changed."""
    return lambda world: world.record(DELTA, event(**changes))


def body(**changes: object) -> Make:
    """A usage event whose body has something changed."""
    return sealed(body=usage(**changes))


def note(text: str) -> Make:
    """A PROGRESS event with this note."""
    return sealed(kind="PROGRESS", body=usage(progress=Progress(status="STARTED"), progress_note=text))


def bent(change: Callable[[InputRecord], InputRecord]) -> Make:
    """A good record, changed after it was sealed."""
    return lambda world: change(world.record(DELTA, event()))


def flip(position: int) -> Callable[[InputRecord], InputRecord]:
    """Change one byte of the value."""

    def change(record: InputRecord) -> InputRecord:
        value = bytearray(record.value or b"")
        value[position] ^= 1
        return replace(record, value=bytes(value))

    return change


def swapped_parts(world: World) -> InputRecord:
    """Subject and body exchanged, their lengths right."""
    record = world.record(DELTA, event())
    schema = catalogue()["envelope.v1"]
    datum = schema.decode(unframe(record.value)[1])
    datum["subject"], datum["body"] = datum["body"], datum["subject"]
    return replace(record, value=frame(schema.fingerprint, schema.encode(datum)))


def part_of_another(world: World) -> InputRecord:
    """The subject of another event of the same sender, under the same data key."""
    schema = catalogue()["envelope.v1"]
    other = schema.decode(unframe(world.record(DELTA, event()).value)[1])
    record = world.record(DELTA, event())
    datum = schema.decode(unframe(record.value)[1])
    return replace(record, value=frame(schema.fingerprint, schema.encode({**datum, "subject": other["subject"]})))


def changed_envelope(**changes: object) -> Make:
    """An envelope field changed after sealing."""

    def make(world: World) -> InputRecord:
        record = world.record(DELTA, event())
        schema = catalogue()["envelope.v1"]
        datum = schema.decode(unframe(record.value)[1])
        return replace(record, value=frame(schema.fingerprint, schema.encode({**datum, **changes})))

    return make


def for_a_stranger(world: World) -> InputRecord:
    """Sealed for a key that the broker does not have."""
    stranger = MemoryKeys().create("somebody")
    key, value, headers = _producer(world).seal(event(), DataKeyMaker(stranger.jwk, stranger.kid))
    return world.raw(DELTA, key=key, value=value, headers=tuple(headers))


def _producer(world: World) -> Producer:
    producer = Producer(Profile(DELTA, _NO_CONNECTION, world.party_keys[DELTA]))
    producer._secret = b"s" * 32
    return producer


def not_utf8(world: World) -> InputRecord:
    """An envelope whose school is not UTF-8."""
    record = world.record(DELTA, event(school="99PA"))
    return replace(record, value=(record.value or b"").replace(b"99PA", b"99\xff\xfe"))


def of_schema(fingerprint: bytes) -> Make:
    """A value that claims another schema."""
    return bent(lambda r: replace(r, value=frame(fingerprint, unframe(r.value)[1])))


TABLE: dict[str, tuple[Make, str]] = {
    "no value": (bent(lambda r: replace(r, value=None)), "frame.empty"),
    "an empty value": (bent(lambda r: replace(r, value=b"")), "frame.empty"),
    "JSON instead of Avro": (bent(lambda r: replace(r, value=b'{"bsn": "182071649"}')), "frame.marker"),
    "an unknown envelope schema": (of_schema(b"\x00" * 8), "schema.unknown"),
    "an unknown body schema": (changed_envelope(body_schema=b"\x07" * 8), "schema.unknown"),
    "truncated bytes": (bent(lambda r: replace(r, value=(r.value or b"")[:-5])), "schema.truncated"),
    "trailing bytes": (bent(lambda r: replace(r, value=(r.value or b"") + b"x")), "schema.trailing"),
    "invalid UTF-8": (not_utf8, "schema.utf8"),
    "a record that is too large": (bent(lambda r: replace(r, value=(r.value or b"") + b"x" * 1_000_001)), "record.too_large"),
    "headers that are too large": (bent(lambda r: replace(r, headers=(*r.headers, ("x", b"y" * 9000)))), "headers.too_large"),
    "a key that is not a hash": (bent(lambda r: replace(r, key=b"L0001")), "key.form"),
    "no key": (bent(lambda r: replace(r, key=None)), "key.form"),
    "no data key": (bent(lambda r: replace(r, headers=())), "seal.missing"),
    "a data key that is none": (bent(lambda r: replace(r, headers=((DATA_KEY, b"hello"),))), "seal.header"),
    "a damaged data key": (
        bent(lambda r: replace(r, headers=((DATA_KEY, r.headers[0][1][:-4] + b"AAAA"),))), "seal.header",
    ),
    "sealed for somebody else": (for_a_stranger, "seal.recipient"),
    "a changed body": (bent(flip(-1)), "seal.broken"),
    "swapped parts": (swapped_parts, "seal.broken"),
    "a part of another event": (part_of_another, "seal.broken"),
    "an envelope changed after sealing": (changed_envelope(kind="ACTIVATION"), "seal.broken"),
    "a forged sender": (changed_envelope(sender="portaal-plein"), "sender.forged"),
    "a BSN in a note": (note(f"bel {BSN} terug"), "pgn.bsn"),
    "a BSN in disguise": (note("bel 182.071.649 terug"), "pgn.bsn"),
    "a BSN in other digits": (note("١٨٢٠٧١٦٤٩"), "pgn.bsn"),
    "an onderwijsnummer as local id": (
        sealed(subject=Subject("PUPIL", None, (("LAS_KEY", ONDERWIJSNUMMER),))), "pgn.onderwijsnummer",
    ),
    "an hPGN in a note": (note(HPGN), "pgn.hpgn"),
    "a stampseudoniem as ECK iD": (
        sealed(subject=Subject("PUPIL", "https://ketenid.nl/sppilot/" + "ab" * 64)), "pgn.stampseudoniem",
    ),
    "a BSN in a header": (bent(lambda r: replace(r, headers=(*r.headers, ("x-pupil", BSN.encode())))), "pgn.bsn"),
    "a BSN in the key": (bent(lambda r: replace(r, key=BSN.encode())), "pgn.bsn"),
    "a BSN in a nested field": (
        sealed(kind="PROGRESS", body=usage(progress=Progress(status="STARTED", course_id=BSN))), "pgn.bsn",
    ),
    "a BSN in the agreement hint": (sealed(agreement=BSN), "pgn.bsn"),
    "a string of 1 MB": (note("x" * 900_000), "text.too_long"),
    "a NUL byte": (note("a\x00b"), "text.control_character"),
    "a NUL byte in an id": (sealed(subject=Subject("PUPIL", None, (("LAS_KEY", "L\x001"),))), "text.control_character"),
    "too many ids": (
        sealed(subject=Subject("PUPIL", None, tuple(("LAS_KEY", f"L{i}") for i in range(20)))), "list.too_long",
    ),
    "an event id that is none": (sealed(event_id="x" * 36), "envelope.form"),
    "a name in the agreement hint": (sealed(agreement="Emma de Vries"), "envelope.form"),
    "an envelope field too long": (sealed(agreement="x" * 200), "envelope.form"),
    "a school that nobody knows": (sealed(school="00XX"), "school.not_yours"),
    "a school that is no BRIN": (sealed(school="Emma de Vries"), "school.not_yours"),
    "a sector that the school has not": (sealed(sector="MBO"), "school.sector"),
    "a school year long ago": (sealed(school_year="2019-2020"), "school_year.form"),
    "an event of the future": (lambda w: w.record(DELTA, event(created=_shifted(days=2))), "created.out_of_range"),
    "a missing field": (body(usage_date=None), "field.missing"),
    "a product that is no number": (body(product_id="Rekenen-7"), "field.form"),
    "a product that is a title": (body(product_id="Rekenen 7"), "code.form"),
    "a licence that is no uuid": (body(entitlement_id="7"), "field.form"),
    "a product nobody agreed on": (body(product_id="9780306406157"), "product.unknown"),
    "an ECK iD of another form": (sealed(subject=Subject("PUPIL", "https://id.school/abc")), "identifier.form"),
    "a pupil without any id": (sealed(subject=Subject("PUPIL")), "subject.missing"),
    "an id of nobody": (sealed(subject=Subject("NONE", EMMA)), "subject.missing"),
    "a blank local id": (sealed(subject=Subject("PUPIL", None, (("LAS_KEY", " "),))), "identifier.form"),
    "an ECK iD of nobody here": (sealed(subject=Subject("PUPIL", "https://ketenid.nl/pilot/" + "0" * 128)), "subject.unknown"),
    "a receiver in a role without route": (sealed(receiver="uitgeverij-oost"), "gate.route"),
    "a receiver that is unknown": (sealed(receiver="niemand"), "gate.connection"),
}  # fmt: skip


def _shifted(days: int) -> object:
    from datetime import timedelta

    from tests.exchange.world import NOW

    return NOW + timedelta(days=days)


@pytest.mark.parametrize("name", TABLE)
def test_each_bad_input_has_its_own_code_is_audited_and_told_and_the_next_record_goes_on(
    school: World, name: str
) -> None:
    """One decision with the code, one leaf, one status, quarantine where due; nothing delivered; the next one is."""
    make, code = TABLE[name]
    step = school.run(DELTA, make(school), school.record(DELTA, event()))
    bad = step.decisions[0]
    assert (bad.code, bad.outcome) == (code, meaning(code).outcome)
    leaf = json.loads(school.leaves()[0])
    assert leaf["x"]["code"] == code
    told = school.statuses(DELTA)
    assert [r["code"] for r in told[0]["results"]] == [code]
    assert len(school.topic(f"quarantine.{DELTA}")) == (bad.outcome is Outcome.QUARANTINED)
    assert len(school.topic(AUDIT_CONTROL)) == meaning(code).incident
    assert {d.outcome for d in step.decisions[1:]} == {Outcome.DELIVERED}, "the next record goes on"
    assert all(d.envelope["kind"] == "USE" for d in school.delivered("portaal-plein"))
    assert len(school.delivered("portaal-plein")) == 1


def test_a_kind_that_the_family_does_not_have_is_refused(school: World) -> None:
    """The client refuses to make such an event; a foreign client may not, so it is sealed by hand here."""
    sent = event()
    object.__setattr__(sent, "kind", "FLY")
    with pytest.raises(ContractError, match="FLY"):
        school.record(DELTA, sent)
    broker = school.keys.recipient_keys("broker")[0]
    key = DataKeyMaker(broker.jwk, broker.kid).current()
    good = school.record(DELTA, event())
    envelope, _ = decode_envelope(good.value)
    del envelope["subject"], envelope["body"]
    subject = catalogue()["subject.v1"].encode(Subject("PUPIL", EMMA).datum())
    value = encode_event(
        {**envelope, "kind": "FLY"}, subject, catalogue().family("usage").schema.encode(usage().datum()), key
    )
    record = replace(good, value=value, headers=((DATA_KEY, key.header),))
    assert [d.code for d in school.run(DELTA, record).decisions] == ["kind.unknown"]


def test_the_same_incident_is_recorded_once_a_day(school: World) -> None:
    """Each record is quarantined, the incident is noted once per field and day."""
    make, _ = TABLE["a BSN in a note"]
    school.run(DELTA, make(school), make(school))
    school.run(DELTA, make(school))
    assert len(school.topic(f"quarantine.{DELTA}")) == 3
    assert len(school.topic(AUDIT_CONTROL)) == 1


SCHOOLS = {"99PA": "PO", "99VA": "VO", "99MA": "MBO"}


def noted(at: str) -> Event:
    """A PROGRESS event at a school, with a BSN in its note."""
    body = usage(progress=Progress(status="STARTED"), progress_note="bel 182071649 terug")
    return event(kind="PROGRESS", school=at, sector=SCHOOLS[at], body=body)


def test_each_school_has_incidents_of_its_own(school: World) -> None:
    """A board's clock starts when it knows (R23): the leaf names its school, whoever was hit before it."""
    for at in ("99PA", "99VA", "99PA"):
        school.run(DELTA, school.record(DELTA, noted(at)))
    assert [leaf["control"]["school"] for leaf in school.controls()] == ["99PA", "99VA"]


def test_a_lane_remembers_a_bounded_number_of_incidents_and_none_of_another_day() -> None:
    """What is more is one per code and field; a new day begins anew."""
    world = make_world(replace(DEFAULT, incidents_per_day=1))
    for at in ("99PA", "99VA", "99MA", "99PA"):
        world.run(DELTA, world.record(DELTA, noted(at)))
    first, more = (leaf["control"] for leaf in world.controls())
    assert (first["school"], more.get("school"), more["more"]) == ("99PA", None, True)
    world.now_ms += 24 * 3600 * 1000
    world.run(DELTA, world.record(DELTA, noted("99PA")))
    assert [leaf["control"].get("school") for leaf in world.controls()] == ["99PA", None, "99PA"]
    assert len(world.state(DELTA).incidents) == 1


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    value=st.one_of(st.none(), st.binary(max_size=300)),
    key=st.one_of(st.none(), st.binary(max_size=40)),
    headers=st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=60)), max_size=4),
)
def test_random_bytes_get_exactly_one_decision_each(
    shared: World, value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    """No exception, one decision, one leaf, one status."""
    shared.outgoing.clear()
    step = shared.run(DELTA, shared.raw(DELTA, value=value, key=key, headers=tuple(headers)))
    assert len(step.decisions) == len(shared.leaves()) == len(shared.statuses(DELTA)) == 1
    assert step.decisions[0].outcome is Outcome.QUARANTINED


TEXT = st.text(max_size=60)
EVENTS = st.builds(
    Event,
    kind=st.sampled_from(["ACTIVATION", "USE", "PROGRESS", "RETRACT"]),
    school=st.one_of(st.sampled_from(["99PA", "99VA", "99ZZ"]), TEXT),
    sector=st.sampled_from(["PO", "VO", "MBO"]),
    school_year=st.one_of(st.sampled_from(["2026-2027", "2025-2026"]), TEXT),
    receiver=st.one_of(st.none(), st.sampled_from(["portaal-plein", "sis-noord", "winkel-boekhuis"]), TEXT),
    agreement=st.one_of(st.none(), TEXT),
    created=st.just(event().created),
    subject=st.builds(
        Subject,
        st.sampled_from(["NONE", "PUPIL", "EMPLOYEE"]),
        st.one_of(st.none(), st.just(EMMA), TEXT),
        st.lists(st.tuples(st.sampled_from(["LAS_KEY", "LEERLINGNUMMER"]), st.one_of(st.just("L0001"), TEXT)), max_size=3).map(tuple),
    ),
    body=st.builds(
        usage,
        product_id=st.one_of(st.just(BOOK), TEXT),
        frequency=st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        progress_note=st.one_of(st.none(), TEXT),
        progress=st.one_of(st.none(), st.builds(Progress, status=st.just("STARTED"), course_id=st.one_of(st.none(), TEXT))),
        usage_date=st.one_of(st.none(), st.dates()),
    ),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(sent=EVENTS)
def test_random_events_get_at_least_one_decision_and_one_per_receiver(shared: World, sent: Event) -> None:
    """No exception; receivers are distinct; a delivery has exactly one output record and one leaf."""
    shared.outgoing.clear()
    try:
        record = shared.record(DELTA, sent)
    except ContractError:  # the client refused it: nothing was sent
        return
    step = shared.run(DELTA, record)
    receivers = [d.receiver for d in step.decisions]
    assert receivers
    assert len(set(receivers)) == len(receivers)
    assert len(shared.leaves()) == len(step.decisions)
    delivered = [d for d in step.decisions if d.outcome is Outcome.DELIVERED]
    outputs = [o for o in shared.outgoing if o.topic.startswith("out.")]
    assert len(outputs) == len(delivered)
    assert len(shared.statuses(DELTA)) == 1


@pytest.fixture(scope="module")
def shared() -> World:
    """One world for all examples of a property."""
    world = make_world()
    world.send(SIS, enrolment())
    return world


def test_an_identity_body_in_a_usage_event_is_an_unknown_schema(school: World) -> None:
    """The family in the envelope and the body's schema must agree."""
    record = school.record(DELTA, event(body=Identity(), kind="ENROL"))
    schema = catalogue()["envelope.v1"]
    datum = schema.decode(unframe(record.value)[1])
    bad = replace(record, value=frame(schema.fingerprint, schema.encode({**datum, "family": "usage"})))
    assert school.run(DELTA, bad).decisions[0].code == "schema.unknown"

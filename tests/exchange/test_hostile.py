"""A sender with the right keys and bad intentions: what no client of ours would send, sealed as it should be."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from broker.client import Subject, Usage
from broker.crypto import DataKeyOpener, jwe_kid, open_secret, part_key
from broker.errors import ContractError
from broker.exchange import CODES, InputRecord, Outcome
from broker.exchange.model import AUDIT_CONTROL
from broker.exchange.state import unpack_record
from broker.keys import MemoryKeys
from broker.schemas import catalogue, unframe
from broker.schemas.framing import varint
from broker.wire import DATA_KEY, TRACEPARENT
from tests.exchange.world import DELTA, EMMA, NOAH, PORTAL, SIS, World, enrolment, event, make_world, usage

BSN = "182071649"  # published test number
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MAX_MESSAGE_BYTES = 1_048_588  # of all topics (`topics/*.yaml`)


def subject_bytes(subject: Subject | None = None) -> bytes:
    """A subject, encoded."""
    return catalogue()["subject.v1"].encode((subject or Subject("PUPIL", EMMA)).datum())


def body_bytes(**changes: object) -> bytes:
    """A usage body, encoded."""
    return catalogue().family("usage").schema.encode({**usage().datum(), **changes})


# ---- what is in clear: envelope and headers


@pytest.mark.parametrize("name", ["receiver", "agreement", "school", "school_year", "kind", "family"])
def test_a_pgn_in_clear_in_the_envelope_is_an_incident(school: World, name: str) -> None:
    """Every field that is text, not only the hint; and the number stands nowhere afterwards (promise P5)."""
    record = school.sealed(DELTA, event(), subject_bytes(), body_bytes(), **{name: BSN})
    assert [d.code for d in school.run(DELTA, record).decisions] == ["pgn.bsn"]
    assert len(school.topic(AUDIT_CONTROL)) == 1
    assert BSN.encode() not in b"".join((o.key or b"") + (o.value or b"") for o in school.outgoing)


def headers(*extra: tuple[str, bytes]) -> Callable[[InputRecord], InputRecord]:
    """Headers before those of the client."""
    return lambda record: replace(record, headers=(*extra, *record.headers))


HEADERS = {
    "a BSN under the name of the data key": (headers((DATA_KEY, BSN.encode())), "pgn.bsn"),
    "a BSN under the name of the trace": (headers((TRACEPARENT, BSN.encode())), "pgn.bsn"),
    "a BSN as the name of a header": (headers((BSN, b"")), "pgn.bsn"),
    "a BSN in a header of a record that does not open": (
        lambda r: replace(headers(("x", BSN.encode()))(r), value=b"{}"), "pgn.bsn",
    ),
    "a BSN in the key of a record that does not open": (lambda r: replace(r, key=BSN.encode(), value=None), "pgn.bsn"),
    "two data keys": (lambda r: replace(r, headers=r.headers * 2), "headers.repeated"),
    "two traces": (headers((TRACEPARENT, TRACE), (TRACEPARENT, TRACE)), "headers.repeated"),
    "a name of half a character": (headers(("\ud800", b"x")), "ok"),
    "another header twice": (headers(("x", b"1"), ("x", b"2")), "ok"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_looked_at_before_they_are_believed(school: World, name: str) -> None:
    """What is used is what was screened: no second header of the same name, no form that was not checked."""
    change, code = HEADERS[name]
    step = school.run(DELTA, change(school.record(DELTA, event(receiver=PORTAL))))
    assert [d.code for d in step.decisions] == [code]
    assert len(school.topic(AUDIT_CONTROL)) == code.startswith("pgn.")


def test_the_headers_of_an_output_are_the_brokers_own(school: World) -> None:
    """An allow-list: of what came in, only the trace goes on, with a span of ours."""
    extra = headers(("x-naam", b"Emma"), ("kid", b"x"), (TRACEPARENT, TRACE))
    school.run(DELTA, extra(school.record(DELTA, event(receiver=PORTAL))))
    sent = dict(school.delivered(PORTAL)[0].record.headers)
    assert sorted(sent) == sorted(["data-key", "key-id", "policy", "flow", "flow-seq", "audit-salt", "traceparent"])
    assert sent[TRACEPARENT].split(b"-")[1] == TRACE.split(b"-")[1]
    assert sent[TRACEPARENT].split(b"-")[2] != TRACE.split(b"-")[2]


# ---- what is sealed


def test_a_date_that_no_calendar_has_does_not_reach_a_receiver(school: World) -> None:
    """Day 2^31 - 1 is the year 5,881,580: a reader that makes a date of it would stop there for ever."""
    for name, value in (("usage_date", 2**31 - 1), ("first_used", -(2**31)), ("expiration_date", 2_932_897)):
        record = school.sealed(DELTA, event(), subject_bytes(), body_bytes(**{name: value}))
        assert [(d.code, d.field) for d in school.run(DELTA, record).decisions] == [("field.form", name)]
    progress = {"status": "STARTED", "assignable_unit_id": None, "course_id": None, "at": 2**62}
    record = school.sealed(DELTA, event(), subject_bytes(), body_bytes(progress=progress), kind="PROGRESS")
    assert [(d.code, d.field) for d in school.run(DELTA, record).decisions] == [("field.form", "progress")]
    for day in (date(1, 1, 1), date(9999, 12, 31)):
        assert {d.code for d in school.send(DELTA, event(body=usage(usage_date=day)))} == {"ok"}


def test_the_client_names_a_field_it_can_not_read_instead_of_overflowing() -> None:
    """Whoever wrote it: an error of ours, not one of the calendar."""
    with pytest.raises(ContractError):
        Usage.from_datum({**usage().datum(), "usage_date": 2**31 - 1})


def test_a_subject_of_half_a_million_ids_is_not_even_opened(school: World) -> None:
    """Two bytes an id: a megabyte would take a second and 150 MB."""
    count = 400_000
    bomb = b"\x02\x00" + varint(count) + b"\x00\x00" * count + b"\x00\x00"
    record = school.sealed(DELTA, event(), bomb, body_bytes())
    began = time.process_time()
    assert [d.code for d in school.run(DELTA, record).decisions] == ["record.too_large"]
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("size", [1_000_001, 1_048_300, 5_000_000])
def test_a_record_too_large_for_kafka_is_quarantined_in_part(school: World, size: int) -> None:
    """A well compressed input may be of any size; sealed, it does not compress. A record that can not be written
    would stop the lane for ever."""
    record = school.raw(DELTA, value=b"\xc3\x01" + b"x" * size, key=b"k" * 200_000, headers=(("x", b"y" * 300_000),))
    assert [d.code for d in school.run(DELTA, record).decisions] == ["record.too_large"]
    assert all(len(o.value or b"") + len(o.key or b"") < MAX_MESSAGE_BYTES - 1024 for o in school.outgoing)


def test_a_large_record_that_fits_is_quarantined_whole_and_opens_for_operator_and_sender(school: World) -> None:
    """What is set aside can be looked at, by these two and nobody else."""
    record = school.raw(DELTA, value=b"z" * 1_000_000, headers=(("x", b"y" * 8_000),))
    school.run(DELTA, record)
    out = school.topic(f"quarantine.{DELTA}")[0]
    assert len(out.value or b"") < MAX_MESSAGE_BYTES - 1024
    datum = catalogue()["quarantine.v1"].decode(unframe(out.value)[1])
    where = f"in.{DELTA}/{record.partition}/{record.offset}".encode()
    holders = (school.keys, school.party_keys[DELTA])
    for token, keys in zip(datum["recipients"], holders, strict=True):
        private = keys.private_key(jwe_kid(token.encode()))
        assert private is not None
        cipher = part_key(open_secret(token.encode(), ECKey.import_key(dict(private))), "quarantine")
        content = datum["content"]
        assert unpack_record(cipher.decrypt(content[:12], content[12:], where)).value == record.value


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_bytes_in_the_sealed_parts_get_a_decision(shared: World, data: st.DataObject) -> None:
    """Random bytes, and good bytes with some of them changed: no exception, one status, leaves as many as decisions."""
    good_subject, good_body = subject_bytes(Subject("PUPIL", EMMA, (("LAS_KEY", "L0001"),))), body_bytes(frequency=3)
    subject = data.draw(st.one_of(st.just(good_subject), st.binary(max_size=60), bent(good_subject)))
    body = data.draw(st.one_of(st.just(good_body), st.binary(max_size=60), bent(good_body)))
    kind = data.draw(st.sampled_from(["USE", "PROGRESS", "RETRACT", "FLY", ""]))
    shared.outgoing.clear()
    step = shared.run(DELTA, shared.sealed(DELTA, event(), subject, body, kind=kind))
    assert step.decisions
    assert len(step.decisions) == len(shared.leaves())
    assert [len(s["results"]) for s in shared.statuses(DELTA)] == [len(step.decisions)]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "event_id": st.text(max_size=40),
            "kind": st.text(max_size=40),
            "school": st.text(max_size=10),
            "school_year": st.text(max_size=10),
            "sender": st.text(max_size=40),
            "receiver": st.none() | st.text(max_size=40),
            "created": st.integers(-(2**63), 2**63 - 1),
            "correlation": st.none() | st.text(max_size=40),
            "agreement": st.none() | st.text(max_size=200),
            "sector": st.sampled_from(["PO", "VO", "MBO"]),
        },
    )
)
def test_any_envelope_gets_a_decision_and_none_of_its_text_is_repeated(
    shared: World, changes: dict[str, object]
) -> None:
    """Under the seal of the sender, so that nothing but the checks stands between it and the audit log."""
    shared.outgoing.clear()
    step = shared.run(DELTA, shared.sealed(DELTA, event(), subject_bytes(), body_bytes(), **changes))
    assert len(step.decisions) == len(shared.leaves())
    assert len(shared.statuses(DELTA)) == 1
    written = b"".join(shared.leaves()) + b"".join(o.value or b"" for o in shared.topic(f"status.{DELTA}"))
    for text in changes.values():
        # What hypothesis finds in our own sources, such as the name of a member, may stand there as ours.
        if isinstance(text, str) and len(text) > 8 and text not in ours():
            assert text.encode() not in written


@cache
def ours() -> str:
    """What stands in leaves and statuses whatever an event says: names, codes, sentences."""
    world = make_world()
    world.send(DELTA, event())
    told = b"".join(world.leaves()) + b"".join(o.value or b"" for o in world.topic(f"status.{DELTA}"))
    return repr(CODES) + told.decode(errors="replace")


def bent(data: bytes) -> st.SearchStrategy[bytes]:
    """The same with one piece replaced."""
    place = st.integers(0, len(data))
    return st.tuples(place, place, st.binary(max_size=11)).map(lambda t: data[: min(t[:2])] + t[2] + data[max(t[:2]) :])


@pytest.fixture(scope="module")
def shared() -> World:
    """One world for all examples of a property."""
    world = make_world()
    world.send(SIS, enrolment(), enrolment(NOAH, "L0002"))
    return world


# ---- keys that parties choose


def test_two_parties_with_one_key_id_each_get_what_is_sealed_for_them(school: World) -> None:
    """A kid is a party's own choice: sealing goes by the key, so nobody reads, or loses, what is another's."""
    stolen = MemoryKeys()
    kid = json.loads(school.records[f"party/{PORTAL}"])["keys"][0]["kid"]
    jwk = dict(stolen.create("anders").jwk)
    school.edit(f"party/{SIS}", keys=[{"kid": kid, "jwk": jwk}])
    school.send(DELTA, event())
    tokens = {r: dict(school.topic(f"out.{r}.usage")[0].headers)[DATA_KEY] for r in (PORTAL, SIS)}
    assert tokens[PORTAL] != tokens[SIS]
    assert DataKeyOpener(school.party_keys[PORTAL].private_key).open(tokens[PORTAL]).kid == kid


def test_a_key_replaced_under_its_old_id_is_used_at_once(school: World) -> None:
    """After a key was lost nothing more is sealed for it, whatever the new one is called."""
    party = json.loads(school.records[f"party/{PORTAL}"])
    school.send(DELTA, event(receiver=PORTAL))
    new = MemoryKeys().create("nieuw")
    school.edit(f"party/{PORTAL}", keys=[{"kid": party["keys"][0]["kid"], "jwk": dict(new.jwk)}])
    school.send(DELTA, event(receiver=PORTAL))
    first, second = (dict(o.headers)[DATA_KEY] for o in school.topic(f"out.{PORTAL}.usage"))
    assert first != second


def test_nothing_a_sender_writes_is_in_clear_in_what_comes_out(school: World) -> None:
    """Every text of subject and body is a marker; none is found in any record, key or header (promise P6)."""
    texts = {
        "activation_code": "MERK-code", "year_group": "MERK-jaar", "group_id": "MERK-groep",
        "progress_note": "MERK-notitie", "progress_url": "https://MERK.example/",
        "progress_duration": "MERK-duur",
    }  # fmt: skip
    known = Subject("PUPIL", EMMA, (("LAS_KEY", "L0001"), ("LEERLINGNUMMER", "MERK-nummer")))
    unknown = Subject("PUPIL", None, (("LAS_KEY", "MERK-onbekend"),))
    decisions = school.send(DELTA, *[event(subject=s, body=usage(**texts)) for s in (known, unknown)])
    assert {d.outcome for d in decisions} == {Outcome.DELIVERED, Outcome.PARKED}
    for out in school.outgoing:
        everything = [out.key or b"", out.value or b"", *(part for h in out.headers for part in (h[0].encode(), h[1]))]
        assert not any(marker in part for part in everything for marker in (b"MERK", b"L0001", EMMA.encode()))

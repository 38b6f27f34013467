"""What a person sees of an opened record: a pupil's data, but no number of the state, and nothing a terminal obeys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.client import Progress, Subject
from broker.errors import ContractError
from broker.exchange import InputRecord
from broker.quarantine.content import Line, lines, open_entry
from broker.quarantine.entries import Entry, Quarantine
from tests.exchange.test_bad_input import BSN, HPGN, ONDERWIJSNUMMER
from tests.exchange.world import DELTA, EMMA, NOAH, SIS, World, enrolment, event, make_world, usage

STAMP = "https://stampseudoniem.ketenid.nl/sp-v1/" + "0a1b2c3d" * 8


@pytest.fixture
def world() -> World:
    """Emma and Noah are enrolled."""
    world = make_world()
    world.send(SIS, enrolment(), enrolment(NOAH, "L0002"))
    world.outgoing.clear()
    return world


def newest(world: World, party: str = DELTA) -> Entry:
    """The entry that came last."""
    return Quarantine.read(out.value for out in world.topic(f"quarantine.{party}")).entries[-1]


def seen(world: World, entry: Entry) -> dict[str, Line]:
    """What the operator sees, by where it stands."""
    return {line.where: line for line in lines(open_entry(entry, world.keys.private_key), entry.field)}


def noted(world: World, note: str) -> dict[str, Line]:
    """What the operator sees of a progress report with this note."""
    body = usage(progress=Progress(status="STARTED"), progress_note=note)
    world.send(DELTA, event(kind="PROGRESS", body=body))
    return seen(world, newest(world))


def shown(found: dict[str, Line]) -> str:
    """All of it."""
    return "\n".join(f"{line.where} {line.text} {line.remark}" for line in found.values())


def sent(world: World, **changes: Any) -> dict[str, Line]:
    """What the operator sees of a use event with something of its record changed."""
    world.run(DELTA, replace(world.record(DELTA, event()), **changes))
    return seen(world, newest(world))


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (BSN, "bsn"), (ONDERWIJSNUMMER, "onderwijsnummer"), ("1820.71.649", "bsn"), ("182/071/649", "bsn"),
        ("１８２０７１６４９", "bsn"), ("%31%38%32%30%37%31%36%34%39", "bsn"), ("1\u200b82071649", "bsn"),
        (HPGN, "hpgn"), (STAMP, "stampseudoniem"),
    ],
)  # fmt: skip
def test_a_number_of_the_state_is_masked_where_it_stands(world: World, number: str, kind: str) -> None:
    """In whatever form the screen knows it; the words around a number stay, and where it stands is told."""
    found = noted(world, f"Emma ({number}) is al ver")
    line = found["body.progress_note"]
    assert kind in line.remark
    assert "#" in line.text
    for text in (number[:6], number[-6:], BSN[:5], HPGN[:8]):
        assert text not in line.text
    assert number not in shown(found)
    if kind == "bsn":
        assert line.text.startswith("Emma (")


def test_everything_else_is_shown_as_it_came(world: World) -> None:
    """Whom it is about, what it said, with days as people read them."""
    found = noted(world, f"bel {BSN} terug")
    assert found["subject.eck_id"].text == EMMA
    assert found["body.usage_date"].text == "2026-11-24"
    assert found["envelope.created"].text == "2026-11-24 09:00:00 UTC"
    assert found["envelope.school"].text == "99PA"
    assert [line.where for line in found.values() if line.remark] == ["body.progress_note"]


def test_a_number_among_the_ids_is_masked(world: World) -> None:
    """The most frequent mistake: a BSN as local id."""
    world.send(SIS, enrolment(NOAH, BSN))
    found = seen(world, newest(world, SIS))
    assert found["subject.user_ids.0.value"].text == "#########"
    assert BSN not in shown(found)


def test_a_number_in_key_or_headers_is_masked(world: World) -> None:
    """Of the key only the length is shown anyway."""
    found = sent(world, key=BSN.encode())
    assert "bsn" in found["key"].remark
    assert BSN not in shown(found)
    good = world.record(DELTA, event())
    found = sent(world, headers=(*good.headers, ("leerling", BSN.encode()), (BSN, b"x")))
    assert (found["headers.1.name"].text, found["headers.1.value"].text) == ("leerling", "#########")
    assert BSN not in shown(found)


def test_bytes_that_could_not_be_read_are_shown_masked_and_cut(world: World) -> None:
    """JSON instead of Avro, with a number before and behind the place where the cut comes."""
    value = f'{{"bsn": "{BSN}", "naam": "{"x" * 370}", "nog": "{BSN}"}}'.encode()
    found = sent(world, value=value)
    assert BSN[:4] not in shown(found)
    assert found["value"].text.startswith('{"bsn": "#########"')
    assert len(found["value"].text) < 450
    assert "number of the state" in found["value"].remark
    assert "Avro" in found["value"].remark


def test_what_a_terminal_would_obey_is_spelled_out(world: World) -> None:
    """Escape sequences, a bell, right-to-left marks: a sender must not write on the operator's screen."""
    found = noted(world, "rood \x1b[31m\x07 \x9b2J \u202etxet")
    line = found["body.progress_note"]
    assert line.text == "rood \\u001b[31m\\u0007 \\u009b2J \\u202etxet"
    assert "control characters" in line.remark
    raw = sent(world, value=b"\xc3\x01\x1b[2J")
    assert raw["value"].text.isprintable()


def test_the_field_at_fault_is_marked(world: World) -> None:
    """Also where the screen has nothing to say of it."""
    record = world.record(DELTA, event(correlation="no uuid"))
    world.run(DELTA, record)
    found = seen(world, newest(world))
    assert [line.where for line in found.values() if line.remark] == ["envelope.correlation"]
    too_long = noted(world, "x" * 5000)
    assert too_long["body.progress_note"].remark == "5000 characters"


def test_parts_that_are_still_sealed_say_so(world: World) -> None:
    """Where the broker could not open them, nobody can from here."""
    found = sent(world, headers=())
    assert "could not open" in found["subject"].text
    assert "could not open" in found["body"].text
    assert found["envelope.school"].text == "99PA"


def test_a_part_that_is_no_record_of_its_schema_is_shown_as_bytes(world: World) -> None:
    """Opened, but not what it should be."""
    record = world.sealed(DELTA, event(), b"\x00\x00", f"nummer {BSN}".encode())
    world.run(DELTA, record)
    found = seen(world, newest(world))
    assert found["body"].text == "nummer #########"
    assert "nl.eckbroker" in found["subject"].remark or "bytes" in found["subject"].remark


def test_an_entry_that_was_changed_does_not_open(world: World) -> None:
    """Nor one that was moved to another place."""
    noted(world, f"bel {BSN} terug")
    entry = newest(world)
    for bent in (
        replace(entry, content=entry.content[:-1] + bytes([entry.content[-1] ^ 1])),
        replace(entry, place=entry.place._replace(offset=99)),
        replace(entry, body=entry.subject),
    ):
        with pytest.raises(ContractError) as caught:
            open_entry(bent, world.keys.private_key)
        assert caught.value.code == "seal.broken"


def test_nothing_of_it_is_in_a_repr(world: World) -> None:
    """Not of the record, nor of the opened parts."""
    noted(world, f"bel {BSN} terug")
    opened = open_entry(newest(world), world.keys.private_key)
    assert isinstance(opened.record, InputRecord)
    assert BSN not in repr(opened)
    assert EMMA not in repr(opened)


def test_a_teacher_is_shown_as_well(world: World) -> None:
    """Ids of each type, each on a line of its own."""
    subject = Subject("EMPLOYEE", None, (("MEDEWERKERNUMMER", "E7"), ("LAS_KEY", BSN)))
    world.send(DELTA, event(subject=subject))
    found = seen(world, newest(world))
    assert found["subject.user_ids.0.value"].text == "E7"
    assert found["subject.user_ids.1.value"].text == "#########"

"""The typed records are those of the schemas, and survive JSON and Avro."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.client import Event, Identity, Progress, Subject, Usage, pupil, school_year_of
from broker.client.records import BODIES
from broker.errors import ContractError
from broker.schemas import catalogue


@pytest.mark.parametrize("family", BODIES)
def test_each_record_has_exactly_the_fields_of_its_schema(family: str) -> None:
    """A field added to a schema must be added to the client, and the other way round."""
    schema = catalogue().family(family).schema
    assert [f.name for f in fields(BODIES[family])] == [f.name for f in schema.fields]


def test_every_family_has_a_record() -> None:
    """A party can send and receive each family typed."""
    assert set(BODIES) == {name for name, _ in catalogue().families}


NO_CONTROL = st.characters(exclude_categories=["Cs"])
DAYS = st.one_of(st.none(), st.dates(date(1990, 1, 1), date(2100, 1, 1)))
USAGES = st.builds(
    Usage,
    entitlement_id=st.uuids().map(str),
    product_id=st.just("8717927130834"),
    usage_type=st.sampled_from(["INITIAL_ACTIVATION", "UNIQUE_USAGE"]),
    usage_date=DAYS,
    first_used=DAYS,
    frequency=st.one_of(st.none(), st.integers(0, 1000)),
    progress_note=st.one_of(st.none(), st.text(NO_CONTROL, max_size=20)),
    progress=st.one_of(
        st.none(),
        st.builds(
            Progress,
            status=st.sampled_from(["STARTED", "COMPLETED"]),
            at=st.one_of(st.none(), st.just(datetime(2026, 11, 24, 8, 30, 0, 123000, tzinfo=UTC))),
        ),
    ),
)
IDENTITIES = st.builds(
    Identity,
    enrolled_from=DAYS,
    left_on=DAYS,
    group_ids=st.one_of(st.none(), st.lists(st.text(NO_CONTROL, max_size=5), max_size=3).map(tuple)),
)


@given(st.one_of(USAGES, IDENTITIES))
def test_a_record_survives_avro(body: Usage | Identity) -> None:
    """To bytes and back is the same record."""
    schema = catalogue().family(body.FAMILY).schema
    assert type(body).from_datum(schema.decode(schema.encode(body.datum()))) == body


@given(st.one_of(USAGES, IDENTITIES))
def test_an_event_survives_json(body: Usage | Identity) -> None:
    """What `broker receive --json` prints, `broker send` reads."""
    event = Event(
        kind="USE",
        school="99PA",
        sector="PO",
        subject=Subject("PUPIL", None, (("LAS_KEY", "L0001"),)),
        body=body,
        created=datetime(2026, 11, 24, 8, 30, tzinfo=UTC),
    )
    assert Event.from_json(event.json(), body.FAMILY) == event


GOOD_BODY = {"entitlement_id": "a", "product_id": "b", "usage_type": "c"}


@pytest.mark.parametrize(
    ("document", "word"),
    [
        ({"kind": "USE", "school": "99PA", "sector": "PO", "body": {"colour": "red"}}, "colour"),
        ({"kind": "USE", "colour": "red"}, "colour"),
        ({"kind": "USE", "school": "99PA", "sector": "PO", "body": {}}, "entitlement_id"),
        ({"kind": "USE", "school": "99PA", "body": {"entitlement_id": "a"}}, "product_id"),
        ({"school": "99PA"}, "misses"),
        ({"kind": "USE", "body": GOOD_BODY, "subject": {"user_ids": [3]}}, "not an event"),
    ],
)
def test_a_wrong_line_is_refused_with_the_name_of_what_is_wrong(document: dict[str, object], word: str) -> None:
    """The message helps, and holds no value."""
    with pytest.raises(ContractError, match=word) as caught:
        Event.from_json(document, "usage")
    assert "red" not in str(caught.value)


def test_reprs_show_no_identifiers() -> None:
    """A logged event gives nobody away."""
    eck_id = "https://ketenid.nl/pilot/" + "ab" * 64
    event = Event(
        kind="USE",
        school="99PA",
        sector="PO",
        subject=pupil(eck_id=eck_id, las_key="L-SECRET"),
        body=Usage(
            entitlement_id="a", product_id="b", usage_type="c", progress_note="SECRET", activation_code="SECRET"
        ),
    )
    assert "ketenid" not in repr(event)
    assert "SECRET" not in repr(event)


def test_a_school_year_begins_on_the_first_of_august() -> None:
    """31 July is the old year, 1 August the new one (OSO)."""
    assert school_year_of(date(2026, 7, 31)) == "2025-2026"
    assert school_year_of(date(2026, 8, 1)) == "2026-2027"

"""The typed records are those of the schemas, and survive JSON and Avro."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker import client
from broker.client import Control, Event, HomeAddress, Identity, Order, Progress, Subject, Usage, pupil, school_year_of
from broker.client.records import BODIES, Body
from broker.errors import ContractError
from broker.schemas import catalogue

SHY = frozenset({"identifying", "pseudonym", "secret", "sensitive", "free-text"})


def document_of(family: str) -> dict[str, Any]:
    """A family's schema as written."""
    return catalogue().family(family).schema.document


def bare(node: Any) -> Any:
    """A type without null."""
    if not isinstance(node, list):
        return node
    (one,) = [branch for branch in node if branch != "null"]
    return one


def inside(hint: Any) -> tuple[Any, bool]:
    """What a type hint holds, and whether it is a tuple of it."""
    if get_origin(hint) in (types.UnionType,):
        (hint,) = [option for option in get_args(hint) if option is not type(None)]
    return (get_args(hint)[0], True) if get_origin(hint) is tuple else (hint, False)


def pairs(family: str) -> Iterator[tuple[type, dict[str, Any]]]:
    """Each record class of a family with its record in the schema, the nested ones too."""

    def walk(record: type, document: dict[str, Any]) -> Iterator[tuple[type, dict[str, Any]]]:
        yield record, document
        hints = get_type_hints(record)
        for declared in document["fields"]:
            node = bare(declared["type"])
            node = bare(node["items"]) if isinstance(node, dict) and node["type"] == "array" else node
            if isinstance(node, dict) and node["type"] == "record":
                yield from walk(inside(hints[declared["name"]])[0], node)

    yield from walk(BODIES[family], document_of(family))


PYTHON = {"string": str, "int": int, "long": int, "boolean": bool}


def hint_of(node: Any, named: dict[str, Any]) -> Any:
    """The Python type that a type of a schema has in a record; records are told apart by their names."""
    kind = bare(node)
    kind = named.get(kind, kind) if isinstance(kind, str) else kind
    if isinstance(kind, str):
        found: Any = PYTHON[kind]
    elif kind["type"] == "array":
        found = (hint_of(kind["items"], named), "list")
    elif kind["type"] == "enum":
        named[kind["name"]] = kind
        found = str
    elif kind["type"] == "record":
        found = "record"
    else:
        found = {"date": date, "timestamp-millis": datetime, "uuid": str}[kind["logicalType"]]
    return found


def test_every_family_has_a_record() -> None:
    """A party can send and receive each family typed, and imports all it needs from one place."""
    assert set(BODIES) == {name for name, _ in catalogue().families}
    for family in BODIES:
        for record, _ in pairs(family):
            assert getattr(client, record.__name__) is record


def test_what_a_user_imports_is_listed_in_order() -> None:
    """`__all__` of the client and of the records."""
    from broker.client import records

    for module in (client, records):
        assert all(hasattr(module, name) for name in module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)
        assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("family", BODIES)
def test_each_record_has_exactly_the_fields_of_its_schema(family: str) -> None:
    """A field added to a schema must be added to the client, and the other way round; at every depth."""
    for record, document in pairs(family):
        assert [f.name for f in fields(record)] == [f["name"] for f in document["fields"]], record.__name__


@pytest.mark.parametrize("family", BODIES)
def test_each_field_has_the_type_and_the_default_of_its_schema(family: str) -> None:
    """What may be null may be None and is so by default; dates are dates, lists tuples, enums and decimals texts."""
    named: dict[str, Any] = {}
    for record, document in pairs(family):
        hints = get_type_hints(record)
        by_name = {f.name: f for f in fields(record)}
        for declared in document["fields"]:
            name, where = declared["name"], f"{record.__name__}.{declared['name']}"
            nullable = isinstance(declared["type"], list)
            assert (type(None) in get_args(hints[name])) == nullable, where
            inner, is_list = inside(hints[name])
            expected = hint_of(declared["type"], named)
            assert is_list == isinstance(expected, tuple), where
            expected = expected[0] if isinstance(expected, tuple) else expected
            assert is_dataclass(inner) if expected == "record" else inner is expected, where
            if "default" in declared:
                assert by_name[name].default == declared["default"], where


@pytest.mark.parametrize("family", BODIES)
def test_reprs_show_no_field_that_says_who_gives_access_or_may_hold_anything(family: str) -> None:
    """A logged event gives nobody away: what the schema classes so is not in a repr, at any depth."""
    for record, document in pairs(family):
        shown = {f.name for f in fields(record) if f.repr}
        shy = {f["name"] for f in document["fields"] if f["class"] in SHY}
        assert not shown & shy, record.__name__


def test_a_record_within_a_shown_field_hides_its_own() -> None:
    """The repr of an address on its own shows nothing of it."""
    address = HomeAddress(street="Zwanenpad", house_number="1", postal_code="9999ZZ", city="Nergenshuizen")
    assert repr(address) == "HomeAddress()"


# ---- round trips, for all families

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DAYS = st.dates(date(1990, 1, 1), date(2100, 1, 1))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 - the zone is set after it
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
)
SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT, int: st.integers(-(2**31), 2**31 - 1), bool: st.booleans(), date: DAYS, datetime: MOMENTS,
}  # fmt: skip


def instances(record: type, document: dict[str, Any], named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Records of a class, valid for its schema."""
    hints = get_type_hints(record)
    made = {}
    for declared in document["fields"]:
        inner, is_list = inside(hints[declared["name"]])
        node = bare(declared["type"])
        node = bare(node["items"]) if is_list else node
        node = named.get(node, node) if isinstance(node, str) else node
        if isinstance(node, dict) and node["type"] == "enum":
            named[node["name"]] = node
            one: st.SearchStrategy[Any] = st.sampled_from(node["symbols"])
        else:
            one = instances(inner, node, named) if is_dataclass(inner) else SIMPLE[inner]
        one = st.lists(one, max_size=3).map(tuple) if is_list else one
        made[declared["name"]] = st.one_of(st.none(), one) if isinstance(declared["type"], list) else one
    return st.builds(record, **made)


ANY_BODY = st.sampled_from(sorted(BODIES)).flatmap(lambda name: instances(BODIES[name], document_of(name), {}))


@settings(max_examples=300, deadline=None)
@given(ANY_BODY)
def test_a_record_survives_avro(body: Body) -> None:
    """To bytes and back is the same record, records and lists of records in it too."""
    schema = catalogue().family(body.FAMILY).schema
    assert type(body).from_datum(schema.decode(schema.encode(body.datum()))) == body


@settings(max_examples=300, deadline=None)
@given(ANY_BODY)
def test_an_event_survives_json(body: Body) -> None:
    """What `broker receive --json` prints, `broker send` reads."""
    event = Event(
        kind="USE",
        school="99PA",
        sector="PO",
        subject=Subject("PUPIL", None, (("LAS_KEY", "L0001"),)),
        body=body,
        created=datetime(2026, 11, 24, 8, 30, tzinfo=UTC),
    )
    assert Event.from_json(json.loads(json.dumps(event.json())), body.FAMILY) == event


@settings(deadline=None)
@given(ANY_BODY, st.data())
def test_what_a_newer_broker_adds_is_left_out_at_any_depth(body: Body, data: st.DataObject) -> None:
    """A field that this client does not know yet stops nobody, in the record or in a record in it."""

    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: grown(inner) for name, inner in value.items()} | {"added_in_2031": 1}
        return [grown(item) for item in value] if isinstance(value, list) else value

    newer = grown(body.datum())
    assert type(body).received(newer) == body
    with pytest.raises(ContractError, match="added_in_2031"):
        type(body).from_datum(newer)


def test_an_output_without_dropped_fields_is_readable() -> None:
    """A receiver's schema lacks what its role never gets: those are None."""
    order = Order.received({"order_id": "a", "revision": 2, "material": "PAPER", "quantity": 1})
    assert (order.revision, order.home_address, order.given_name) == (2, None, None)


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
        ({"kind": "USE", "body": "red"}, "misses"),
        ({"kind": "USE", "body": {**GOOD_BODY, "progress": "red"}}, "wrong type"),
        ({"kind": "USE", "body": {**GOOD_BODY, "progress": {"status": "STARTED", "colour": "red"}}}, "colour"),
        ({"kind": "USE", "body": {**GOOD_BODY, "progress": {}}}, "wrong type"),
        ({"kind": "USE", "body": {**GOOD_BODY, "usage_date": "red"}}, "wrong type"),
        ({"kind": "USE", "body": {**GOOD_BODY, "progress": {"status": "STARTED", "at": {}}}}, "wrong type"),
    ],
)
def test_a_wrong_line_is_refused_with_the_name_of_what_is_wrong(document: dict[str, object], word: str) -> None:
    """The message helps, and holds no value."""
    with pytest.raises(ContractError, match=word) as caught:
        Event.from_json(document, "usage")
    assert "red" not in str(caught.value).replace("required", "")


def test_a_text_is_no_list() -> None:
    """Else `group_ids: "3a"` would be the groups 3 and a."""
    with pytest.raises(ContractError, match="wrong type"):
        Identity.from_datum({"group_ids": "3a"})


def test_an_unknown_family_is_no_event() -> None:
    """With the same sentence as other lines that are none."""
    with pytest.raises(ContractError, match="not an event"):
        Event.from_json({"kind": "USE", "body": {}}, "weather")


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


def test_new_objects_get_ids_of_their_own_and_answers_must_name_theirs() -> None:
    """Usage and requests begin something; an order, a licence or a result may be answered, so its id is always said."""
    assert Control(count=1).control_id != Control(count=1).control_id
    for family in ("order", "licence", "result"):
        with pytest.raises(ContractError, match="_id"):
            BODIES[family].from_datum({})


def test_a_time_without_a_zone_is_taken_as_utc() -> None:
    """So that a party's clock setting changes nothing."""
    naive = Progress(status="STARTED", at=datetime(2026, 11, 24, 8, 30))  # noqa: DTZ001 - the point of the test
    body = Usage(entitlement_id="a", product_id="b", usage_type="c", progress=naive)
    assert Usage.from_datum(body.datum()).progress == Progress(
        status="STARTED", at=datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
    )


def test_a_school_year_begins_on_the_first_of_august() -> None:
    """31 July is the old year, 1 August the new one (OSO)."""
    assert school_year_of(date(2026, 7, 31)) == "2025-2026"
    assert school_year_of(date(2026, 8, 1)) == "2026-2027"

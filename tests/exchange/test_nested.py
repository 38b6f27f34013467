"""What lies inside a field passes or is dropped with it: no attribute may hide inside another's."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from broker.errors import ConfigError
from broker.schemas.model import parse
from tests.exchange.bodies import families

Path = tuple[str, ...]


def inner_fields(node: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """All fields of records inside a type, with their names from the outside in."""
    if isinstance(node, list):
        for branch in node:
            yield from inner_fields(branch, path)
    elif isinstance(node, dict):
        for inner in ("items", "values"):
            yield from inner_fields(node.get(inner), path)
        if isinstance(node.get("type"), dict | list):
            yield from inner_fields(node["type"], path)
        for field in node.get("fields", ()):
            yield (*path, field["name"]), field
            yield from inner_fields(field["type"], (*path, field["name"]))


def nested() -> list[tuple[str, Path]]:
    """All of them, in all families."""
    return [
        (family.name, path)
        for family in families()
        for field in family.schema.document["fields"]
        for path, _ in inner_fields(field["type"], (field["name"],))
    ]


NESTED = nested()


def with_attribute(family: str, path: Path, attribute: str | None) -> dict[str, Any]:
    """The family's schema, an inner field under this attribute."""
    document = copy.deepcopy(next(f for f in families() if f.name == family).schema.document)
    outer = next(field for field in document["fields"] if field["name"] == path[0])
    inner = next(field for found, field in inner_fields(outer["type"], path[:1]) if found == path)
    inner["attribute"] = outer["attribute"] if attribute is None else attribute
    return document


def refusal(document: dict[str, Any]) -> tuple[str, str]:
    """Why a schema does not load, as code and words; two empty ones if it does."""
    try:
        parse(document)
    except ConfigError as error:
        return error.code, str(error)
    return "", ""


def test_a_field_inside_another_can_not_name_an_attribute_of_its_own() -> None:
    """Every inner field of every family: refused at load, by its name. The outer one's own name is no harm."""
    for family, path in NESTED:
        code, words = refusal(with_attribute(family, path, "eckId"))
        assert code == "schema.unclassified", (family, path)
        assert path[-1] in words
        parse(with_attribute(family, path, None))


def test_there_are_inner_fields_of_every_shape() -> None:
    """In records, in lists of records, and below a type that is named again."""
    assert {"home_address", "progress", "parts", "reference_levels", "contact_flags", "consents"} <= {
        p[0] for _, p in NESTED
    }


def record(*fields: dict[str, Any], name: str = "Inner") -> dict[str, Any]:
    """A record type."""
    return {"type": "record", "name": name, "fields": list(fields)}


def field(name: str, of: Any, **more: Any) -> dict[str, Any]:
    """A field that is about a person."""
    return {"name": name, "type": of, "class": "linked"} | more


HIDDEN = field("hidden", "string", attribute="score")
SHAPES: dict[str, Any] = {
    "a record": record(HIDDEN),
    "a record or nothing": ["null", record(HIDDEN)],
    "a list": {"type": "array", "items": record(HIDDEN)},
    "a map": {"type": "map", "values": record(HIDDEN)},
    "a list of lists": {"type": "array", "items": {"type": "array", "items": record(HIDDEN)}},
    "a record in a record": record(field("between", record(HIDDEN, name="Deep"))),
    "a list in a record": record(field("between", {"type": "array", "items": record(HIDDEN, name="Deep")})),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_the_shape_around_it(shape: str) -> None:
    """At any depth, also where the outer field is a business field, which always passes."""
    for outer in ({"class": "linked", "attribute": "givenName"}, {"class": "linked", "attribute": "score"}):
        document = record({"name": "outer", "type": SHAPES[shape], **outer}, name="Outer")
        code, words = refusal(document)
        assert code == ("" if outer["attribute"] == "score" else "schema.unclassified")
        assert ("hidden" in words) == bool(code)


def test_a_type_that_is_named_again_is_held_against_where_it_stands_then() -> None:
    """Defined under one attribute, used again under another: what it names inside is wrong there."""
    first = field("first", record(HIDDEN), attribute="score")
    parse(record(first, field("again", "Inner", attribute="score"), name="Outer"))
    code, words = refusal(record(first, field("again", "Inner", attribute="givenName"), name="Outer"))
    assert code == "schema.unclassified"
    assert "again" in words


def test_a_business_field_holds_nothing_of_a_person() -> None:
    """It always passes, whatever attribute is named inside it."""
    for shape in (*SHAPES.values(), record(field("hidden", "string"))):
        document = record({"name": "outer", "type": shape, "class": "business"}, name="Outer")
        assert refusal(document)[0] == "schema.unclassified"

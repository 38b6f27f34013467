"""Where texts stand in a type of any shape, and which of them are codes."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import ContractError
from broker.schemas.texts import Texts, texts_of

UNIT = {"type": "record", "name": "a.b.Unit", "fields": [
    {"name": "code", "type": ["null", "string"], "class": "business"},
    {"name": "note", "type": "string", "class": "free-text"},
    {"name": "count", "type": "int", "class": "business"},
]}  # fmt: skip
UNIT_VALUE = {"code": "c", "note": "n", "count": 1}
BOTH = [("c", True), ("n", False)]
ENUM = {"type": "enum", "name": "Level", "symbols": ["A", "B"]}
# A type -> a value of it, and the texts there are if the field around it is a business field.
SHAPES: dict[str, tuple[Any, Any, list[tuple[str, bool]]]] = {
    "a string": ("string", "x", [("x", True)]),
    "a string with a meaning": ({"type": "string", "logicalType": "uuid"}, "x", [("x", True)]),
    "a string or nothing": (["null", "string"], "x", [("x", True)]),
    "nothing": (["null", "string"], None, []),
    "a list of strings": ({"type": "array", "items": "string"}, ["x", "y"], [("x", True), ("y", True)]),
    "a list of lists": ({"type": "array", "items": {"type": "array", "items": "string"}}, [["x"], []], [("x", True)]),
    "a list or a string": ([{"type": "array", "items": "string"}, "string"], ["x"], [("x", True)]),
    "a string or a list": ([{"type": "array", "items": "string"}, "string"], "x", [("x", True)]),
    "a record": (UNIT, UNIT_VALUE, BOTH),
    "a record or nothing": (["null", UNIT], UNIT_VALUE, BOTH),
    "a list of records": (["null", {"type": "array", "items": UNIT}], [UNIT_VALUE], BOTH),
    "a record in a record": (
        {"type": "record", "name": "Deep", "fields": [{"name": "unit", "type": ["null", UNIT], "class": "linked"}]},
        {"unit": UNIT_VALUE}, BOTH,
    ),
    "a map": ({"type": "map", "values": "string"}, {"k": "v"}, [("k", True), ("v", True)]),
    "a map of numbers": ({"type": "map", "values": "int"}, {"k": 1}, [("k", True)]),
    "a list of enums": ({"type": "array", "items": ENUM}, ["A"], []),
}  # fmt: skip


def texts(declared: Any, cls: str = "business", known: dict[str, Texts | None] | None = None) -> Texts | None:
    """The texts of a field of this type."""
    return texts_of({"name": "field", "type": declared, "class": cls}, "field", {} if known is None else known)


@pytest.mark.parametrize("name", SHAPES)
def test_texts_are_found_in_every_shape_by_the_class_of_what_holds_them(name: str) -> None:
    """A text is a code if the innermost field around it is a business field, whatever surrounds that."""
    declared, value, expected = SHAPES[name]
    linked = expected if expected == BOTH else [(text, False) for text, _ in expected]
    for cls, wanted in (("business", expected), ("linked", linked)):
        found = texts(declared, cls)
        assert found is not None
        assert list(found(value, 10)) == wanted


def test_in_a_map_of_records_keys_go_by_the_map_and_values_by_their_own_fields() -> None:
    """The key is the sender's text like any other."""
    found = texts({"type": "map", "values": UNIT}, "linked")
    assert found is not None
    assert list(found({"k": UNIT_VALUE}, 10)) == [("k", False), *BOTH]


@pytest.mark.parametrize("declared", ["int", "boolean", ENUM, ["null", "long"], {"type": "int", "logicalType": "date"}])
def test_numbers_and_words_of_the_schemas_own_are_no_texts(declared: Any) -> None:
    """They are not looked at again in every event."""
    assert texts(declared) is None


def test_a_type_that_is_named_again_is_found_again() -> None:
    """By its full name or by the short one, and with its inner fields' own classes."""
    known: dict[str, Texts | None] = {}
    texts(UNIT, known=known)
    for name in ("Unit", "a.b.Unit"):
        found = texts({"type": "array", "items": name}, "linked", known)
        assert found is not None
        assert list(found([UNIT_VALUE], 10)) == BOTH


@pytest.mark.parametrize(("declared", "value"), [
    ({"type": "array", "items": "string"}, ["x"] * 3),
    ({"type": "array", "items": ENUM}, ["A"] * 3),
    ({"type": "array", "items": "int"}, [1] * 3),
    ({"type": "map", "values": "string"}, {"x": "", "y": "", "z": ""}),
    ({"type": "array", "items": {"type": "array", "items": "int"}}, [[1, 2, 3]]),
])  # fmt: skip
def test_a_list_has_a_bound_whatever_is_in_it(declared: Any, value: Any) -> None:
    """With the outermost field's name; as many as are allowed pass."""
    found = texts(declared)
    assert found is not None
    list(found(value, 3))
    with pytest.raises(ContractError) as caught:
        list(found(value, 2))
    assert (caught.value.code, caught.value.field) == ("list.too_long", "field")

"""Tests of `broker.schemas.compatibility`: Avro's rules against what fastavro really reads, and our own."""

from __future__ import annotations

import copy
import io
from typing import Any

import fastavro
import pytest
from fastavro.repository.base import SchemaRepositoryError
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from broker.errors import ConfigError
from broker.schemas.catalogue import Catalogue
from broker.schemas.compatibility import Incompatibility, Mode, check, compatible
from tests.schemas.avro import Json, array, changed, data, enum, field, fixed, numbered, of_map, record, records


def one(kind: Any) -> Json:
    """A record with one field `a`."""
    return record(field("a", kind))


def fastavro_reads(reader: Json, writer: Json, datum: Any) -> bool:
    """Whether fastavro, asked to resolve, reads what was written."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(copy.deepcopy(writer)), datum)
    try:
        fastavro.schemaless_reader(
            io.BytesIO(out.getvalue()),
            fastavro.parse_schema(copy.deepcopy(writer)),
            fastavro.parse_schema(copy.deepcopy(reader)),
        )
    except (fastavro.read.SchemaResolutionError, SchemaRepositoryError, EOFError, KeyError, TypeError, ValueError):
        return False
    return True


AB, ABC = enum("A", "B"), enum("A", "B", "C")
INNER = record(field("x", "int"), name="Inner")
WIDER = record(field("x", "int"), field("y", "int"), name="Inner")
WIDER_DEFAULT = record(field("x", "int"), field("y", "int", 0), name="Inner")

# name: (reader, writer, data, whether it can be read). Avro specification 1.12, "Schema Resolution", line by line.
TABLE: dict[str, tuple[Json, Json, list[Any], bool]] = {
    "the same": (one("int"), one("int"), [{"a": 1}], True),
    **{
        f"{writer} to {reader}": (one(reader), one(writer), [{"a": value}], readable)
        for writer, value, readers in (
            ("int", 1, {"long", "float", "double"}),
            ("long", 1, {"float", "double"}),
            ("float", 1.0, {"double"}),
            ("double", 1.0, set()),
            ("string", "x", {"bytes"}),
            ("bytes", b"x", {"string"}),
            ("boolean", True, set()),
            ("null", None, set()),
        )
        for reader in ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
        if reader != writer
        for readable in (reader in readers,)
    },
    "added field without default": (record(field("a", "int"), field("b", "int")), one("int"), [{"a": 1}], False),
    "added field with default": (record(field("a", "int"), field("b", "int", 7)), one("int"), [{"a": 1}], True),
    "added nullable field without default": (
        record(field("a", "int"), field("b", ["null", "int"])), one("int"), [{"a": 1}], False,
    ),
    "removed field": (one("int"), record(field("a", "int"), field("b", "int")), [{"a": 1, "b": 2}], True),
    "other order": (
        record(field("b", "int"), field("a", "int")), record(field("a", "int"), field("b", "int")),
        [{"a": 1, "b": 2}], True,
    ),
    "renamed field": (record(field("b", "int")), one("int"), [{"a": 1}], False),
    "renamed field with alias": (record(field("b", "int", aliases=["a"])), one("int"), [{"a": 1}], True),
    "alias of another type": (record(field("b", "boolean", aliases=["a"])), one("int"), [{"a": 1}], False),
    "renamed record": (record(name="S"), record(name="R"), [{}], False),
    "renamed record with alias": (record(field("a", "int"), name="S", aliases=["R"]), one("int"), [{"a": 1}], True),
    "record of another namespace": (
        record(field("a", "int"), namespace="n.v2"), record(field("a", "int"), namespace="n.v1"), [{"a": 1}], True,
    ),
    "alias with namespace": (
        record(field("a", "int"), name="S", namespace="n", aliases=["n.R"]), record(field("a", "int"), namespace="n"),
        [{"a": 1}], True,
    ),
    "enum with more symbols at the reader": (one(ABC), one(AB), [{"a": "A"}, {"a": "B"}], True),
    "enum with fewer symbols at the reader": (one(AB), one(ABC), [{"a": "A"}, {"a": "C"}], False),
    "enum with fewer symbols and a default": (one(enum("A", "B", default="A")), one(ABC), [{"a": "C"}], True),
    "enum in other order": (one(enum("B", "A")), one(AB), [{"a": "A"}, {"a": "B"}], True),
    "renamed enum": (one(enum("A", "B", name="G")), one(AB), [{"a": "A"}], False),
    "renamed enum with alias": (one(enum("A", "B", name="G", aliases=["E"])), one(AB), [{"a": "A"}], True),
    "enum to string": (one("string"), one(AB), [{"a": "A"}], False),
    "string to enum": (one(AB), one("string"), [{"a": "A"}], False),
    "fixed of another size": (one(fixed(3)), one(fixed(2)), [{"a": b"xx"}], False),
    "fixed of another name": (one(fixed(2, name="G")), one(fixed(2)), [{"a": b"xx"}], False),
    "fixed of another name with alias": (one(fixed(2, name="G", aliases=["F"])), one(fixed(2)), [{"a": b"xx"}], True),
    "fixed to bytes": (one("bytes"), one(fixed(2)), [{"a": b"xx"}], False),
    "array of promoted items": (one(array("long")), one(array("int")), [{"a": [1]}], True),
    "array of other items": (one(array("string")), one(array("int")), [{"a": [1]}], False),
    "array to map": (one(of_map("int")), one(array("int")), [{"a": [1]}], False),
    "map of promoted values": (one(of_map("double")), one(of_map("int")), [{"a": {"k": 1}}], True),
    "map of other values": (one(of_map("boolean")), one(of_map("int")), [{"a": {"k": 1}}], False),
    "made nullable": (one(["null", "int"]), one("int"), [{"a": 1}], True),
    "made nullable and promoted": (one(["null", "long"]), one("int"), [{"a": 1}], True),
    "no longer nullable": (one("int"), one(["null", "int"]), [{"a": 1}, {"a": None}], False),
    "union of one": (one("int"), one(["int"]), [{"a": 1}], True),
    "branch added at the reader": (one(["null", "int", "string"]), one(["null", "int"]), [{"a": 1}, {"a": None}], True),
    "branch removed at the reader": (one(["null", "int"]), one(["null", "int", "string"]), [{"a": "x"}], False),
    "branches in other order": (one(["int", "null"]), one(["null", "int"]), [{"a": 1}, {"a": None}], True),
    "branch promoted": (one(["null", "double"]), one(["null", "int"]), [{"a": 1}], True),
    "union to a type that takes all": (one("double"), one(["int", "float"]), [{"a": 1}, {"a": 1.5}], True),
    "record in a union gets a field": (one(["null", WIDER]), one(["null", INNER]), [{"a": {"x": 1}}], False),
    "record in a union gets a default": (one(["null", WIDER_DEFAULT]), one(["null", INNER]), [{"a": {"x": 1}}], True),
    "first branch that matches counts": (one(["null", WIDER, of_map("int")]), one(INNER), [{"a": {"x": 1}}], False),
    "nested record loses a field": (one(INNER), one(WIDER), [{"a": {"x": 1, "y": 2}}], True),
    "nested record gets a field": (one(WIDER), one(INNER), [{"a": {"x": 1}}], False),
    "array of records that get a field": (one(array(WIDER)), one(array(INNER)), [{"a": [{"x": 1}]}], False),
    "record to map": (one(of_map("int")), one(INNER), [{"a": {"x": 1}}], False),
    "a type that is named again": (
        record(field("a", ABC), field("b", "E")), record(field("a", AB), field("b", "E")), [{"a": "A", "b": "B"}], True,
    ),
    "a type that is named again, with fewer symbols": (
        record(field("a", AB), field("b", "E")), record(field("a", ABC), field("b", "E")),
        [{"a": "A", "b": "C"}], False,
    ),
    "removed field of a type that is named again": (
        record(field("b", AB)), record(field("a", AB), field("b", "E")), [{"a": "A", "b": "B"}], True,
    ),
    "a logical type is the type below it": (
        one("int"), one({"type": "int", "logicalType": "time-millis"}), [{"a": 5}], True,
    ),
    "a primitive written as an object": (one({"type": "long"}), one({"type": "int"}), [{"a": 5}], True),
}  # fmt: skip

# Where fastavro 1.13.1 does not do what the specification says. (reader, writer, datum, our verdict, why)
DEVIATIONS: dict[str, tuple[Json, Json, Any, bool, str]] = {
    "bytes that are no text": (
        one("string"), one("bytes"), {"a": b"\xff"}, True,
        "bytes are promotable to string; fastavro then insists on UTF-8, Java does not",
    ),
    "name and alias both written": (
        record(field("b", "int", aliases=["a"])), record(field("b", "int"), field("a", "int")), {"a": 1, "b": 2}, True,
        "fastavro takes both for the same field and fails on the second; we take the one of that name",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_the_verdict_is_the_specifications_and_fastavro_agrees(case: str) -> None:
    """Each rule of schema resolution: our verdict, and whether fastavro reads all sample data, are the same."""
    reader, writer, data, readable = TABLE[case]
    problems = check(reader, writer)
    assert (problems == []) is readable, problems
    assert all(fastavro_reads(reader, writer, datum) for datum in data) is readable


@pytest.mark.parametrize("case", DEVIATIONS)
def test_known_deviations_of_fastavro_still_exist(case: str) -> None:
    """When fastavro is corrected this test fails, and the deviation can go from the list."""
    reader, writer, datum, readable, _why = DEVIATIONS[case]
    assert (check(reader, writer) == []) is readable
    assert fastavro_reads(reader, writer, datum) is not readable


def test_a_type_within_itself_is_compared_once() -> None:
    """A recursive type ends, and a difference inside it is found."""

    def tree(kind: str) -> Json:
        return record(field("value", kind), field("next", ["null", "R"], None))

    assert check(tree("long"), tree("int")) == []
    assert [p.path for p in check(tree("int"), tree("long"))] == ["R.value"]


def test_a_problem_names_the_path_to_the_field() -> None:
    """A nested field is found by its path; the sentence says what is written and what is expected."""
    reader = one(array(record(field("x", "string"), name="Inner")))
    assert check(reader, one(array(INNER))) == [Incompatibility("R.a[].x", "int is written, string is expected")]


@pytest.mark.parametrize(
    ("mode", "readable"), [(Mode.BACKWARD, True), (Mode.FORWARD, False), (Mode.FULL, False)]
)  # fmt: skip
def test_the_mode_says_who_must_read_whom(mode: Mode, readable: bool) -> None:
    """A promotion is readable in one direction only."""
    assert (compatible(one("long"), one("int"), mode) == []) is readable


def test_a_schema_that_is_not_avro_is_a_config_error() -> None:
    """What can not be parsed is the operator's to correct."""
    with pytest.raises(ConfigError) as caught:
        check(one("no-such-type"), one("int"))
    assert caught.value.code == "schema.invalid"


def classified(cls: str, attribute: str | None, kind: Any = "string") -> Json:
    """A record with one classified field."""
    more = {} if attribute is None else {"attribute": attribute}
    return record(field("a", kind, **{"class": cls}, **more))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (("quasi", "groupId"), ("quasi", "groupId"), 0),
        (("business", None), ("quasi", "groupId"), 0),
        (("quasi", "groupId"), ("business", None), 2),
        (("quasi", "groupId"), ("quasi", None), 1),
        (("quasi", "groupId"), ("quasi", "yearGroup"), 1),
        (("sensitive", "x"), ("sealed", "x"), 1),
        (("sealed", None), ("business", None), 1),
        (("quasi", "x"), ("sensitive", "x"), 0),
    ],
)
def test_a_classification_can_not_be_loosened_silently(
    old: tuple[str, str | None], new: tuple[str, str | None], found: int
) -> None:
    """An attribute that is lost or changed, or a class that no longer is about a person, is reported as such."""
    problems = compatible(classified(*new), classified(*old))
    assert [p.kind for p in problems] == ["classification"] * found


def test_a_loosened_field_is_found_at_any_depth_and_under_its_new_name() -> None:
    """In a record in an array in a union, and through an alias."""
    old = one(["null", array(record(field("x", "int", **{"class": "linked"}, attribute="y"), name="Inner"))])
    new = one(["null", array(record(field("z", "int", aliases=["x"], **{"class": "business"}), name="Inner"))])
    problems = compatible(new, old, Mode.BACKWARD)
    assert [(p.path, p.kind) for p in problems] == [("R.a[].z", "classification")] * 2


def test_a_logical_type_that_changes_is_a_change_of_meaning() -> None:
    """Millis that became micros read without an error, and wrongly."""
    old, new = ({"type": "long", "logicalType": f"timestamp-{unit}"} for unit in ("millis", "micros"))
    assert [p.kind for p in compatible(one(new), one(old))] == ["meaning"]


def test_every_committed_version_is_compatible_with_the_one_before_it() -> None:
    """The families in `schemas/avro` keep to FULL compatibility from version to version."""
    families = Catalogue().families
    for (name, version), family in families.items():
        before = families.get((name, version - 1))
        assert version == 1 or before is not None, f"{name}.v{version} has no version before it"
        if before is not None:
            assert compatible(family.schema.document, before.schema.document, Mode.FULL) == []


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None)
@given(st.data())
def test_what_the_check_calls_readable_fastavro_reads(source: st.DataObject) -> None:
    """For random pairs of schemas and random data: no problem found means that every datum is read."""
    writer = numbered(source.draw(records(2)))
    near = source.draw(st.integers(0, 9)) > 0
    reader = changed(source.draw, writer) if near else numbered(source.draw(records(2)))
    if isinstance(reader, list):
        reader = reader[-1]
    problems = check(reader, writer)
    assume(problems == [])
    for _ in range(3):
        datum = source.draw(data(writer))
        assert fastavro_reads(reader, writer, datum)

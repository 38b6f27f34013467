"""Tests of `broker.schemas.model`, `shape` and `framing`: what loads, what encodes, what decodes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import traceback
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.errors import ConfigError, ContractError
from broker.schemas import CLASSES, PERSONAL, Schema, catalogue, frame, load, parse, unframe
from tests.vectors.make import crc64

CANARY = "Emma-Canarie-999999990"
BUSINESS = {"class": "business"}


def schema(*fields: dict[str, Any]) -> dict[str, Any]:
    """A record schema."""
    return {"type": "record", "name": "R", "namespace": "n", "fields": list(fields)}


def one(kind: Any, **more: Any) -> dict[str, Any]:
    """A record schema with one business field."""
    return schema({"name": "a", "type": kind, **BUSINESS, **more})


def everything_in(error: BaseException) -> str:
    """All text that a log or an error report could make of an exception and of what led to it."""
    seen, queue, texts = set(), [error], []
    while queue:
        found = queue.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        texts += [str(found), repr(found), repr(found.args), repr(vars(found))]
        texts += traceback.format_exception(found)
        queue += [e for e in (found.__cause__, found.__context__) if e is not None]
    return "\n".join(texts)


@pytest.mark.parametrize("cls", [None, "", "Business", "personal", 1, ["business"]])
def test_an_unclassified_field_does_not_load(cls: Any) -> None:
    """Promise P3: a field without one of the known classes keeps the whole schema out, and is named."""
    document = schema({"name": "a", "type": "string", **({} if cls is None else {"class": cls})})
    with pytest.raises(ConfigError, match=r"n\.R\.a") as caught:
        parse(document)
    assert caught.value.code == "schema.unclassified"


@pytest.mark.parametrize("cls", sorted(PERSONAL))
def test_a_personal_field_without_an_attribute_does_not_load(cls: str) -> None:
    """Promise P3: what is about a person is decided over by a policy, so it needs an attribute."""
    field = {"name": "a", "type": "string", "class": cls}
    with pytest.raises(ConfigError) as caught:
        parse(schema(field))
    assert caught.value.code == "schema.unclassified"
    assert parse(schema({**field, "attribute": "x"})).fields[0].attribute == "x"


@pytest.mark.parametrize("wrap", ["record", "union", "array", "map", "array of union"])
def test_an_unclassified_field_is_found_at_any_depth(wrap: str) -> None:
    """Promise P3: also in a record within a union, an array or a map."""
    inner: Any = {"type": "record", "name": "Inner", "fields": [{"name": "hidden", "type": "string"}]}
    kinds = {
        "record": inner,
        "union": ["null", inner],
        "array": {"type": "array", "items": inner},
        "map": {"type": "map", "values": inner},
        "array of union": {"type": "array", "items": ["null", inner]},
    }
    with pytest.raises(ConfigError, match="hidden"):
        parse(one(kinds[wrap]))


def test_fields_within_a_field_share_its_attribute() -> None:
    """A personal field of a nested record is decided over with the field that holds it."""
    inner = {"type": "record", "name": "I", "fields": [{"name": "x", "type": "string", "class": "linked"}]}
    assert parse(schema({"name": "a", "type": inner, "class": "linked", "attribute": "y"})).fields[0].attribute == "y"
    with pytest.raises(ConfigError):
        parse(schema({"name": "a", "type": inner, **BUSINESS}))


@pytest.mark.parametrize("named", ["I", "n.I", ["null", "I"], {"type": "array", "items": "I"}])
def test_a_record_that_is_named_again_is_checked_in_its_new_place(named: Any) -> None:
    """Promise P3: fields that lean on the attribute of the field that defined them pass nowhere else."""
    inner = {"type": "record", "name": "I", "fields": [{"name": "x", "type": "string", "class": "linked"}]}
    first = {"name": "a", "type": inner, "class": "linked", "attribute": "y"}
    with pytest.raises(ConfigError, match=r"n\.R\.b\.x") as caught:
        parse(schema(first, {"name": "b", "type": named, **BUSINESS}))
    assert caught.value.code == "schema.unclassified"
    assert parse(schema(first, {"name": "b", "type": named, "class": "linked", "attribute": "z"}))


ZERO = {"type": "fixed", "name": "Z", "size": 0}
HOLLOW = {"type": "record", "name": "H", "fields": [{"name": "x", "type": "null", **BUSINESS}]}


@pytest.mark.parametrize(
    "item", ["null", {"type": "null"}, ZERO, HOLLOW, {"type": "record", "name": "E", "fields": []}]
)
@pytest.mark.parametrize("kind", ["array", "map"])
def test_items_without_width_do_not_load(item: Any, kind: str) -> None:
    """A few bytes could claim 2^60 items of no width and keep a worker busy for ever."""
    with pytest.raises(ConfigError) as caught:
        parse(one({"type": kind, "items" if kind == "array" else "values": item}))
    assert caught.value.code == "schema.unsafe"


def test_items_without_width_are_found_through_a_name() -> None:
    """Also where the array names a type that was defined before it."""
    with pytest.raises(ConfigError) as caught:
        parse(schema({"name": "a", "type": HOLLOW, **BUSINESS},
                     {"name": "b", "type": {"type": "array", "items": "H"}, **BUSINESS}))  # fmt: skip
    assert caught.value.code == "schema.unsafe"


def test_items_of_a_union_take_a_byte_each() -> None:
    """A union's branch number is a byte, also for null; such an array loads."""
    assert parse(one({"type": "array", "items": ["null", "int"]}))


def test_a_type_within_itself_does_not_load() -> None:
    """fastavro's compiled reader has no bound on depth: 10,000 levels of a list end the process."""
    inner = {"type": "record", "name": "N", "fields": [{"name": "next", "type": ["null", "N"], **BUSINESS}]}
    with pytest.raises(ConfigError, match="holds itself") as caught:
        parse(one(inner))
    assert caught.value.code == "schema.unsafe"


def test_a_type_within_itself_would_end_the_process() -> None:
    """The reason for the rule above; when fastavro has a bound of its own, the rule may go."""
    code = (
        "import fastavro, io\n"
        "s = fastavro.parse_schema({'type':'record','name':'N','fields':[{'name':'n','type':['null','N']}]})\n"
        "try: fastavro.schemaless_reader(io.BytesIO(b'\\x02' * 1_000_000 + b'\\x00'), s, None)\n"
        "except RecursionError: pass\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode < 0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"string"', '{"type": "record"}', '{"type": "record", "name": "R"}',
     '{"type": "record", "name": "R", "fields": [{"class": "business"}]}',
     '{"type": "record", "name": "R", "fields": [{"name": "a", "class": "business", "type": "wat"}]}',
     '{"type": "record", "name": "R", "fields": 5}'],
)  # fmt: skip
def test_what_is_no_schema_is_a_config_error(text: str) -> None:
    """Whatever stands in a schema file or on the topic `schemas`: a ConfigError, nothing else."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.code == "schema.invalid"


MISFITS: dict[str, tuple[Any, Any]] = {
    "int": ("int", CANARY),
    "boolean for string": ("string", {CANARY: CANARY}),
    "enum": ({"type": "enum", "name": "E", "symbols": ["A"]}, CANARY),
    "union": (["null", "int"], CANARY),
    "array": ({"type": "array", "items": "int"}, [CANARY]),
    "map": ({"type": "map", "values": "int"}, {CANARY: CANARY}),
    "fixed": ({"type": "fixed", "name": "F", "size": 2}, CANARY.encode()),
    "bytes": ("bytes", CANARY),
    "wide int": ("int", 999999990_000),
    "lone surrogate": ("string", CANARY + "\ud800"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_an_encode_error_names_the_field_and_never_the_value(case: str) -> None:
    """Promise P6: the value is nowhere in the error, nor in the errors that led to it."""
    kind, value = MISFITS[case]
    made = parse(schema({"name": "fine", "type": "int", **BUSINESS}, {"name": "a", "type": kind, **BUSINESS}))
    with pytest.raises(ContractError) as caught:
        made.encode({"fine": 1, "a": value})
    assert (caught.value.code, caught.value.field) == ("schema.encode", "a")
    # The traceback shows lines of code, not values; this file's own lines are in it, so look without them.
    shown = everything_in(caught.value).replace("CANARY", "")
    assert CANARY not in shown
    assert "99999999" not in shown
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_name_that_the_schema_does_not_have_is_not_repeated() -> None:
    """A key of the datum may be a value too: only names of the schema get into an error."""
    with pytest.raises(ContractError) as caught:
        parse(one("int")).encode({"a": 1, CANARY: 2})
    assert caught.value.field is None
    assert CANARY not in everything_in(caught.value)


def test_a_missing_field_is_named() -> None:
    """A field without default that is not there."""
    with pytest.raises(ContractError) as caught:
        parse(one("int")).encode({})
    assert caught.value.field == "a"


def test_the_misfit_is_found_where_types_are_named_again() -> None:
    """A field whose type was defined by an earlier field is not blamed for a later one."""
    kind = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
    types = {"a": kind, "b": "E", "c": "n.E", "d": "int"}
    made = parse(schema(*({"name": name, "type": declared, **BUSINESS} for name, declared in types.items())))
    with pytest.raises(ContractError) as caught:
        made.encode({"a": "A", "b": "B", "c": "A", "d": CANARY})
    assert caught.value.field == "d"


NESTED = {"type": "record", "name": "I", "fields": [{"name": "x", "type": ["null", "int"], **BUSINESS}]}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 2**31), ("int", -(2**31) - 1), (["null", "int"], 2**40),
        ({"type": "array", "items": "int"}, [1, 2**40]),
        ({"type": "map", "values": "int"}, {"k": 2**40}), (NESTED, {"x": 2**40}), (["null", NESTED], {"x": 2**40}),
        ({"type": "array", "items": NESTED}, [{"x": 1}, {"x": 2**40}]), ({"type": "int", "logicalType": "date"}, 2**40),
    ],
)  # fmt: skip
def test_an_int_of_more_than_32_bits_is_refused_both_ways(kind: Any, value: Any) -> None:
    """fastavro writes and reads it without a word; a reader in Java breaks on it."""
    made = parse(one(kind))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, json.loads(json.dumps(one(kind)).replace('"int"', '"long"')), {"a": value})
    with pytest.raises(ContractError) as caught:
        made.decode(out.getvalue())
    assert (caught.value.code, caught.value.field) == ("field.form", "a")
    with pytest.raises(ContractError) as caught:
        made.encode({"a": value})
    assert (caught.value.code, caught.value.field) == ("schema.encode", "a")


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 0])
def test_ints_of_32_bits_and_longs_pass(value: int) -> None:
    """The bounds themselves are inside; a long has 64 bits, also in a union."""
    made = parse(one("int"))
    assert made.decode(made.encode({"a": value})) == {"a": value}
    for kind in ("long", ["null", "long"]):
        wide = parse(one(kind))
        assert wide.decode(wide.encode({"a": 2**40})) == {"a": 2**40}


def families() -> list[Schema]:
    """All schemas that read bytes from outside."""
    known = catalogue()
    return [*known.own.values(), *(f.schema for f in known.families.values())]


EXAMPLE = parse(schema(
    {"name": "s", "type": "string", **BUSINESS}, {"name": "b", "type": ["null", "bytes"], **BUSINESS},
    {"name": "l", "type": {"type": "array", "items": "string"}, **BUSINESS},
    {"name": "m", "type": {"type": "map", "values": ["null", "int"]}, **BUSINESS},
    {"name": "f", "type": "double", **BUSINESS},
))  # fmt: skip
DATUM = {"s": "tekst é", "b": b"\x00\xff", "l": ["x", "y"], "m": {"k": 1, "n": None}, "f": 1.5}


@pytest.mark.parametrize("made", families(), ids=lambda s: s.name)
@given(data=st.binary(max_size=300))
def test_hostile_bytes_give_a_contract_error_and_nothing_else(made: Schema, data: bytes) -> None:
    """Any bytes are read whole or refused with a code."""
    try:
        made.decode(data)
    except ContractError as error:
        assert error.code in {"schema.utf8", "schema.truncated", "schema.trailing", "field.form"}


def test_every_truncation_is_refused() -> None:
    """A record that ends early is not a record."""
    whole = EXAMPLE.encode(DATUM)
    for end in range(len(whole)):
        with pytest.raises(ContractError) as caught:
            EXAMPLE.decode(whole[:end])
        assert caught.value.code == "schema.truncated"


@given(st.binary(min_size=1, max_size=20))
def test_bytes_after_the_record_are_refused(more: bytes) -> None:
    """fastavro ignores them; a second record, or data smuggled past the policy, could stand there."""
    with pytest.raises(ContractError) as caught:
        EXAMPLE.decode(EXAMPLE.encode(DATUM) + more)
    assert caught.value.code == "schema.trailing"


def test_a_string_that_is_not_utf8_is_refused_without_its_bytes() -> None:
    """The error does not hold the bytes, as Python's own UnicodeDecodeError would."""
    secret = CANARY.encode()
    made = parse(one("string"))
    with pytest.raises(ContractError) as caught:
        made.decode(bytes([(len(secret) + 1) * 2]) + secret + b"\xff")
    assert caught.value.code == "schema.utf8"
    assert caught.value.__context__ is None
    assert CANARY not in everything_in(caught.value).replace("CANARY", "")


@pytest.mark.parametrize(
    "data", [b"\xff" * 9 + b"\x01", b"\xfe" * 9 + b"\x7f", b"\x01", b"\x80" * 5000],
    ids=["huge", "wrapped", "negative", "endless"],
)  # fmt: skip
@pytest.mark.parametrize(
    "kind", ["string", "bytes", {"type": "array", "items": "string"}, {"type": "map", "values": "int"}]
)
def test_a_claimed_length_costs_nothing(kind: Any, data: bytes) -> None:
    """A length or count of up to 2^63, below zero or without end is refused at once, without memory for it."""
    with pytest.raises(ContractError):
        parse(one(kind)).decode(data)


@given(st.dictionaries(st.sampled_from(["s", "b", "l", "m", "f"]), st.none() | st.integers() | st.text() | st.binary()))
def test_what_does_not_fit_is_a_contract_error_and_nothing_else(wrong: dict[str, Any]) -> None:
    """Whatever a caller hands over, encoding gives bytes or a ContractError."""
    try:
        EXAMPLE.decode(EXAMPLE.encode({**DATUM, **wrong}))
    except ContractError as error:
        assert error.code == "schema.encode"


def test_a_whole_record_comes_back_as_it_was() -> None:
    """Encoding and decoding are each other's inverse."""
    assert EXAMPLE.decode(EXAMPLE.encode(DATUM)) == DATUM


def test_framing_and_unframing_are_inverse() -> None:
    """`C3 01`, the fingerprint, the body."""
    value = frame(b"12345678", b"body")
    assert value == b"\xc3\x0112345678body"
    assert unframe(value) == (b"12345678", b"body")


@pytest.mark.parametrize(
    ("value", "code"),
    [(None, "frame.empty"), (b"", "frame.empty"), (b"\xc3\x01", "frame.marker"), (b"\xc3\x011234567", "frame.marker"),
     (b"\xc3\x0212345678x", "frame.marker"), (b"\x00\x00\x00\x00\x01abcdefgh", "frame.marker"),
     (b"{}" * 10, "frame.marker")],
)  # fmt: skip
def test_what_is_not_a_single_object_is_refused(value: bytes | None, code: str) -> None:
    """Confluent framing, JSON and short values included."""
    with pytest.raises(ContractError) as caught:
        unframe(value)
    assert caught.value.code == code


@given(st.binary(max_size=40))
def test_unframing_gives_parts_or_a_contract_error(value: bytes) -> None:
    """Any bytes."""
    try:
        assert len(unframe(value)[0]) == 8
    except ContractError:
        assert not value.startswith(b"\xc3\x01") or len(value) < 10


def test_the_fingerprint_is_crc_64_avro() -> None:
    """Golden values of the Avro specification ("null") and an implementation of our own from its pseudo code."""
    assert crc64(b'"null"').hex() == "8a8f25cce724dd63"
    for made in families():
        canonical = fastavro.schema.to_parsing_canonical_form(made.document)
        assert made.fingerprint == crc64(canonical.encode()), made.name


def test_documentation_and_classes_do_not_change_the_fingerprint() -> None:
    """Only what readers need: the parsing canonical form has names, types and order."""
    plain = parse(one("int"))
    assert parse(one("int", doc="something")).fingerprint == plain.fingerprint
    assert parse(one("long")).fingerprint != plain.fingerprint


def test_every_class_has_a_meaning() -> None:
    """The classes are documented where they are defined."""
    assert all(CLASSES.values())
    assert set(CLASSES) >= PERSONAL


def test_a_schema_file_is_utf8_json(tmp_path: os.PathLike[str]) -> None:
    """`load` and `parse` give the same schema."""
    assert load(json.dumps(one("int"))).fingerprint == parse(one("int")).fingerprint

"""The generated writers write what fastavro writes, or leave it to fastavro."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.errors import ContractError
from broker.schemas import catalogue
from broker.schemas.framing import varint, zigzag
from broker.schemas.model import Schema
from broker.schemas.outputs import output_schemas
from broker.schemas.writer import writer
from tests.exchange.world import make_world

_BOUNDS = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}


def _schemas() -> dict[bytes, tuple[str, Schema]]:
    registry = make_world().registry
    found = dict(catalogue().own)
    found |= {f"{f.name}.v{f.version}": f.schema for f in catalogue().families.values()}
    outputs = dict(output_schemas(catalogue(), registry.policy, registry.routes))
    # Many outputs are alike, such as those of a family without attributes: each shape once.
    return {schema.fingerprint: (name, schema) for name, schema in (outputs | found).items()}


SCHEMAS = dict(_schemas().values())


def _values(node: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    if isinstance(node, list):
        return st.one_of([_values(branch, named) for branch in node])
    if isinstance(node, str) and node in named:
        node = named[node]
    if isinstance(node, str):
        simple = {"null": st.none(), "string": st.text(), "bytes": st.binary(), "boolean": st.booleans()}
        return st.integers(*_BOUNDS[node]) if node in _BOUNDS else simple[node]
    if "name" in node:
        named[node["name"]] = node
    if node["type"] == "record":
        return st.fixed_dictionaries({f["name"]: _values(f["type"], named) for f in node["fields"]})
    if node["type"] == "enum":
        return st.sampled_from(node["symbols"])
    if node["type"] == "fixed":
        return st.binary(min_size=node["size"], max_size=node["size"])
    if node["type"] == "array":
        return st.lists(_values(node["items"], named), max_size=4)
    if node["type"] == "map":
        return st.dictionaries(st.text(), _values(node["values"], named), max_size=4)
    return _values(node["type"], named)


def _by_fastavro(schema: Schema, datum: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, datum, strict_allow_default=True)
    return out.getvalue()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_generated_writer_writes_what_fastavro_writes(name: str, data: st.DataObject) -> None:
    """Byte for byte, for every schema that the exchange writes with."""
    schema = SCHEMAS[name]
    datum = data.draw(_values(schema.parsed, {}))
    made = writer(schema.parsed)
    assert made is not None or name == "lane.v1", "only the lane's head, once per batch, has maps"
    if made is not None:
        written = made(datum)
        assert written is None or written == _by_fastavro(schema, datum)
        assert written is not None
    assert schema.encode(datum) == _by_fastavro(schema, datum)


RIGHT: dict[str, Any] = {"kind": "PUPIL", "eck_id": None, "user_ids": [], "previous_user_ids": []}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({"kind": "NOBODY"}, False),
        ({"kind": None}, False),
        ({"eck_id": 7}, False),
        ({"eck_id": "\ud800"}, False),
        ({"user_ids": None}, False),
        ({"user_ids": ({"type": "LAS_KEY", "value": "L1"},)}, True),
        ({"user_ids": [{"type": "LAS_KEY"}]}, False),
        ({"user_ids": [{"type": "LAS_KEY", "value": "L1", "other": 1}]}, False),
        ({"other": 1}, False),
    ],
)
def test_what_is_not_exactly_right_is_left_to_fastavro(change: dict[str, Any], fits: bool) -> None:
    """A generated writer gives up, and the schema answers as it always did."""
    schema, datum = catalogue()["subject.v1"], RIGHT | change
    made = writer(schema.parsed)
    assert made is not None
    assert made(datum) is None
    if fits:
        assert schema.encode(datum) == _by_fastavro(schema, datum)
    else:
        with pytest.raises(ContractError, match="does not fit"):
            schema.encode(datum)


@pytest.mark.parametrize(("field", "value"), [("partition", 2**31), ("partition", True), ("offset", 2**63)])
def test_a_number_that_does_not_fit_is_not_written_in_a_hurry(field: str, value: Any) -> None:
    """Bounds are those of the type, and a bool is no number."""
    made = writer(catalogue()["status.v1"].parsed)
    datum = {"event_id": "", "topic": "", "partition": 0, "offset": 0, "decided": 0, "results": []}
    assert made is not None
    assert made(datum) is not None
    assert made(datum | {field: value}) is None


@given(st.integers(-(2**63), 2**63 - 1))
def test_zigzag_is_avros_long(number: int) -> None:
    """And `varint` is the same for what is not negative."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema("long"), number)
    assert zigzag(number) == out.getvalue()
    assert number < 0 or varint(number) == zigzag(number)

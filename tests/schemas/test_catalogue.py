"""Tests of `broker.schemas.catalogue` and `outputs`: families, and what receivers get of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from broker.data import data_path
from broker.errors import ConfigError
from broker.policy import Policy, Routes
from broker.schemas import Catalogue, load
from broker.schemas.compatibility import Mode, check, compatible
from broker.schemas.outputs import output_schemas, render, write_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the schema files, to be changed."""
    made = tmp_path / "avro"
    made.mkdir()
    for path in (data_path("schemas") / "avro").glob("*.avsc"):
        shutil.copy(path, made)
    return made


def changed(folder: Path, name: str, target: str | None = None, **values: Any) -> None:
    """Write a schema file again with other properties."""
    document = json.loads((folder / f"{name}.avsc").read_text("utf-8"))
    document.update(values)
    (folder / f"{target or name}.avsc").write_text(json.dumps(document), "utf-8")


def refused(folder: Path) -> str:
    """What the catalogue says of a folder."""
    with pytest.raises(ConfigError) as caught:
        Catalogue(folder)
    return str(caught.value)


def test_families_are_found_by_name_version_and_fingerprint() -> None:
    """Without a version the newest; an unknown one names the known."""
    known = Catalogue()
    usage = known.family("usage")
    assert known.family("usage", usage.version) is usage
    assert known.family_of(usage.schema.fingerprint) is usage
    assert known.family_of(known["status.v1"].fingerprint) is None
    with pytest.raises(ConfigError, match="connection, control, identity, licence, order, result, roster, usage"):
        known.family("weather")
    with pytest.raises(ConfigError):
        known.family("usage", 99)


def test_a_missing_schema_is_told(folder: Path) -> None:
    """By name."""
    (folder / "status.v1.avsc").unlink()
    assert "status.v1" in refused(folder)


def test_two_files_with_one_fingerprint_do_not_load(folder: Path) -> None:
    """Classes and logical types are not in it: a v2 that differs in nothing else would be v1 on the wire."""
    changed(folder, "usage.v1", "usage.v2", doc="another")
    assert "same fingerprint" in refused(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kinds": {"X": {"requires": ["nothing"], "essential": []}}}, "nothing"),
        ({"kinds": {"X": {"requires": [], "essential": ["usage_date"]}}}, "usage_date"),
        ({"kinds": {"X": {}}}, "kinds"),
        ({"kinds": ["X"]}, "kinds"),
        ({"kinds": None}, "kinds"),
        ({"family": "order"}, "family"),
        ({"product": "no_such_field"}, "does not agree"),
        ({"object": "no_such_field"}, "does not agree"),
        ({"revision": "no_such_field"}, "does not agree"),
        ({"dated": "no_such_field"}, "does not agree"),
        ({"digital": "no_such_field"}, "does not agree"),
        ({"addressees": ["no_such_field"]}, "does not agree"),
        ({"subject": "perhaps"}, "subject"),
        ({"kinds": {"X": {"requires": [], "essential": [], "allows": ["nothing"]}}}, "nothing"),
        ({"kinds": {"X": {"requires": [], "essential": [], "after": ["Y"]}}}, "Y"),
        ({"kinds": {"X": {"requires": [], "essential": [], "product": "perhaps"}}}, "product"),
        ({"kinds": {"X": {"requires": [], "essential": [], "before": ["X"]}}}, "before"),
        ({"kinds": {"X": {"requires": [], "essential": [], "supersedes": ["Y"]}}}, "Y"),
        ({"kinds": {"X": {"requires": [], "essential": [], "object": ["nothing"]}}}, "nothing"),
        ({"remembers": "nothing"}, "'nothing' is none of"),
        ({"object": None, "kinds": {"X": {"requires": [], "essential": [], "supersedes": ["X"]}}}, "names no object"),
        ({"object": None, "kinds": {"X": {"requires": [], "essential": [], "ends": True}}}, "names no object"),
        ({"object": None, "kinds": {"X": {"requires": [], "essential": [], "first": True}}}, "no object"),
    ],
)
def test_a_family_that_contradicts_itself_does_not_load(folder: Path, values: dict[str, Any], said: str) -> None:
    """Kinds name fields and attributes that exist, the family is the file's."""
    changed(folder, "usage.v1", **values)
    assert said in refused(folder)


def test_an_attribute_that_can_not_be_left_out_does_not_load(folder: Path) -> None:
    """A dropped field is null at the receiver, so a field with an attribute is nullable."""
    document = json.loads((folder / "usage.v1.avsc").read_text("utf-8"))
    document["fields"].append({"name": "name", "type": "string", "class": "identifying", "attribute": "name"})
    changed(folder, "usage.v1", fields=document["fields"])
    assert "nullable" in refused(folder)


def test_an_output_schema_has_the_fields_of_its_attributes_and_the_business_fields() -> None:
    """Promise P4: nothing else; the record keeps its name."""
    usage = Catalogue().family("usage")
    made = usage.output_schema(["usageDates"])
    assert {f.attribute for f in made.fields} == {None, "usageDates"}
    assert {f.name for f in usage.schema.fields if f.attribute is None} < {f.name for f in made.fields}
    assert made.name == usage.schema.name
    assert usage.output_schema(["usageDates"]) is made


def test_every_output_is_readable_with_the_familys_own_schema() -> None:
    """A receiver may use either: the published output schema, or the whole family's with nulls."""
    known = Catalogue()
    for name, schema in output_schemas(known, Policy.load(), Routes.load()):
        family = known.family(name.partition(".")[0], int(name.split(".")[1][1:]))
        assert check(reader=family.schema.document, writer=schema.document) == [], name
        assert compatible(schema.document, family.schema.document, Mode.FULL) == [], name


def test_the_committed_output_schemas_are_the_generated_ones(tmp_path: Path) -> None:
    """`schemas/avro/outputs` follows from families, routes and policy; `make docs` writes it anew."""
    write_files(tmp_path, Catalogue(), Policy.load(), Routes.load())
    made = {path.name: path.read_text("utf-8") for path in tmp_path.iterdir()}
    committed = {p.name: p.read_text("utf-8") for p in (data_path("schemas") / "avro" / "outputs").iterdir()}
    assert sorted(committed) == sorted(made)
    assert committed == made


def test_writing_outputs_removes_what_is_no_longer_one(tmp_path: Path) -> None:
    """A route that is gone takes its schema with it."""
    (tmp_path / "order.v1.Gebruik.PO.SHOP.avsc").write_text("{}")
    write_files(tmp_path, Catalogue(), Policy.load(), Routes.load())
    assert not (tmp_path / "order.v1.Gebruik.PO.SHOP.avsc").exists()


def test_a_rendered_schema_loads_as_itself() -> None:
    """The file is a whole, classified schema."""
    usage = Catalogue().family("usage").schema
    assert load(render(usage)).fingerprint == usage.fingerprint

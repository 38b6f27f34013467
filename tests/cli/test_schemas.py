"""Tests of `broker schemas`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from broker.cli.schemas import app
from broker.data import data_path
from broker.errors import ConfigError
from broker.schemas import catalogue

USAGE = data_path("schemas") / "avro" / "usage.v1.avsc"


def run(*arguments: str) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, [*arguments])


@pytest.fixture
def loosened(tmp_path: Path) -> Path:
    """A next version of usage that has a new required field, and lets the group pass as business."""
    document = json.loads(USAGE.read_text("utf-8"))
    document["fields"].append({"name": "extra", "type": "string", "class": "business"})
    for field in document["fields"]:
        if field["name"] == "group_id":
            field["class"] = "business"
            del field["attribute"]
    path = tmp_path / "usage.v2.avsc"
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_list_names_all_schemas_with_their_fingerprints() -> None:
    """The broker's own and the families; with --outputs what each role gets."""
    rows = [json.loads(line) for line in run("list", "--json").stdout.splitlines()]
    assert {row["name"] for row in rows} == {*catalogue().own, *(f"{n}.v{v}" for n, v in catalogue().families)}
    assert all(len(row["fingerprint"]) == 16 for row in rows)
    assert "usage.v1.Gebruik.PO.SHOP" in run("list", "--outputs").stdout


def test_show_tells_class_and_attribute_of_each_field() -> None:
    """As lines, and the file itself as JSON."""
    lines = [line.split("\t") for line in run("show", "usage.v1").stdout.splitlines()[1:]]
    assert ["usage_date", "null or int date", "linked", "usageDates"] in lines
    assert json.loads(run("show", "usage.v1", "--json").stdout) == json.loads(USAGE.read_text("utf-8"))


def test_show_of_an_unknown_schema_says_where_to_look() -> None:
    """An operator's mistake."""
    assert isinstance(run("show", "order.v9").exception, ConfigError)


def test_check_of_a_schema_with_itself_is_compatible() -> None:
    """Exit 0, and nothing on stdout."""
    result = run("check", str(USAGE), str(USAGE))
    assert (result.exit_code, result.stdout) == (0, "")


def test_check_ends_with_1_and_lists_why(loosened: Path) -> None:
    """Avro's rules and our own, in one list."""
    result = run("check", str(USAGE), str(loosened), "--mode", "FULL", "--json")
    assert result.exit_code == 1
    problems = [json.loads(line) for line in result.stdout.splitlines()]
    assert {(p["path"], p["kind"]) for p in problems} == {
        ("Usage.extra", "reading"), ("Usage.group_id", "classification"),
    }  # fmt: skip
    assert "Usage.extra" in run("check", str(USAGE), str(loosened)).stdout


def test_the_mode_decides_which_direction_is_checked(loosened: Path) -> None:
    """FORWARD: the old version can read the new field's records, so only the loosened class is left."""
    result = run("check", str(USAGE), str(loosened), "--mode", "forward", "--json")
    assert {json.loads(line)["kind"] for line in result.stdout.splitlines()} == {"classification"}


def test_check_of_a_file_that_is_no_schema_names_it(tmp_path: Path) -> None:
    """JSON that is cut off, and bytes that are no text."""
    path = tmp_path / "x.avsc"
    for content in (b"{", b"\xff"):
        path.write_bytes(content)
        error = run("check", str(USAGE), str(path)).exception
        assert isinstance(error, ConfigError)
        assert "x.avsc" in str(error)

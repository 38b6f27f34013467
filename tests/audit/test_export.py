"""Tests of `broker.audit.export`: the same columns in three formats."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from broker.audit.coordinates import Coordinates
from broker.audit.export import COLUMNS, cells, write_csv, write_json, write_parquet
from broker.audit.query import Found
from broker.errors import ConfigError

WHOLE = Coordinates(
    time=1_795_510_800_007, sender="sis", decision="delivered", code="ok", event="e", span=bytes(7) + b"\x01",
    school="99PA", receiver='a "quoted", name', process="Gebruik", family="usage", kind="USE",
)  # fmt: skip
BARE = Coordinates(time=0, sender="007", decision="refused", code="no", event="f", span=bytes(8))
FOUND = [Found("log/p0/1", 7, WHOLE, b"entry", 9, None), Found("log/p0/1", 8, BARE, None, None, "a bundle is missing")]
ROWS = [
    {
        "time": "2026-11-24T09:00:00.007Z", "school": "99PA", "sender": "sis", "receiver": 'a "quoted", name',
        "process": "Gebruik", "family": "usage", "kind": "USE", "decision": "delivered", "code": "ok", "event": "e",
        "span": "0000000000000001", "log": "log/p0/1", "index": 7, "proof": "proven at size 9",
    },
    {
        "time": "1970-01-01T00:00:00.000Z", "sender": "007", "decision": "refused", "code": "no", "event": "f",
        "span": "0" * 16, "log": "log/p0/1", "index": 8, "proof": "signed, not proven: a bundle is missing",
    },
]  # fmt: skip


def test_json_has_what_a_leaf_says_and_nothing_else() -> None:
    """A line for each; what is not said is not there."""
    to = io.StringIO()
    write_json(FOUND, to)
    assert [json.loads(line) for line in to.getvalue().splitlines()] == ROWS


def test_csv_has_all_columns() -> None:
    """What is not said is empty; quotes and commas come back."""
    to = io.StringIO(newline="")
    write_csv(FOUND, to)
    expected = [{name: str(row.get(name, "")) for name in COLUMNS} for row in ROWS]
    assert list(csv.DictReader(io.StringIO(to.getvalue(), newline=""))) == expected


def test_parquet_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Text stays text, also where it looks like a number or a time; what is not said is NULL."""
    duckdb = pytest.importorskip("duckdb")
    file = tmp_path / "it's here.parquet"
    write_parquet(FOUND, file)
    with duckdb.connect() as connection:
        assert connection.read_parquet(str(file)).fetchall() == [cells(found) for found in FOUND]


def test_without_duckdb_parquet_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other formats need nothing."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError) as caught:
        write_parquet(FOUND, tmp_path / "file")
    assert caught.value.code == "audit.parquet"

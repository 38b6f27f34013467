"""What was found, as a file: CSV, JSON lines or Parquet, with the same columns. No person, no value."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from broker.audit.query import Found
from broker.errors import ConfigError

COLUMNS: Final = (
    "time", "school", "sender", "receiver", "process", "family", "kind", "decision", "code", "event", "span", "log",
    "index", "proof",
)  # fmt: skip

Cell = str | int | None


def cells(found: Found) -> tuple[Cell, ...]:
    """One leaf, in the order of `COLUMNS`; time in UTC as RFC 3339 has it, span in hex."""
    leaf = found.leaf
    time = datetime.fromtimestamp(leaf.time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return (
        time, leaf.school, leaf.sender, leaf.receiver, leaf.process, leaf.family, leaf.kind, leaf.decision, leaf.code,
        leaf.event, leaf.span.hex(), found.origin, found.index, found.status,
    )  # fmt: skip


def write_csv(rows: Iterable[Found], to: TextIO) -> None:
    """CSV with a header (RFC 4180); what a leaf does not say is empty."""
    writer = csv.writer(to)
    writer.writerow(COLUMNS)
    writer.writerows(map(cells, rows))


def json_objects(rows: Iterable[Found]) -> Iterator[dict[str, Cell]]:
    """An object for each leaf, without the members that it does not have."""
    for found in rows:
        yield {name: cell for name, cell in zip(COLUMNS, cells(found), strict=True) if cell is not None}


def write_json(rows: Iterable[Found], to: TextIO) -> None:
    """JSON lines."""
    to.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in json_objects(rows))


def write_parquet(rows: Iterable[Found], file: Path) -> None:
    """Parquet; all columns are text but `index`.

    Raises:
        ConfigError: `audit.parquet`, if duckdb is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise ConfigError(
            'Parquet needs duckdb: pip install "eck-broker[audit]". CSV and JSON need nothing.', code="audit.parquet"
        ) from None
    types = {name: "BIGINT" if name == "index" else "VARCHAR" for name in COLUMNS}
    with tempfile.TemporaryDirectory() as folder:
        between = Path(folder) / "rows.csv"
        with between.open("w", encoding="utf-8", newline="") as stream:
            write_csv(rows, stream)
        # A connection of its own, which may load nothing from elsewhere.
        with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
            connection.read_csv(str(between), header=True, dtype=types).write_parquet(str(file))

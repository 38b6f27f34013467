"""A history on disk: JSON lines, compressed; what was read once can be judged again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from chaos.history import (
    Decision,
    History,
    Input,
    Lane,
    OneOfEach,
    Output,
    Place,
    Quarantined,
    Seen,
    Status,
    Withdrawal,
)


def save(history: History, file: Path) -> None:
    """Write it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8", compresslevel=4) as out:

        def line(kind: str, row: object) -> None:
            out.write(json.dumps([kind, row], separators=(",", ":")) + "\n")

        for kind in ROWS:
            for row in getattr(history, kind):
                line(kind, row)
        for name, lane in history.lanes.items():
            line("lanes", [name, *lane])
        line("ends", history.ends)
        line("gaps", history.gaps)
        line("absent", sorted(history.absent))


def load(file: Path) -> History:
    """Read what `save` wrote."""
    history, rows = History(), _rows(OneOfEach())
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for text in lines:
            kind, row = json.loads(text)
            if kind in rows:
                getattr(history, kind).append(rows[kind](row))
            elif kind == "lanes":
                history.lanes[row[0]] = Lane(*row[1:])
            elif kind == "absent":
                history.absent = set(row)
            else:
                setattr(history, kind, row)
    return history


def _rows(one: OneOfEach) -> dict[str, Callable[[list[Any]], Any]]:
    def place(value: list[Any] | None) -> Place | None:
        return None if value is None else at(value)

    def at(value: list[Any]) -> Place:
        return one(Place(one(value[0]), *value[1:]))

    def status(row: list[Any]) -> Status:
        results = tuple(one((outcome, receiver, code)) for outcome, receiver, code in row[2])
        return Status(at(row[0]), one(row[1]), results)

    return {
        "inputs": lambda row: Input(at(row[0]), *map(one, row[1:])),
        "outputs": lambda row: Output._make([at(row[0]), *map(one, row[1:9]), place(row[9]), row[10], one(row[11])]),
        "decisions": lambda row: Decision(place(row[0]), *map(one, row[1:])),
        "statuses": status,
        "quarantined": lambda row: Quarantined(at(row[0]), one(row[1])),
        "withdrawals": lambda row: Withdrawal(*row),
        "seen": lambda row: Seen(at(row[0]), one(row[1])),
        "strange": lambda row: Place(*row),
        "acknowledged": lambda row: Seen(at(row[0]), one(row[1])),
    }


ROWS: Final = tuple(_rows(OneOfEach()))

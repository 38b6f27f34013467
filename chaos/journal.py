"""A history on disk: JSON lines, compressed; what was read once can be judged again."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from chaos.history import Decision, History, Input, Lane, Output, Place, Quarantined, Seen, Status, Withdrawal


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
    history = History()
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for text in lines:
            kind, row = json.loads(text)
            if kind in ROWS:
                getattr(history, kind).append(ROWS[kind](row))
            elif kind == "lanes":
                history.lanes[row[0]] = Lane(*row[1:])
            elif kind == "absent":
                history.absent = set(row)
            else:
                setattr(history, kind, row)
    return history


def _place(value: list[Any] | None) -> Place | None:
    return None if value is None else Place(*value)


def _at(row: list[Any]) -> Place:
    return Place(*row[0])


def _output(row: list[Any]) -> Output:
    return Output._make([_at(row), *row[1:9], _place(row[9]), *row[10:]])


def _status(row: list[Any]) -> Status:
    return Status(_at(row), row[1], tuple((outcome, receiver, code) for outcome, receiver, code in row[2]))


ROWS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "inputs": lambda row: Input(_at(row), *row[1:]),
    "outputs": _output,
    "decisions": lambda row: Decision(_place(row[0]), *row[1:]),
    "statuses": _status,
    "quarantined": lambda row: Quarantined(_at(row), row[1]),
    "withdrawals": lambda row: Withdrawal(*row),
    "seen": lambda row: Seen(_at(row), row[1]),
    "strange": lambda row: Place(*row),
    "acknowledged": lambda row: Seen(_at(row), row[1]),
}

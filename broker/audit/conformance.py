"""Holds all leaves of a log against Logboek Dataverwerkingen, also in what one leaf alone does not show."""

from __future__ import annotations

import sqlite3
from collections import Counter
from types import TracebackType
from typing import Final, Self

from broker.audit.ldv import entry_of, violations
from broker.errors import ContractError

ONE_LINE: Final = "One line for each span_id: the line {} has the same one."


class Conformance:
    """Looks at leaves one by one. Use `with`: what it remembers of spans is in a file that goes with it.

    About 40 bytes of disk for each line (derived), and little memory: a log may hold years.

    Attributes:
        kinds: how many leaves of each kind; `ldv` are lines, conforming or not, `unknown` are no leaves of ours.
    """

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self._spans = sqlite3.connect("", isolation_level=None)  # a temporary file of SQLite's own
        for statement in (
            "PRAGMA journal_mode = OFF",
            "PRAGMA synchronous = OFF",
            "CREATE TABLE spans (span BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID",
            "BEGIN",
        ):
            self._spans.execute(statement)

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Forget."""
        self._spans.close()

    def look(self, place: str, leaf: bytes) -> list[str]:
        """What it breaks, a sentence for each rule.

        Args:
            place: where it stands, to be named when a later line has the same span.
        """
        try:
            entry = entry_of(leaf)
        except ContractError as error:
            self.kinds["ldv" if error.code == "ldv.line" else "unknown"] += 1
            return violations(leaf)
        self.kinds[entry.kind] += 1
        if entry.line is None:
            return []
        span = entry.line.span_id
        if self._spans.execute("INSERT OR IGNORE INTO spans VALUES (?, ?)", (span, place)).rowcount:
            return []
        (first,) = self._spans.execute("SELECT place FROM spans WHERE span = ?", (span,)).fetchone()
        return [ONE_LINE.format(first)]

"""The extension *lezen* of Logboek Dataverwerkingen (Logius, working version 1.1.0): a board reads its own lines.

Whose line it is says `broker.app.ldv_boards`, as for the export. A line is given only if its leaf is proven, and an
answer that would not be whole is not given at all: the form has no place in which to say what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from broker.app.ldv_boards import Boards
from broker.audit.ldv import ACTIVITY, PROCESSOR, SUBJECT, SUBJECT_TYPE, Entry, LdvLine, entry_of
from broker.audit.leaf import Commitments, Ids
from broker.audit.query import Found
from broker.audit.store import Row
from broker.auditserve.questions import MOST_ROWS, Lines
from broker.errors import ConfigError, ContractError

PATH: Final = "/lezen/v1/processing-activities"
API_VERSION: Final = "1.1.0"
TOO_MANY, UNPROVEN = "audit.too_many", "audit.unproven"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one board reads.

    Args:
        keys: of the person that is asked for by an id of a school.
        most: rows that the store was asked for: of so many it is not known whether they are all.
    """

    boards: Boards
    board: str
    asked: Lines
    keys: tuple[bytes, ...] = field(repr=False)
    most: int

    def keep(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are of this board's lines, by what the store says of them.

        Raises:
            ContractError: `audit.too_many`.
        """
        kept = [row for row in rows if self.boards.controller(row.leaf.activity, row.leaf.school) == self.board]
        if len(rows) >= self.most or len(kept) > MOST_ROWS:
            raise ContractError(
                f"There are more than {MOST_ROWS} lines. Ask for a shorter time with startTime and endTime.",
                code=TOO_MANY,
            )
        return kept

    def lines(self, found: Sequence[Found]) -> list[LdvLine]:
        """The lines that were asked for, each read from a leaf that is proven.

        Raises:
            ConfigError: `audit.unproven`, if one of the leaves is not.
        """
        entries = [self._entry(one) for one in found]
        unproven = entries.count(None)
        if unproven:
            raise ConfigError(
                f"{unproven} of {len(found)} lines could not be proven, so none is given. Look with `broker audit ask "
                "find` which, and why, and tell the operator of the broker.",
                code=UNPROVEN,
            )
        return [line for entry in entries if entry is not None for line in self._wanted(entry)]

    def _entry(self, found: Found) -> Entry | None:
        """The leaf as the Logboek has it; None if it is not proven, not conform, or not about whom it should be."""
        if found.problem is not None or found.entry is None:
            return None
        try:
            entry = entry_of(found.entry)
        except ContractError:
            return None
        return entry if entry.line is not None and self._about(entry.line) else None

    def _about(self, line: LdvLine) -> bool:
        """Whether the line is about the person: the token in it was made with the person's key."""
        ids = Ids(line.trace_id, line.span_id)
        tokens = {Commitments(key, ids).token() for key in self.keys}
        return self.asked.person is None or line.attribute(SUBJECT) in tokens

    def _wanted(self, entry: Entry) -> Iterable[LdvLine]:
        """The line of an entry, if it is this board's and all that was asked for: the store proves nothing."""
        line, asked = entry.line, self.asked
        if line is None or self.boards.of(entry) != self.board:
            return
        subject = (None, None) if asked.person is not None else (asked.subject, asked.subject_type)
        said = {ACTIVITY: asked.activity, PROCESSOR: asked.processor, SUBJECT: subject[0], SUBJECT_TYPE: subject[1]}
        if (
            asked.trace in (None, line.trace_id.hex())
            and all(value in (None, line.attribute(name)) for name, value in said.items())
            and (asked.start_ms is None or line.start_ms >= asked.start_ms)
            and (asked.end_ms is None or line.end_ms <= asked.end_ms)
        ):
            yield line


def answer_of(lines: Iterable[LdvLine]) -> dict[str, Any]:
    """The answer as JSON."""
    return {"processingActivities": [_processing_activity(line) for line in lines]}


def _processing_activity(line: LdvLine) -> dict[str, Any]:
    parent = {} if line.parent_span_id is None else {"parentSpanId": line.parent_span_id.hex()}
    resource = {"resource": {"attributes": dict(line.resource)}} if line.resource else {}
    return {
        "traceId": str(UUID(bytes=line.trace_id)),
        "spanId": line.span_id.hex(),
        "status": line.status.value,
        "name": line.name,
        "startTime": line.start_ms,
        "endTime": line.end_ms,
        **parent,
        **resource,
        "attributes": dict(line.attributes),
    }

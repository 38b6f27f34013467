"""What tests of the read interface share: questions to a desk, and what a board's Logboek has."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from broker.app.ldv_boards import Boards
from broker.audit.ldv import SUBJECT, SUBJECT_TYPE, entry_of
from broker.auditserve.people import ID_KINDS
from broker.auditserve.rights import Question
from broker.errors import BrokerError
from tests.auditserve.office import BOARD, LOCAL, Office
from tests.exchange.world import DELTA

REGISTER, OTHER_REGISTER = (
    "https://register.horizon.example/verwerkingen",
    "https://register.kompas.example/verwerkingen",
)
USE = f"{REGISTER}/Gebruik"
LAS_KEY = f"{ID_KINDS}PO/99PA/LAS_KEY"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
Line = dict[str, Any]


async def read(office: Office, who: str = BOARD, **asked: Any) -> list[Line]:
    """The lines that are all this; a name has __ for a dot."""
    body = {name.replace("__", "."): value for name, value in asked.items()}
    answer = await office.desk.answer(who, Question.LINES, json.dumps(body).encode())
    assert list(answer) == ["processingActivities"]
    lines: list[Line] = json.loads(json.dumps(answer))["processingActivities"]
    return lines


async def refused(office: Office, who: str = BOARD, **asked: Any) -> BrokerError:
    """The error that an answer is."""
    with pytest.raises(BrokerError) as caught:
        await read(office, who, **asked)
    return caught.value


def about(value: str = LOCAL, kind: str = LAS_KEY) -> dict[str, str]:
    """A question for one pupil."""
    return {SUBJECT: value, SUBJECT_TYPE: kind}


def of_board(office: Office, board: str | None) -> list[Line]:
    """All lines of a board in the world, as the export would bring them to its Logboek."""
    boards = Boards(office.world.registry)
    return [json.loads(leaf)["ldv"] for leaf in office.world.leaves() if boards.of(entry_of(leaf)) == board]


def spans(lines: list[Line]) -> list[str]:
    """Which lines they are."""
    return [line.get("spanId") or line["span_id"] for line in lines]


def with_trace(office: Office, trace: str, *events: Any) -> None:
    """Events of one sender in one trace of its own."""
    header = ("traceparent", f"00-{trace}-b7ad6b7169203331-01".encode())
    records = [office.world.record(DELTA, one) for one in events]
    office.world.run(DELTA, *(replace(record, headers=(*record.headers, header)) for record in records))
    office.index()

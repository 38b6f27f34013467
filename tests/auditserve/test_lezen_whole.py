"""The read interface of the Logboek: an answer is whole or there is none, and the audit says who read."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from broker.audit.indexing import index_log
from broker.audit.ldv import ACTIVITY
from broker.audit.leaf import canonical
from broker.audit.log.tiles import bundle_path
from broker.audit.store import Store
from broker.auditserve import desk, lezen, questions
from broker.client import Subject
from broker.errors import ConfigError, ContractError, TransientError
from broker.exchange.decide import OWN_ACTIVITY
from tests.auditserve.office import BOARD, OTHER_BOARD, Office
from tests.auditserve.reading import OTHER_REGISTER, TRACE, USE, about, read, refused, with_trace
from tests.exchange.world import DELTA, EMMA, NOAH, NOW_MS, SIS, event


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two schools of two boards."""
    return Office(tmp_path)


async def test_more_lines_than_an_answer_holds_are_not_given(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor some of them: the time has to be narrowed. Lines of others do not count, but are not looked at for ever."""
    with_trace(office, TRACE, event(), event(school="99VA", sector="VO", subject=Subject("PUPIL", NOAH)))
    mine = await read(office, traceId=TRACE)
    monkeypatch.setattr(lezen, "MOST_ROWS", len(mine))
    assert await read(office, traceId=TRACE) == mine
    monkeypatch.setattr(lezen, "MOST_ROWS", len(mine) - 1)
    error = await refused(office, traceId=TRACE)
    assert (type(error), error.code) == (ContractError, "audit.too_many")
    assert "startTime" in str(error)
    assert office.recorded.said[-1]["answer"] == "refused"
    assert await read(office, traceId=TRACE, endTime=NOW_MS - 1) == []
    monkeypatch.setattr(lezen, "MOST_ROWS", len(mine))
    monkeypatch.setattr(questions, "MOST_LOOKED_AT", len(mine))
    assert (await refused(office, traceId=TRACE)).code == "audit.too_many"
    monkeypatch.undo()
    office.world.send(DELTA, event(subject=Subject("PUPIL", None, (("LAS_KEY", "182071649"),))))
    office.index()
    assert await read(office, dpl__core__processing_activity_id=OWN_ACTIVITY) != []
    monkeypatch.setattr(desk, "MOST_ROWS", 0)
    assert (await refused(office, dpl__core__processing_activity_id=OWN_ACTIVITY)).code == "audit.too_many"


async def test_a_line_that_is_not_proven_is_not_given(office: Office) -> None:
    """Nor those beside it; of another board's leaf nothing is told, also in the same trace."""
    with_trace(office, TRACE, event(), event(school="99VA", sector="VO", subject=Subject("PUPIL", NOAH)))
    mine, theirs = await read(office, traceId=TRACE), await read(office, OTHER_BOARD, traceId=TRACE)
    with sqlite3.connect(office.folder / "store") as store:
        store.execute("UPDATE leaves SET time = time + 1 WHERE span = ?", (bytes.fromhex(theirs[0]["spanId"]),))
    assert await read(office, traceId=TRACE) == mine
    error = await refused(office, OTHER_BOARD, traceId=TRACE)
    assert (type(error), error.code) == (ConfigError, "audit.unproven")
    assert f"1 of {len(theirs)} lines" in str(error)
    assert office.recorded.said[-1]["answer"] == "refused"
    (office.log.folder / bundle_path(0, office.log.builder.edge.size)).unlink()
    for asked in ({"traceId": TRACE}, about(), {ACTIVITY: USE}):
        assert (await refused(office, **asked)).code == "audit.unproven"
    assert await read(office, traceId="ef" * 16) == []


async def test_the_leaf_itself_decides_whose_line_it_is(office: Office) -> None:
    """A store that says of another board's leaf that it is this one's leads to no line."""
    with_trace(office, TRACE, event(school="99VA", sector="VO", subject=Subject("PUPIL", NOAH)))
    assert await read(office, traceId=TRACE) == []
    with sqlite3.connect(office.folder / "store") as store:
        store.execute("UPDATE leaves SET activity = (SELECT id FROM words WHERE word = ?)", (USE,))
    assert (await refused(office, traceId=TRACE)).code == "audit.unproven"


async def test_a_store_that_finds_too_much_does_not_make_an_answer(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each line is held against the question once more: trace, activity, time, and whose it is."""
    with_trace(office, TRACE, event(), event(school="99VA", sector="VO", subject=Subject("PUPIL", NOAH)))
    questions_of = [{"traceId": TRACE}, {ACTIVITY: USE}, {"traceId": TRACE, "endTime": NOW_MS - 1}]
    expected = [await read(office, **asked) for asked in questions_of]
    assert [bool(lines) for lines in expected] == [True, True, False]
    real = Store.find
    everything = {"trace": None, "activity": None, "until_ms": None}
    monkeypatch.setattr(Store, "find", lambda store, wanted: real(store, replace(wanted, **everything)))
    assert [await read(office, **asked) for asked in questions_of] == expected
    monkeypatch.setattr(lezen.Reading, "keep", lambda _reading, rows: rows)
    assert [await read(office, **asked) for asked in questions_of] == expected


async def test_how_many_lines_another_board_has_is_not_told(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a school that moved: its lines of before are the old board's, however many there are."""
    office.world.edit("school/99VA", board=BOARD)
    monkeypatch.setattr(desk, "MOST_ROWS", 0)
    assert await read(office, dpl__core__processing_activity_id=f"{OTHER_REGISTER}/Gebruik") == []
    assert await read(office, OTHER_BOARD, dpl__core__processing_activity_id=f"{OTHER_REGISTER}/Gebruik") != []


async def test_a_line_that_does_not_conform_is_not_given(office: Office) -> None:
    """It would be a fault of the broker; `broker ldv check` says which rule it breaks."""
    leaf = json.loads(office.world.leaves()[-1])
    line = leaf["ldv"] | {"status": "error", "span_id": "00f067aa0ba902b7", "trace_id": TRACE}
    office.log.grow([canonical(leaf | {"ldv": line})])
    with Store(office.folder / "store") as store:
        index_log(store, office.log.signed())
    assert (await refused(office, OTHER_BOARD, traceId=TRACE)).code == "audit.unproven"


async def test_nothing_is_answered_by_old_views_or_without_the_audit(office: Office) -> None:
    """As for every question."""
    office.recorded.away = True
    for who, asked in ((BOARD, about()), (BOARD, about("L9999")), (SIS, about()), (BOARD, {"traceId": TRACE})):
        error = await refused(office, who, **asked)
        assert (type(error), error.code) == (TransientError, "audit.unrecorded")
    office.views.stale = True
    assert (await refused(office, traceId=TRACE)).code == "view.stale"


async def test_the_audit_says_who_read_and_not_about_whom(office: Office) -> None:
    """Of a pupil only the school, and no number; of a trace only how many; of an activity the process and the time."""
    said = {"answer": "given", "at": office.clock, "by": BOARD, "kind": "audit-query", "role": "board",
            "question": "processing-activities"}  # fmt: skip
    lines = await read(office, dpl__core__processing_activity_id=USE, startTime=NOW_MS, endTime=NOW_MS + 1)
    assert office.recorded.said[-1] == said | {
        "process": "Gebruik",
        "rows": len(lines),
        "since": NOW_MS,
        "until": NOW_MS + 1,
    }
    mine = await read(office, traceId=lines[0]["traceId"])
    assert office.recorded.said[-1] == said | {"rows": len(mine)}
    await read(office, **about(), startTime=NOW_MS)
    assert office.recorded.said[-1] == said | {"school": "99PA"}
    await read(office, dpl__core__processing_activity_id=EMMA, startTime=182_071_649)
    assert office.recorded.said[-1] == said | {"rows": 0, "since": questions.EARLIEST_MS}

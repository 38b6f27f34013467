"""The read interface of the Logboek (extension *lezen*): each field, whose lines a board gets, and what is refused."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from uuid import UUID

import pytest

from broker.audit.indexing import index_log
from broker.audit.ldv import ACTIVITY, ATTRIBUTES, PROCESSOR, REQUIRED, SUBJECT, SUBJECT_TYPE, Status
from broker.audit.leaf import TOKEN_TYPE, canonical
from broker.audit.store import Store
from broker.auditserve.people import ID_KINDS, ID_TYPES, IdKind
from broker.auditserve.rights import Question
from broker.client import Subject
from broker.errors import AccessDenied, ConfigError, ContractError
from broker.exchange.decide import OWN_ACTIVITY
from tests.auditserve.office import BOARD, LOCAL, OTHER_BOARD, OTHER_LOCAL, Office
from tests.auditserve.reading import (
    LAS_KEY,
    OTHER_REGISTER,
    REGISTER,
    TRACE,
    USE,
    Line,
    about,
    of_board,
    read,
    refused,
    spans,
    with_trace,
)
from tests.exchange.world import DELTA, EMMA, NOAH, NOW_MS, PORTAL, SIS, enrolment, event


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two schools of two boards."""
    return Office(tmp_path)


# ---- the form of an answer: each MUST of the standard's interface, in the words of the extension's description


def conform(line: Line) -> bool:
    """Whether a line is as the extension's OpenAPI description has it (ProcessingActivity)."""
    ids = ("spanId", "parentSpanId") if "parentSpanId" in line else ("spanId",)
    return (
        line.keys() >= {"traceId", "spanId", "status", "name", "startTime", "endTime"}
        and line.keys() <= {"parentSpanId", "resource", "attributes", "traceId", "spanId", "status", "name",
                            "startTime", "endTime"}
        and str(UUID(line["traceId"])) == line["traceId"]
        and all(re.fullmatch(r"[0-9a-fA-F]{16}", line[name]) for name in ids)
        and line["status"] in tuple(Status)
        and isinstance(line["name"], str) and line["name"] != ""
        and all(type(line[name]) is int and 0 <= line[name] < 2**63 for name in ("startTime", "endTime"))
        and isinstance(line.get("resource", {}).get("attributes", {}), dict)
        and line["attributes"].keys() <= ATTRIBUTES
        and all(isinstance(value, str) for value in line["attributes"].values())
        and re.fullmatch(r"https://[^\s]+", line["attributes"][ACTIVITY]) is not None
        and (SUBJECT in line["attributes"]) == (SUBJECT_TYPE in line["attributes"])
    )  # fmt: skip


async def test_each_field_of_the_standard_is_read(office: Office) -> None:
    """All lines of a board by their activities: none is missing, none is changed, none is another's."""
    with_trace(office, TRACE, event())
    expected = of_board(office, BOARD)
    found = [line for one in sorted({e["attributes"][ACTIVITY] for e in expected})
             for line in await read(office, dpl__core__processing_activity_id=one)]  # fmt: skip
    assert sorted(spans(found)) == sorted(spans(expected))
    by_span = {line["span_id"]: line for line in expected}
    for line in found:
        assert conform(line)
        said = by_span[line["spanId"]]
        assert line == {
            "traceId": str(UUID(said["trace_id"])), "spanId": said["span_id"], "status": said["status"],
            "name": said["name"], "startTime": said["start_time"], "endTime": said["end_time"],
            "resource": said["resource"], "attributes": said["attributes"],
            **({"parentSpanId": said["parent_span_id"]} if "parent_span_id" in said else {}),
        }  # fmt: skip
    assert {PROCESSOR, SUBJECT, SUBJECT_TYPE, ACTIVITY} == {name for line in found for name in line["attributes"]}
    assert any("parentSpanId" in line for line in found)
    assert {"trace_id", "span_id", "status", "name", "start_time", "end_time", "attributes"} == REQUIRED


# ---- whose lines, and which


async def test_a_trace_gives_each_board_its_own_lines_of_it(office: Office) -> None:
    """A sender may use one for events of several boards; a uuid in either case and 32 digits are the same."""
    with_trace(office, TRACE, event(), event(school="99VA", sector="VO", subject=Subject("PUPIL", NOAH)), event())
    mine = [line for line in of_board(office, BOARD) if line["trace_id"] == TRACE]
    other = [line for line in of_board(office, OTHER_BOARD) if line["trace_id"] == TRACE]
    assert len(mine) > len(other) > 0
    for form in (TRACE, TRACE.upper(), str(UUID(TRACE)), str(UUID(TRACE)).upper()):
        assert spans(await read(office, traceId=form)) == spans(mine)
        assert spans(await read(office, OTHER_BOARD, traceId=form)) == spans(other)
    assert await read(office, "bestuur-vakwijs", traceId=TRACE) == []
    assert await read(office, traceId="ef" * 16) == []
    for line in mine:
        assert spans(await read(office, traceId=line["trace_id"])) == spans(mine)


async def test_all_that_is_asked_holds_at_once(office: Office) -> None:
    """Trace, activity, pupil, receiver, a token, and both ends of the time."""
    with_trace(office, TRACE, event(), event(subject=Subject("PUPIL", None, (("LAS_KEY", "L7777"),))))
    everything = await read(office, traceId=TRACE)
    to_portal = [line for line in everything if PROCESSOR in line["attributes"]]
    assert 0 < len(to_portal) < len(everything)
    receiver = to_portal[0]["attributes"][PROCESSOR]
    same = [line for line in to_portal if line["attributes"][PROCESSOR] == receiver]
    assert await read(office, traceId=TRACE, dpl__core__foreign_operation__processor=receiver) == same
    token = to_portal[0]["attributes"][SUBJECT]
    assert await read(office, traceId=TRACE, **about(token, TOKEN_TYPE)) == [
        line for line in everything if line["attributes"].get(SUBJECT) == token
    ]
    hers = await read(office, traceId=TRACE, **about())
    assert hers == [line for line in everything if SUBJECT in line["attributes"]]
    assert await read(office, traceId=TRACE, dpl__core__processing_activity_id=USE) == [
        line for line in everything if line["attributes"][ACTIVITY] == USE
    ]
    start, end = everything[0]["startTime"], everything[0]["endTime"]
    assert await read(office, traceId=TRACE, startTime=start, endTime=end) == everything
    assert await read(office, traceId=TRACE, startTime=start + 1) == []
    assert await read(office, traceId=TRACE, endTime=end - 1) == []
    assert await read(office, traceId=TRACE, startTime=0) == everything
    assert await read(office, traceId=TRACE, endTime=0) == []


async def test_a_line_that_began_before_is_not_within_the_time(office: Office) -> None:
    """It ended within it, which is what the store knows."""
    leaf = office.world.leaves()[-1]
    line = json.loads(leaf)["ldv"] | {"start_time": NOW_MS - 50, "span_id": "00f067aa0ba902b7", "trace_id": TRACE}
    office.log.grow([canonical(json.loads(leaf) | {"ldv": line})])
    with Store(office.folder / "store") as store:
        index_log(store, office.log.signed())
    assert len(await read(office, OTHER_BOARD, traceId=TRACE)) == 1
    assert len(await read(office, OTHER_BOARD, traceId=TRACE, startTime=NOW_MS - 50, endTime=line["end_time"])) == 1
    assert await read(office, OTHER_BOARD, traceId=TRACE, startTime=NOW_MS - 49) == []
    assert await read(office, OTHER_BOARD, traceId=TRACE, endTime=line["end_time"] - 1) == []


async def test_the_broker_s_own_activity_is_of_the_board_that_the_school_has(office: Office) -> None:
    """What was refused before its purpose was known; as the export has it, and for a school that moved too."""
    office.world.send(DELTA, event(school="99PA", subject=Subject("PUPIL", None, (("LAS_KEY", "182071649"),))))
    office.index()
    own = [line for line in of_board(office, BOARD) if line["attributes"][ACTIVITY] == OWN_ACTIVITY]
    assert len(own) > 0
    assert spans(await read(office, dpl__core__processing_activity_id=OWN_ACTIVITY)) == spans(own)
    used = [line for line in of_board(office, BOARD) if line["attributes"][ACTIVITY] == USE]
    office.world.edit("school/99PA", board=OTHER_BOARD)
    assert await read(office, dpl__core__processing_activity_id=OWN_ACTIVITY) == []
    theirs = await read(office, OTHER_BOARD, dpl__core__processing_activity_id=OWN_ACTIVITY)
    assert set(spans(theirs)) >= set(spans(own))
    assert spans(await read(office, dpl__core__processing_activity_id=USE)) == spans(used)
    assert await read(office, OTHER_BOARD, dpl__core__processing_activity_id=USE) == []
    one = used[0]["trace_id"]
    assert spans(await read(office, traceId=one)) == spans([line for line in used if line["trace_id"] == one])
    assert await read(office, OTHER_BOARD, traceId=one) == []


async def test_lines_are_found_under_the_address_that_they_have(office: Office) -> None:
    """Also after the board's register got another one; lines of then are not found under it."""
    before = spans(await read(office, dpl__core__processing_activity_id=USE))
    new = "https://nieuw.horizon.example/register"
    office.world.edit(f"board/{BOARD}", processing_register=f"{new}/")
    office.world.send(DELTA, event())
    office.index()
    assert spans(await read(office, dpl__core__processing_activity_id=USE)) == before != []
    after = await read(office, dpl__core__processing_activity_id=f"{new}/Gebruik")
    assert spans(after) == [line["span_id"] for line in of_board(office, BOARD)][-len(after) :]
    assert after != []
    assert not set(spans(after)) & set(before)


async def test_two_boards_with_one_register_are_told_apart_by_the_school(office: Office) -> None:
    """The same activity, and to each its own lines."""
    office.world.edit(f"board/{OTHER_BOARD}", processing_register=REGISTER)
    office.world.send(DELTA, event(), event(school="99VA", sector="VO", subject=Subject("PUPIL", NOAH)))
    office.index()
    for board in (BOARD, OTHER_BOARD):
        expected = [line for line in of_board(office, board) if line["attributes"][ACTIVITY] == USE]
        assert spans(await read(office, board, dpl__core__processing_activity_id=USE)) == spans(expected) != []


async def test_another_board_s_register_gives_nothing(office: Office) -> None:
    """Nor one that nobody has, a process that is none, or a prefix of one."""
    for activity in (
        f"{OTHER_REGISTER}/Gebruik", "https://nobody.example/Gebruik", f"{REGISTER}/Onbekend", REGISTER, f"{USE}/",
        USE.upper(), f"{USE} OR 1=1",
    ):  # fmt: skip
        assert await read(office, dpl__core__processing_activity_id=activity) == []
    assert await read(office, OTHER_BOARD, dpl__core__processing_activity_id=f"{OTHER_REGISTER}/Gebruik") != []


# ---- a pupil


@pytest.mark.parametrize(
    ("value", "kind"), [(LOCAL, LAS_KEY), (EMMA, f"{ID_KINDS}PO/99PA/ECK_ID")], ids=["local", "eck"]
)
async def test_a_pupil_is_found_by_each_id_of_the_school(office: Office, value: str, kind: str) -> None:
    """All lines about her, of any time; the lines themselves have another code each, and never the id."""
    expected = [line for line in of_board(office, BOARD) if SUBJECT in line["attributes"]]
    found = await read(office, **about(value, kind))
    assert spans(found) == spans(expected)
    assert len({line["attributes"][SUBJECT] for line in found}) == len(found) > 3
    assert {line["attributes"][SUBJECT_TYPE] for line in found} == {TOKEN_TYPE}
    assert value not in json.dumps(found)


async def test_unknown_erased_and_another_s_pupil_have_no_lines(office: Office) -> None:
    """One answer for all, as for a pupil about whom nothing happened."""
    office.world.send(SIS, enrolment(None, "L0007", kind="ENROL"))
    office.world.send(SIS, enrolment(None, "L0007", kind="ERASE"))
    for asked in (
        about("L9999"), about("L0007"), about(OTHER_LOCAL), about(NOAH, f"{ID_KINDS}PO/99PA/ECK_ID"),
        about(LOCAL, f"{ID_KINDS}VO/99PA/LAS_KEY"), about(LOCAL, f"{ID_KINDS}PO/99PA/ECK_ID"),
    ):  # fmt: skip
        assert await read(office, **asked) == []
    assert await read(office, OTHER_BOARD, **about(OTHER_LOCAL, f"{ID_KINDS}VO/99VA/LAS_KEY")) != []


async def test_the_store_is_not_believed_over_whom_a_line_is_about(office: Office) -> None:
    """A row that leads from one pupil to the leaf of another: no line is given."""
    office.world.send(SIS, enrolment(None, "L0008"))
    office.world.send(DELTA, event(subject=Subject("PUPIL", None, (("LAS_KEY", "L0008"),))))
    office.index()
    assert await read(office, **about("L0008")) != []
    assert (await read(office, **about()))[-1]["attributes"][SUBJECT]
    with sqlite3.connect(office.folder / "store") as store:
        store.execute("UPDATE OR IGNORE tags SET tag = (SELECT tag FROM tags ORDER BY idx DESC LIMIT 1)")
    error = await refused(office, **about("L0008"))
    assert (error.code, type(error)) == ("audit.unproven", ConfigError)


def test_the_kind_of_an_id_is_read_from_its_uri() -> None:
    """Sector, school and type, each one that there is."""
    for id_type in ID_TYPES:
        assert IdKind.of(f"{ID_KINDS}VO/99VA00/{id_type}") == ("VO", "99VA00", id_type)
    for wrong in ("PO/99PA", "PO/99PA/BSN", "XX/99PA/ECK_ID", "PO/99pa/ECK_ID", "PO/99PA/ECK_ID/", "//", ""):
        for uri in (wrong, ID_KINDS + wrong, f"http://eck-broker.nl/begrippen/id/{wrong}"):
            assert IdKind.of(uri) is None
    assert IdKind.of("PO/99PA/ECK_ID") is None


# ---- what is refused


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("{}", "at least one of traceId"),
        ('{"startTime":1795305600000,"endTime":1795305600001}', "at least one of traceId"),
        ('{"dpl.core.foreign_operation.processor":"https://L0001.example"}', "at least one of traceId"),
        (json.dumps(about("vKOM-TKZi5N-TG44JZd-rA", TOKEN_TYPE)), "at least one of traceId"),
        ('{"dpl.core.data_subject_id":"L0001"}', "go together"),
        (f'{{"dpl.core.data_subject_id_type":"{LAS_KEY}"}}', "go together"),
        ('{"dpl.core.data_subject_id":"L0001","dpl.core.data_subject_id_type":"BSN"}', f": {SUBJECT_TYPE}."),
        ('{"dpl.core.data_subject_id":"","dpl.core.data_subject_id_type":"L0001"}', f": {SUBJECT}, {SUBJECT_TYPE}."),
        ('{"traceId":"L0001"}', ": traceId."),
        ('{"traceId":"00000000000000000000000000000000"}', ": traceId."),
        ('{"traceId":"4bf92f3577b34da6a3ce929d0e0e47  "}', ": traceId."),
        ('{"traceId":"4bf92f3577b34da6a3ce929d0e0e473"}', ": traceId."),
        ('{"traceId":1}', ": traceId."),
        (f'{{"traceId":"{TRACE}","startTime":"L0001","endTime":-1}}', ": endTime, startTime."),
        (f'{{"traceId":"{TRACE}","startTime":1.5}}', ": startTime."),
        (f'{{"traceId":"{TRACE}","startTime":9223372036854775808}}', ": startTime."),
        (f'{{"traceId":"{TRACE}","startTime":1795305600001,"endTime":1795305600000}}', "endTime is before startTime"),
        ('{"dpl.core.processing_activity_id":["L0001"]}', f": {ACTIVITY}."),
        (f'{{"traceId":"{TRACE}","L0001":1}}', "not one JSON object"),
        (f'{{"trace":"{TRACE}"}}', "not one JSON object"),
        (f'{{"traceId":"{TRACE}","attributes":{{"L0001":1}}}}', "not one JSON object"),
        ('["L0001"]', "not one JSON object"),
        ("L0001", "not one JSON object"),
        ("", "not one JSON object"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_named_and_never_repeated(office: Office, body: str, named: str) -> None:
    """By a member's name; too little to look for is one of these, and so is a filter that is not known."""
    with pytest.raises(ContractError) as caught:
        await office.desk.answer(BOARD, Question.LINES, body.encode())
    assert caught.value.code in ("audit.question", "audit.span")
    assert named in str(caught.value)
    assert "L0001" not in str(caught.value) + str(caught.value.__context__)
    assert office.recorded.leaves == []


async def test_only_a_board_reads_and_only_of_its_schools(office: Office) -> None:
    """A party is denied whatever it asks; both stand in the audit, what was asked does not."""
    for who, asked, code in (
        (SIS, about(), "audit.denied"), (DELTA, {"traceId": TRACE}, "audit.denied"),
        (PORTAL, {ACTIVITY: USE}, "audit.denied"), (BOARD, about(LOCAL, f"{ID_KINDS}VO/99VA/LAS_KEY"), "audit.scope"),
        (BOARD, about(LOCAL, f"{ID_KINDS}PO/00AA/LAS_KEY"), "audit.scope"),
    ):  # fmt: skip
        error = await refused(office, who, **asked)
        assert (type(error), error.code) == (AccessDenied, code)
    assert [(leaf["by"], leaf["answer"]) for leaf in office.recorded.said] == [
        (SIS, "refused"), (DELTA, "refused"), (PORTAL, "refused"), (BOARD, "refused"), (BOARD, "refused"),
    ]  # fmt: skip
    assert (await refused(office, "stranger", traceId=TRACE)).code == "audit.who"
    assert len(office.recorded.leaves) == 5

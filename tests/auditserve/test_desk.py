"""What `broker.auditserve.desk` answers, to whom, and what stands in the audit then."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from broker.audit.coordinates import coordinates
from broker.audit.leaf import b64url
from broker.audit.query import Query
from broker.audit.store import Store
from broker.auditserve import desk as desk_module
from broker.auditserve.answers import Answer
from broker.auditserve.desk import Source
from broker.auditserve.people import tags_of
from broker.auditserve.rights import Question
from broker.auditserve.service import cipher_of
from broker.client import Subject
from broker.errors import AccessDenied, BrokerError, ContractError, TransientError
from broker.wire import AUDIT_SALT
from tests.audit.signed_world import tag_of
from tests.auditserve.office import BOARD, LOCAL, OTHER_BOARD, OTHER_LOCAL, Office
from tests.exchange.world import DELTA, EMMA, NOAH, NOW_MS, OOST, PORTAL, SIS, World, enrolment, event

DAY_MS = 86_400_000


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two schools of two boards."""
    return Office(tmp_path)


async def ask(office: Office, who: str, question: Question, **body: Any) -> Answer:
    """Ask, and have each row checked as a client does."""
    said = await office.desk.answer(who, question, json.dumps(body).encode())
    return Answer.read(json.loads(json.dumps(said)), [office.log.signer.verifier])


async def refused(office: Office, who: str, question: Question, **body: Any) -> tuple[str, str]:
    """The code and text of the error that an answer is."""
    with pytest.raises((AccessDenied, ContractError)) as caught:
        await ask(office, who, question, **body)
    return caught.value.code, str(caught.value)


def pupil(value: str = LOCAL, id_type: str = "LAS_KEY", school: str = "99PA", sector: str = "PO") -> dict[str, Any]:
    """A question about one pupil."""
    return {"school": school, "sector": sector, "type": id_type, "value": value}


def entries(office: Office, **said: Any) -> list[bytes]:
    """The world's leaves that say this."""
    found = []
    for entry in office.world.leaves():
        leaf = coordinates(entry)
        assert leaf is not None
        if all(
            getattr(leaf, name) in (value if isinstance(value, tuple) else (value,)) for name, value in said.items()
        ):
            found.append(entry)
    return found


# ---- who sees what


async def test_a_board_gets_all_leaves_of_its_schools_and_no_other(office: Office) -> None:
    """Each proven; and the two boards together do not have those of a school that is not registered."""
    ours, theirs = await ask(office, BOARD, Question.FIND), await ask(office, OTHER_BOARD, Question.FIND)
    assert [one.entry for one in ours.found] == entries(office, school="99PA")
    assert [one.entry for one in theirs.found] == entries(office, school="99VA")
    assert len(ours.found) + len(theirs.found) < len(office.world.leaves())
    size = office.log.builder.edge.size
    assert {one.status for one in (*ours.found, *theirs.found)} == {f"proven at size {size}"}
    assert ours.searched == {office.log.origin: (size, size)}


async def test_a_party_gets_the_leaves_in_which_it_is_named(office: Office) -> None:
    """As sender or as receiver, of any board's school."""
    for party in (DELTA, PORTAL, SIS):
        found = (await ask(office, party, Question.FIND)).found
        expected = [
            e for e in office.world.leaves() if e in entries(office, sender=party) + entries(office, receiver=party)
        ]
        assert [one.entry for one in found] == expected
        assert 0 < len(found) < len(office.world.leaves())
    assert (await ask(office, OOST, Question.FIND)).found == []
    only = (await ask(office, PORTAL, Question.FIND, school="99VA")).found
    assert [one.entry for one in only] == entries(office, school="99VA", receiver=PORTAL)


async def test_a_board_does_not_get_another_boards_school(office: Office) -> None:
    """And a school that does not exist is the same answer."""
    answers = {
        await refused(office, BOARD, Question.FIND, school=school) for school in ("99VA", "99VA00", "00AA", "99XX")
    }
    assert {code for code, _ in answers} == {"audit.scope"}
    assert len(answers) == 1
    assert [leaf["answer"] for leaf in office.recorded.said] == ["refused"] * 4


async def test_a_party_asks_neither_for_people_nor_for_others(office: Office) -> None:
    """Whatever school it names; both attempts stand in the audit."""
    assert (await refused(office, SIS, Question.PEOPLE, **pupil()))[0] == "audit.denied"
    assert (await refused(office, DELTA, Question.FIND, party=PORTAL))[0] == "audit.scope"
    assert [(leaf["by"], leaf["question"], leaf["answer"]) for leaf in office.recorded.said] == [
        (SIS, "people", "refused"), (DELTA, "find", "refused"),
    ]  # fmt: skip


async def test_who_is_nobody_gets_nothing_and_leaves_no_leaf(office: Office) -> None:
    """Else anybody with a certificate of that authority could fill the audit."""
    assert (await refused(office, "99PA", Question.FIND))[0] == "audit.who"
    assert office.recorded.leaves == []


async def test_a_school_that_changes_boards_takes_its_leaves_along(office: Office) -> None:
    """It counts whose it is now."""
    office.world.edit("school/99PA", board=OTHER_BOARD)
    assert (await ask(office, BOARD, Question.FIND)).found == []
    assert len((await ask(office, OTHER_BOARD, Question.FIND)).found) == len(entries(office, school=("99PA", "99VA")))
    assert (await refused(office, BOARD, Question.PEOPLE, **pupil()))[0] == "audit.person"
    assert (await ask(office, OTHER_BOARD, Question.PEOPLE, **pupil())).found


async def test_the_leaf_itself_decides_whether_it_may_be_seen(office: Office) -> None:
    """A store that leads to another board's leaf, whatever it says of it, shows nothing of it."""
    with sqlite3.connect(office.folder / "store") as store:
        store.execute("UPDATE leaves SET school = (SELECT id FROM words WHERE word = '99PA')")
    found = (await ask(office, BOARD, Question.FIND)).found
    assert [one.entry for one in found] == entries(office, school="99PA")


# ---- questions


async def test_filters_and_pages_give_each_row_once(office: Office) -> None:
    """Newest page first, each page in the order of time, also where many rows are of one moment."""
    everything = (await ask(office, BOARD, Question.FIND)).found
    assert {one.leaf.time for one in everything} == {NOW_MS}
    pages, body = list[Any](), dict[str, Any]()
    while True:
        answer = await ask(office, BOARD, Question.FIND, most=2, **body)
        pages = [*answer.found, *pages]
        if answer.next is None:
            break
        assert len(answer.found) == 2
        body = {"before": answer.next}
    assert pages == everything
    twice = (await ask(office, BOARD, Question.FIND, decision="duplicate")).found
    assert twice == [one for one in everything if one.leaf.decision == "duplicate"]
    assert 0 < len(twice) < len(everything)
    to_portal = (await ask(office, BOARD, Question.FIND, party=PORTAL, school="99PA")).found
    assert [one.entry for one in to_portal] == entries(office, school="99PA", receiver=PORTAL)
    assert office.recorded.said[-1] == {
        "answer": "given", "at": office.clock, "by": BOARD, "kind": "audit-query", "party": PORTAL, "question": "find",
        "role": "board", "rows": len(to_portal), "school": "99PA",
    }  # fmt: skip


async def test_a_question_has_a_term(office: Office) -> None:
    """Without one it is a month; more than a school year at once, or none at all, is refused."""
    office.clock = NOW_MS + 32 * DAY_MS
    assert (await ask(office, BOARD, Question.FIND)).found == []
    assert (await ask(office, BOARD, Question.FIND, since=NOW_MS)).found
    assert (await ask(office, BOARD, Question.FIND, until=NOW_MS + DAY_MS)).found
    assert (await ask(office, BOARD, Question.FIND, until=NOW_MS)).found == []
    for since, until in ((NOW_MS - 401 * DAY_MS, NOW_MS), (NOW_MS, NOW_MS), (NOW_MS + 1, NOW_MS)):
        assert (await refused(office, BOARD, Question.FIND, since=since, until=until))[0] == "audit.span"
    assert (await ask(office, BOARD, Question.PEOPLE, **pupil())).found, "a pupil's leaves are of any time"


async def test_an_event_is_explained_to_who_may_see_it(office: Office) -> None:
    """Another board's event and one that does not exist are the same answer."""
    (entry,) = entries(office, school="99VA", receiver=PORTAL)
    event_id = json.loads(entry)["x"]["event"]
    found = (await ask(office, OTHER_BOARD, Question.EXPLAIN, event=event_id)).found
    assert [one.entry for one in found] == [e for e in office.world.leaves() if event_id.encode() in e]
    assert [one.entry for one in (await ask(office, PORTAL, Question.EXPLAIN, event=event_id)).found] == [entry]
    unknown = await refused(office, BOARD, Question.EXPLAIN, event="00000000-0000-4000-8000-000000000000")
    assert unknown == await refused(office, BOARD, Question.EXPLAIN, event=event_id)
    assert unknown == await refused(office, OOST, Question.EXPLAIN, event=event_id)
    assert unknown[0] == "audit.event"
    assert event_id.encode() not in b"".join(office.recorded.leaves)


async def test_a_receipt_is_of_one_delivery(office: Office) -> None:
    """To a receiver that did not get it there is none."""
    delivered = json.loads(entries(office, school="99PA", receiver=PORTAL, decision="delivered")[0])["x"]["event"]
    answer = await ask(office, PORTAL, Question.RECEIPT, event=delivered, receiver=PORTAL)
    assert [(one.leaf.receiver, one.leaf.decision) for one in answer.found] == [(PORTAL, "delivered")]
    assert (await refused(office, BOARD, Question.RECEIPT, event=delivered, receiver=OOST))[0] == "audit.event"
    salt = dict(office.world.topic(f"out.{PORTAL}.usage")[0].headers)[AUDIT_SALT]
    said = json.dumps(
        await office.desk.answer(BOARD, Question.RECEIPT, json.dumps({"event": delivered, "receiver": PORTAL}).encode())
    )
    assert b64url(salt) not in said
    assert b64encode(salt).decode() not in said


@pytest.mark.parametrize(
    ("question", "body", "named"),
    [
        (Question.FIND, b"[]", "not one JSON object"),
        (Question.FIND, b"", "not one JSON object"),
        (Question.FIND, b'{"L0001":1}', "not one JSON object"),
        (Question.FIND, b'{"school":"L0001"}', "school"),
        (Question.FIND, b'{"process":"L0001","decision":"L0001","code":"L0001"}', "code, decision, process"),
        (Question.FIND, b'{"most":1001}', "most"),
        (Question.FIND, b'{"since":182071649}', "since"),
        (Question.FIND, b'{"event":"L0001"}', "event"),
        (Question.FIND, b'{"before":{"time":1,"log":"x","index":"L0001"}}', "before"),
        (Question.FIND, b'{"before":{"time":1800000000000,"log":"L0001","index":9223372036854775808}}', "before"),
        (Question.EXPLAIN, b"{}", "event"),
        (Question.RECEIPT, b'{"event":"00000000-0000-4000-8000-000000000000"}', "receiver"),
        (Question.PEOPLE, b'{"school":"99PA","sector":"L0001","type":"L0001","value":1}', "sector, type, value"),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else None,
)  # fmt: skip
async def test_what_is_wrong_is_named_and_never_repeated(
    office: Office, question: Question, body: bytes, named: str
) -> None:
    """By the member that is known, whatever stands in it or beside it; also not in what led to the error."""
    with pytest.raises(ContractError) as caught:
        await office.desk.answer(BOARD, question, body)
    assert (caught.value.code, caught.value.__context__) == ("audit.question", None)
    assert named in str(caught.value)
    assert "L0001" not in str(caught.value)
    assert office.recorded.leaves == []


# ---- people


@pytest.mark.parametrize(("id_type", "value"), [("LAS_KEY", LOCAL), ("ECK_ID", EMMA)], ids=["local", "eck"])
async def test_a_pupil_is_found_by_each_id(office: Office, id_type: str, value: str) -> None:
    """All leaves about her, each proven, and nobody else's."""
    answer = await ask(office, BOARD, Question.PEOPLE, **pupil(value, id_type))
    assert [one.entry for one in answer.found] == [e for e in entries(office, school="99PA") if b"data_subject_id" in e]
    assert len(answer.found) > 3
    assert {one.problem for one in answer.found} == {None}
    first = await ask(office, BOARD, Question.PEOPLE, **pupil(value, id_type), most=1)
    assert first.found == answer.found[-1:]
    assert first.next is not None
    second = await ask(office, BOARD, Question.PEOPLE, **pupil(value, id_type), most=1, before=first.next)
    assert second.found == answer.found[-2:-1]


async def test_unknown_erased_and_anothers_pupil_are_one_answer(office: Office) -> None:
    """By whichever school one asks; and in the audit it stands that it was asked, not for whom."""
    office.world.send(SIS, enrolment(None, "L0007", kind="ENROL"))
    erased = enrolment(None, "L0007", kind="ERASE")
    office.world.send(SIS, erased)
    answers = {
        await refused(office, BOARD, Question.PEOPLE, **asked)
        for asked in (
            pupil("L9999"), pupil("L0007"), pupil(OTHER_LOCAL), pupil(NOAH, "ECK_ID"), pupil(LOCAL, sector="VO"),
            pupil(OTHER_LOCAL, school="99VA", sector="VO"), pupil(NOAH, "ECK_ID", "99VA", "VO"), pupil(school="00AA"),
        )
    }  # fmt: skip
    assert {code for code, _ in answers} == {"audit.person"}
    assert len(answers) == 1
    assert (await ask(office, OTHER_BOARD, Question.PEOPLE, **pupil(NOAH, "ECK_ID", "99VA", "VO"))).found


async def test_a_pupil_is_found_under_the_brin_that_the_school_had(office: Office) -> None:
    """By the new one and by the old one; the leaves name the old one."""
    school = json.loads(office.world.records["school/99PA"])
    new = json.dumps(school | {"id": "99PB", "formerly": ["99PA"]}).encode()
    office.world.registry = office.world.registry.with_changes({"school/99PA": None, "school/99PB": new})
    expected = [e for e in entries(office, school="99PA") if b"data_subject_id" in e]
    for name in ("99PB", "99PA"):
        assert [
            one.entry for one in (await ask(office, BOARD, Question.PEOPLE, **pupil(school=name))).found
        ] == expected
        assert [one.entry for one in (await ask(office, BOARD, Question.FIND, school=name)).found] == entries(
            office, school="99PA"
        )
    assert [leaf["school"] for leaf in office.recorded.said] == ["99PB"] * 4
    await refused(office, OTHER_BOARD, Question.PEOPLE, **pupil(school="99PA00"))
    assert office.recorded.said[-1]["school"] == "99PB", "also a location of it, and in a refusal"


async def test_rows_of_an_erased_person_are_not_found(office: Office) -> None:
    """The store forgot her, though the vault's copy still knows her."""
    with Store(office.folder / "store") as store:
        store.forget(tag_of(office.world))
    assert (await ask(office, BOARD, Question.PEOPLE, **pupil())).found == []


async def test_merged_enrolments_are_found_together(office: Office) -> None:
    """All keys of a person lead to leaves; in one order, page by page."""
    office.world.send(SIS, enrolment(None, "L0008"))
    office.world.send(DELTA, event(subject=Subject("PUPIL", None, (("LAS_KEY", "L0008"),))))
    office.index()
    alone = [len((await ask(office, BOARD, Question.PEOPLE, **pupil(one))).found) for one in (LOCAL, "L0008")]
    assert min(alone) > 1
    known = Subject("PUPIL", EMMA, (("LAS_KEY", LOCAL),), (("LAS_KEY", "L0008"),))
    office.world.send(SIS, replace(enrolment(), kind="MERGE", subject=known))
    office.index()
    found = (await ask(office, BOARD, Question.PEOPLE, **pupil())).found
    assert len(found) == sum(alone) + 1  # the MERGE has a leaf too
    assert (await ask(office, BOARD, Question.PEOPLE, **pupil("L0008"))).found == found
    page = await ask(office, BOARD, Question.PEOPLE, **pupil(), most=len(found) - 1)
    assert page.found == found[1:]
    assert (await ask(office, BOARD, Question.PEOPLE, **pupil(), before=page.next)).found == found[:1]


def test_a_record_of_another_school_is_never_taken(office: Office) -> None:
    """Should one ever stand under a key of this school."""
    world = office.world
    cipher = world.exchange_keys.vault
    key, ours = cipher.key("VO", "99VA", "LAS_KEY", OTHER_LOCAL), cipher.key("PO", "99PA", "LAS_KEY", "L0009")
    record = cipher.find(world.vault, key)
    assert record is not None
    assert tags_of(cipher, world.vault, ["99VA"], "VO", "LAS_KEY", OTHER_LOCAL)
    world.vault[ours] = cipher.encrypt(ours, record)
    assert tags_of(cipher, world.vault, ["99PA"], "PO", "LAS_KEY", "L0009") == ()


# ---- the audit of the audit


async def test_a_question_about_a_pupil_leaves_no_more_than_that_it_was_one(office: Office) -> None:
    """No id, no tag, no event, no number of rows; but who, when, and of which school."""
    await ask(office, BOARD, Question.PEOPLE, **pupil(EMMA, "ECK_ID"))
    assert office.recorded.said == [
        {
            "answer": "given", "at": office.clock, "by": BOARD, "kind": "audit-query", "question": "people",
            "role": "board", "school": "99PA",
        }
    ]  # fmt: skip


async def test_what_the_registry_does_not_know_is_not_written_down(office: Office) -> None:
    """A text that somebody typed in the wrong place may be a pupil's id, and the audit is for ever."""
    assert (await ask(office, BOARD, Question.FIND, party="l0001")).found == []
    assert (await ask(office, DELTA, Question.FIND, school="00AA")).found == []
    await refused(office, BOARD, Question.FIND, school="00AA")
    assert [leaf["question"] for leaf in office.recorded.said] == ["find"] * 3
    assert not {"party", "school"} & {name for leaf in office.recorded.said for name in leaf}


async def test_what_can_not_be_recorded_is_not_answered(office: Office) -> None:
    """Nor a refusal told, nor that somebody is unknown."""
    office.recorded.away = True
    asked: list[tuple[str, Question, dict[str, Any]]] = [
        (BOARD, Question.FIND, {}), (BOARD, Question.PEOPLE, pupil()), (BOARD, Question.PEOPLE, pupil("L9999")),
        (SIS, Question.PEOPLE, pupil()), (BOARD, Question.FIND, {"school": "99VA"}),
    ]  # fmt: skip
    for who, question, body in asked:
        with pytest.raises(TransientError) as caught:
            await ask(office, who, question, **body)
        assert caught.value.code == "audit.unrecorded"


async def test_old_views_answer_nothing(office: Office) -> None:
    """A school that left the board, or a pupil who was erased, might not be seen yet."""
    office.views.stale = True
    with pytest.raises(TransientError) as caught:
        await ask(office, BOARD, Question.FIND)
    assert caught.value.code == "view.stale"
    assert office.recorded.leaves == []


async def test_a_question_that_takes_too_long_is_given_up(office: Office) -> None:
    """SQLite is told to stop; nothing is recorded, since nothing is answered."""
    with patch.object(desk_module, "QUESTION_S", -1.0), patch("broker.audit.store._LOOK_EVERY", 1):
        with pytest.raises(TransientError) as caught:
            office.source.look(desk_module.Wanted(), -1.0)
        assert caught.value.code == "audit.too_long"
        with pytest.raises(TransientError) as caught:
            await ask(office, BOARD, Question.FIND)
    assert caught.value.code in ("audit.busy", "audit.too_long")
    assert office.recorded.leaves == []


async def test_a_proof_that_takes_too_long_is_given_up_too(office: Office) -> None:
    """Between two rows; else its thread would go on, and be one more than may be at once."""
    until = time.monotonic() + 60
    with patch.object(desk_module, "time", SimpleNamespace(monotonic=lambda: until + 1)):
        with pytest.raises(TransientError) as caught:
            office.source.look(desk_module.Wanted(), until)
        assert caught.value.code == "audit.too_long"
        assert office.source.look(desk_module.Wanted(schools=()), until).found == []


async def test_who_asks_much_at_once_keeps_nobody_else_waiting(office: Office) -> None:
    """A board whose questions take long waits for its own; another one is answered meanwhile."""
    told, began = threading.Event(), list[str]()

    class Slow(Source):
        """One board's questions wait until they are told to go on."""

        def look(self, wanted: desk_module.Wanted, *more: Any) -> desk_module.Seen:
            if wanted.schools == ("99PA",):
                began.append("99PA")
                told.wait(60)
            return super().look(wanted, *more)

    source = Slow(office.source.store, office.source.logs)
    office.desk = desk_module.Desk(source, office.views, cipher_of(office.world.keys), office.recorded)
    asked = [asyncio.create_task(ask(office, BOARD, Question.FIND, since=NOW_MS - DAY_MS)) for _ in range(9)]
    try:
        async with asyncio.timeout(10):
            while not began:  # noqa: ASYNC110 - a thread tells nobody
                await asyncio.sleep(0.01)
            found = (await ask(office, OTHER_BOARD, Question.FIND, since=NOW_MS - DAY_MS)).found
        assert [one.entry for one in found] == entries(office, school="99VA")
        assert not any(task.done() for task in asked)
    finally:
        told.set()
        answers = await asyncio.gather(*asked)
    assert {len(answer.found) for answer in answers} == {len(entries(office, school="99PA"))}


async def test_what_is_signed_and_indexed_meanwhile_is_no_false_alarm(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may know of more leaves than the checkpoint that was read a moment before: that took none back."""
    before = office.log.builder.edge.size

    class Overtaken(Query):
        """Between its look at the logs and that into the store, leaves are signed and indexed."""

        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            office.world.send(DELTA, event())
            office.index()

    monkeypatch.setattr(desk_module, "Query", Overtaken)
    answer = await ask(office, BOARD, Question.FIND)
    assert {one.status for one in answer.found} == {f"proven at size {before}"}
    assert answer.searched == {office.log.origin: (before, before)}
    assert office.log.builder.edge.size > before


async def test_the_store_can_not_be_written_through_the_service(office: Office) -> None:
    """Whatever a mistake in the service tries; and it makes no store where there is none."""
    with (
        Store(office.folder / "store", read_only=True) as store,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        store.forget(tag_of(office.world))
    with pytest.raises(BrokerError) as caught:
        Store(office.folder / "none", read_only=True)
    assert caught.value.code == "audit.store"
    assert not (office.folder / "none").exists()


def test_the_world_of_these_tests_is_as_they_need_it(office: Office) -> None:
    """Both schools have deliveries to the portal, and one school is nobody's."""
    world: World = office.world
    assert {json.loads(entry)["x"].get("school") for entry in world.leaves()} == {"99PA", "99VA", None}

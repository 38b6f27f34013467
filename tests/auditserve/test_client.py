"""What a client believes of an answer: only what is proven under a key that it has itself."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broker.audit.log.checkpoint import Checkpoint
from broker.audit.log.note import render
from broker.audit.receipt import Receipt, ReceiptError, verify
from broker.auditserve.answers import Answer
from broker.auditserve.client import Service, held_against, receipt_of
from broker.auditserve.rights import Question
from broker.errors import AccessDenied, BrokerError, ConfigError, ContractError, TransientError
from broker.wire import AUDIT_SALT
from tests.audit.signed_world import GrowingLog
from tests.auditserve.office import BOARD, LOCAL, Office
from tests.exchange.world import DELTA, PORTAL, SIS

Change = Callable[[dict[str, Any], Office], None]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two schools of two boards."""
    return Office(tmp_path)


async def said(office: Office, question: Question = Question.FIND, who: str = BOARD, **body: Any) -> dict[str, Any]:
    """An answer as it comes over the network."""
    answer: dict[str, Any] = json.loads(json.dumps(await office.desk.answer(who, question, json.dumps(body).encode())))
    return answer


def read(office: Office, content: Any) -> Answer:
    """With the key of the log."""
    return Answer.read(content, [office.log.signer.verifier])


def _another_entry(answer: dict[str, Any], office: Office) -> None:
    answer["rows"][0]["entry"] = answer["rows"][0]["entry"].replace("delivered", "duplicate").replace(SIS, DELTA)


def _another_place(answer: dict[str, Any], office: Office) -> None:
    answer["rows"][0]["index"] += 1


def _another_path(answer: dict[str, Any], office: Office) -> None:
    answer["rows"][0]["path"][0] = b64encode(bytes(32)).decode()


def _no_path(answer: dict[str, Any], office: Office) -> None:
    answer["rows"][0]["path"] = []


def _no_checkpoint(answer: dict[str, Any], office: Office) -> None:
    answer["logs"] = {}


def _resigned(answer: dict[str, Any], office: Office) -> None:
    """The same tree, signed by somebody who calls himself the log."""
    (log,) = answer["logs"].values()
    forger = GrowingLog(office.folder / "forger", "broker.example/audit/p1/1").signer
    text = log["checkpoint"].partition("\n\n")[0] + "\n"
    log["checkpoint"] = render(text, [forger.sign(text)]).decode()


def _another_log(answer: dict[str, Any], office: Office) -> None:
    """A checkpoint that is signed well, shown as that of another log."""
    (log,) = answer["logs"].values()
    answer["logs"] = {"broker.example/audit/p9/1": log}
    for row in answer["rows"]:
        row["log"] = "broker.example/audit/p9/1"


def _another_root(answer: dict[str, Any], office: Office) -> None:
    (log,) = answer["logs"].values()
    text = Checkpoint(office.log.origin, office.log.builder.edge.size, bytes(32)).text()
    log["checkpoint"] = text + "\n" + log["checkpoint"].partition("\n\n")[2]


@pytest.mark.parametrize(
    "change",
    [_another_entry, _another_place, _another_path, _no_path, _no_checkpoint, _resigned, _another_log, _another_root],
    ids=lambda change: change.__name__.removeprefix("_"),
)
async def test_a_row_that_does_not_prove_itself_is_not_called_proven(office: Office, change: Change) -> None:
    """It is shown, with what is wrong; whatever the service, or who stands between, made of it."""
    answer = await said(office)
    assert {one.problem for one in read(office, answer).found} == {None}
    change(answer, office)
    first = read(office, answer).found[0]
    assert first.problem
    assert (first.size, first.status) == (None, f"signed, not proven: {first.problem}")


async def test_nothing_is_proven_by_a_key_that_one_does_not_have(office: Office) -> None:
    """Also if the answer is right."""
    assert all(one.problem for one in Answer.read(await said(office), []).found)


@pytest.mark.parametrize(
    "content",
    [
        None, [], {}, {"rows": [], "logs": {}}, {"rows": [{}], "logs": {}, "next": None},
        {"rows": [], "logs": {"a": {"checkpoint": "no note", "indexed": 1}}, "next": None},
        {"rows": [{"log": "a", "index": 1, "entry": "{}", "path": []}], "logs": {}, "next": None},
        {"rows": [{"log": "a", "index": 1, "problem": "x", "said": {"time": 1}}], "logs": {}, "next": None},
    ],
    ids=range(8),
)  # fmt: skip
def test_what_is_no_answer_is_refused(office: Office, content: Any) -> None:
    """Instead of failing on it."""
    with pytest.raises(ContractError) as caught:
        read(office, content)
    assert caught.value.code == "audit.answer"


async def test_texts_of_the_service_can_not_command_a_terminal(office: Office) -> None:
    """A reason with control characters is shown without them."""
    answer = await said(office)
    row = answer["rows"][0]
    del row["entry"], row["path"]
    row["problem"] = "\x1b]0;owned\x07"
    row["said"] = {"time": 1, "span": "00" * 8, "sender": "\x1b[2J", "decision": "d", "code": "c", "event": "e"}
    found = read(office, answer).found[0]
    assert "\x1b" not in found.status + found.leaf.sender


async def test_a_row_that_was_not_asked_for_is_marked(office: Office) -> None:
    """A proof shows that it is a leaf, not that it is the right one."""
    found = read(office, await said(office)).found
    assert [held_against(one, {"since": one.leaf.time, "until": one.leaf.time + 1}) for one in found] == list(found)
    one = next(one for one in found if one.leaf.receiver == PORTAL)
    for asked in (
        {"event": "x"}, {"decision": "refused"}, {"code": "x"}, {"process": "x"}, {"party": SIS}, {"receiver": SIS},
        {"since": one.leaf.time + 1}, {"until": one.leaf.time},
    ):  # fmt: skip
        assert held_against(one, asked).problem == "it is not what was asked for"
    assert held_against(one, {"party": DELTA, "receiver": PORTAL, "school": None}) == one


async def test_the_receipt_is_made_by_who_has_the_salt(office: Office) -> None:
    """It is the file that `broker audit receipt` writes; with another salt or value there is none."""
    (record,) = office.world.topic(f"out.{PORTAL}.usage")[:1]
    event = office.world.delivered(PORTAL)[0].envelope["event_id"]
    salt, keys = dict(record.headers)[AUDIT_SALT], [office.log.signer.verifier]
    answer = read(office, await said(office, Question.RECEIPT, PORTAL, event=event, receiver=PORTAL))
    data = receipt_of(answer, salt, keys, record.value)
    assert verify(Receipt.parse(data), keys, record.value).side == "out"
    for wrong_salt, wrong_value in ((bytes(32), record.value), (salt, b"another"), (b"short", None)):
        with pytest.raises(ReceiptError):
            receipt_of(answer, wrong_salt, keys, wrong_value)
    with pytest.raises(ContractError) as caught:
        receipt_of(read(office, await said(office, event=event)), salt, [], record.value)
    assert caught.value.code == "audit.answer", "more than one leaf"
    unproven = await said(office, Question.RECEIPT, PORTAL, event=event, receiver=PORTAL)
    _another_path(unproven, office)
    with pytest.raises(ContractError) as caught:
        receipt_of(read(office, unproven), salt, keys)
    assert caught.value.code == "audit.unproven"


async def test_a_client_asks_and_is_told_why_not(office: Office) -> None:
    """Over TLS; each error with the service's own code, by who must act."""
    pupil = {"school": "99PA", "sector": "PO", "type": "LAS_KEY", "value": LOCAL}
    async with office.open() as server:
        service = office.service(server, BOARD)
        assert {one.problem for one in (await service.ask(Question.PEOPLE, pupil)).found} == {None}
        cases: list[tuple[Question, dict[str, Any], type[BrokerError], str]] = [
            (Question.PEOPLE, pupil | {"value": "L9999"}, AccessDenied, "audit.person"),
            (Question.FIND, {"school": "99VA"}, AccessDenied, "audit.scope"),
            (Question.FIND, {"decision": "x"}, ContractError, "audit.question"),
        ]
        for question, body, kind, code in cases:
            with pytest.raises(kind) as caught:
                await service.ask(question, body)
            assert caught.value.code == code
        office.recorded.away = True
        with pytest.raises(TransientError):
            await service.ask(Question.FIND, {})
        stranger = Service.of(service.url, *office.ca.issue_party(BOARD), None, service.verifiers)
    with pytest.raises(ConfigError, match="reached"):
        await stranger.ask(Question.FIND, {})


async def test_a_service_with_another_certificate_is_not_asked(office: Office) -> None:
    """A pupil's id goes to nobody else."""
    async with office.open() as server:
        known = office.service(server, BOARD)
        files = office.ca.issue_party(BOARD)
        for url, ca in ((known.url, None), (known.url.replace("localhost", "127.0.0.2"), office.ca.ca_file)):
            with pytest.raises(ConfigError, match=r"Nothing was asked|can not be reached"):
                await Service.of(url, *files, ca, known.verifiers).ask(Question.FIND, {})
    assert office.recorded.leaves == []


@pytest.mark.parametrize("url", ["http://localhost:1", "localhost:1", "https://", "https://a@b", "https://a/?value=x"])
def test_an_address_without_tls_is_refused(office: Office, url: str) -> None:
    """Nothing is sent in clear, and nothing stands in an address."""
    with pytest.raises(ConfigError) as caught:
        Service.of(url, *office.ca.issue_party(BOARD), office.ca.ca_file, [])
    assert caught.value.code == "audit.service"

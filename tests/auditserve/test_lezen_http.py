"""The read interface of the Logboek over real TLS: the forms of answers and errors, and that no word of it stays."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from broker.audit.ldv import ACTIVITY, PROCESSOR, SUBJECT, SUBJECT_TYPE
from broker.audit.leaf import TOKEN_TYPE
from broker.audit.log.tiles import bundle_path
from broker.auditserve import lezen
from broker.auditserve import server as server_module
from broker.auditserve.lezen import PATH
from broker.auditserve.people import ID_KINDS
from broker.auditserve.questions import MOST_BODY_BYTES
from tests.auditserve.office import BOARD, LOCAL, OTHER_BOARD, OTHER_LOCAL, Office, logs_of_production
from tests.auditserve.reading import LAS_KEY, TRACE, USE, about
from tests.exchange.world import DELTA, EMMA, NOAH, SIS

PROBLEM = "application/problem+json; charset=utf-8"
Answer = tuple[int, dict[str, str], str]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two schools of two boards."""
    return Office(tmp_path)


def problem(answer: Answer) -> tuple[int, str]:
    """Status and code of an error, which has the form of RFC 9457 and the headers of the interface."""
    status, headers, text = answer
    said = json.loads(text)
    assert headers["Content-Type"] == PROBLEM
    assert (headers["API-Version"], headers["Cache-Control"]) == ("1.1.0", "no-store")
    assert said.keys() == {"type", "title", "status", "detail", "code"}
    assert said["status"] == status
    assert said["type"] == "about:blank"
    assert said["detail"]
    return status, said["code"]


async def test_a_board_reads_over_tls(office: Office) -> None:
    """With the version of the interface, and not to be kept by what lies between."""
    async with office.open() as server:
        status, headers, text = await office.post(server, office.context(BOARD), PATH, about())
        assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
        assert (headers["API-Version"], headers["Cache-Control"]) == ("1.1.0", "no-store")
        assert len(json.loads(text)["processingActivities"]) > 3
        status, _, text = await office.post(server, office.context(BOARD), PATH, {"traceId": TRACE})
        assert (status, json.loads(text)) == (200, {"processingActivities": []})
        assert (await office.post(server, office.context(BOARD), "find"))[1].get("API-Version") is None


@pytest.mark.parametrize(
    ("who", "body", "expected"),
    [
        (BOARD, {}, (400, "audit.question")),
        (BOARD, {"startTime": 1795305600000}, (400, "audit.question")),
        (BOARD, b"[", (400, "audit.question")),
        (BOARD, about(LOCAL, TOKEN_TYPE), (400, "audit.question")),
        (BOARD, {"traceId": TRACE, "startTime": 1795305600001, "endTime": 1795305600000}, (400, "audit.span")),
        (BOARD, about(LOCAL, f"{ID_KINDS}VO/99VA/LAS_KEY"), (403, "audit.scope")),
        (SIS, about(), (403, "audit.denied")),
        (DELTA, {"traceId": TRACE}, (403, "audit.denied")),
        ("stranger", {"traceId": TRACE}, (403, "audit.who")),
    ],
    ids=["nothing", "time", "no-json", "token", "order", "other-school", "sis", "publisher", "stranger"],
)  # fmt: skip
async def test_each_refusal_is_a_problem(
    office: Office, who: str, body: dict[str, Any] | bytes, expected: tuple[int, str]
) -> None:
    """With the status that it has; a party never reads."""
    async with office.open() as server:
        answer = await office.post(server, office.context(who), PATH, body)
    assert problem(answer) == expected


async def test_what_the_interface_does_not_have_is_a_problem_too(office: Office) -> None:
    """Another method, another path; nothing of the path comes back. The other questions keep their form."""
    async with office.open() as server, aiohttp.ClientSession() as session:
        for method, path, expected in (
            ("GET", PATH, 405), ("POST", f"{PATH}/{LOCAL}", 404), ("POST", "/lezen/v1/", 404),
            ("POST", "/v1/processing-activities", 404),
        ):  # fmt: skip
            url = f"https://localhost:{server.port}{path}"
            async with session.request(method, url, ssl=office.context(BOARD)) as answer:
                text = await answer.text()
                assert answer.status == expected
                assert LOCAL not in text
                if path.startswith("/lezen/"):
                    assert problem((answer.status, dict(answer.headers), text)) == (expected, "audit.http")
                else:
                    assert json.loads(text)["error"]["code"] == "audit.http"
    assert office.recorded.leaves == []


async def test_how_much_and_how_often_have_their_limits(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is too large, one that does not come, too many questions: of one certificate, whatever it asks."""
    monkeypatch.setattr(server_module, "BODY_S", 0.05)
    never = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with office.open(per_s=0.01, burst=3) as server, aiohttp.ClientSession() as session:
        ours = office.context(BOARD)
        assert problem(await office.post(server, ours, PATH, b" " * (MOST_BODY_BYTES + 1))) == (413, "audit.http")
        async with session.post(f"https://localhost:{server.port}{PATH}", data=chunks(), ssl=ours) as answer:
            said = answer.status, dict(answer.headers), await answer.text()
            assert problem(said) == (408, "audit.http")
        assert (await office.post(server, ours, "find"))[0] == 200
        limited = await office.post(server, ours, PATH, about())
        assert problem(limited) == (429, "audit.rate")
        assert 50 <= int(limited[1]["Retry-After"]) <= 100
        assert (await office.post(server, office.context(OTHER_BOARD), PATH, {"traceId": TRACE}))[0] == 200


async def test_without_the_audit_there_is_503_and_no_line(office: Office) -> None:
    """Nor whether there is one."""
    office.recorded.away = True
    async with office.open() as server:
        for body in (about(), about("L9999"), {"traceId": TRACE}):
            answer = await office.post(server, office.context(BOARD), PATH, body)
            assert problem(answer) == (503, "audit.unrecorded")
            assert "Retry-After" in answer[1]


async def test_an_answer_that_would_not_be_whole_is_an_error(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many lines: 400. Lines that are not proven: 500, and the operator's log says no number of them."""
    async with office.open() as server:
        monkeypatch.setattr(lezen, "MOST_ROWS", 1)
        assert problem(await office.post(server, office.context(BOARD), PATH, about())) == (400, "audit.too_many")
        monkeypatch.undo()
        (office.log.folder / bundle_path(0, office.log.builder.edge.size)).unlink()
        with capture_logs() as lines:
            answer = await office.post(server, office.context(BOARD), PATH, about())
        assert problem(answer) == (500, "audit.unproven")
        assert "broker audit ask find" in answer[2]
        (office.folder / "store").write_bytes(b"damaged")
        assert problem(await office.post(server, office.context(BOARD), PATH, about())) == (500, "audit.failed")
    errors = [line for line in lines if line["log_level"] == "error"]
    assert errors == [{"error": "ConfigError", "code": "audit.unproven", "event": "audit.failed", "log_level": "error"}]


# ---- what stays


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the service's logs say, in the form that they have in production; libraries' lines of every level too."""
    with logs_of_production() as stream:
        logging.getLogger().setLevel(logging.DEBUG)
        yield stream


async def test_no_id_of_a_pupil_stays_anywhere(office: Office, written: io.StringIO) -> None:
    """In no log line, no metric, no leaf and no problem, whatever member or path it stands in; nor a token or trace."""
    canaries = (LOCAL, EMMA, OTHER_LOCAL, NOAH, EMMA.rpartition("/")[2])
    context = office.context(BOARD)
    errors = ""
    async with office.open(burst=1_000) as server:
        _, _, text = await office.post(server, context, PATH, about())
        line = json.loads(text)["processingActivities"][-1]
        token, trace = line["attributes"][SUBJECT], line["traceId"]
        mine: list[dict[str, Any]] = [{"traceId": trace}, {"traceId": trace} | about(token, TOKEN_TYPE)]
        for body in mine:
            assert (await office.post(server, context, PATH, body))[0] == 200
        for value in canaries[:4]:
            for kind in (LAS_KEY, f"{ID_KINDS}PO/99PA/ECK_ID"):
                assert (await office.post(server, context, PATH, about(value, kind)))[0] == 200
            bodies: list[Any] = [
                {ACTIVITY: USE} | {name: value}
                for name in ("traceId", SUBJECT, SUBJECT_TYPE, "startTime", "endTime", "attributes", value)
            ] + [about(value, value), about(value, TOKEN_TYPE), value, [value], {value: value}, value.encode()]
            for body in bodies:
                errors += await problem_of(office, server, context, body)
            for name in (ACTIVITY, PROCESSOR):  # these may be any text: nothing is found
                status, _, text = await office.post(server, context, PATH, {ACTIVITY: USE} | {name: value})
                assert (status, json.loads(text)) == (200, {"processingActivities": []})
            errors += await problem_of(office, server, context, {}, f"{PATH}/{value.rpartition('/')[2]}")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{server.http_port}/metrics") as answer,
        ):
            metrics = await answer.text()
    assert 'broker_audit_service_answers_total{question="processing-activities",status="200"}' in metrics
    told = written.getvalue() + metrics + errors + b"".join(office.recorded.leaves).decode()
    assert "audit.answered" in told
    assert "audit-query" in told
    hex_trace = trace.replace("-", "")
    assert [canary for canary in (*canaries, token, trace, hex_trace) if canary in told] == []


async def problem_of(office: Office, server: Any, context: ssl.SSLContext, body: Any, path: str = PATH) -> str:
    """The text of the problem that an answer is."""
    answer = await office.post(server, context, path, body)
    problem(answer)
    return answer[2]

"""The service over real TLS: who is let in, how much and how often may be asked, and that no word of it stays anywhere."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from structlog.testing import capture_logs

from broker.audit.log.tiles import bundle_path
from broker.auditserve import server as server_module
from broker.auditserve.questions import MOST_BODY_BYTES
from broker.auditserve.rights import Question
from broker.auditserve.server import AuditServer, Listening
from broker.errors import ConfigError
from broker.kafka.pki import DevelopmentCA
from tests.auditserve.office import (
    BOARD,
    LOCAL,
    OTHER_BOARD,
    OTHER_LOCAL,
    Office,
    certificate,
    logs_of_production,
    revocation_list,
)
from tests.exchange.world import DELTA, EMMA, NOAH, SIS

PUPIL = {"school": "99PA", "sector": "PO", "type": "LAS_KEY", "value": LOCAL}
NO_WAY_IN = (aiohttp.ClientError, ssl.SSLError, OSError)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Two schools of two boards."""
    return Office(tmp_path)


def code(text: str) -> str:
    """Of an error."""
    return str(json.loads(text)["error"]["code"])


async def test_a_board_asks_over_tls(office: Office) -> None:
    """Each question with its path; answers are not to be kept by what lies between."""
    async with office.open() as server:
        status, headers, text = await office.post(server, office.context(BOARD), "people", PUPIL)
        assert (status, headers["Cache-Control"], headers["Content-Type"]) == (
            200,
            "no-store",
            "application/json; charset=utf-8",
        )
        assert len(json.loads(text)["rows"]) > 3
        assert (await office.post(server, office.context(DELTA), "find"))[0] == 200
        assert (await office.post(server, office.context(BOARD), "explain", {}))[0] == 400
        async with aiohttp.ClientSession() as session:
            for path, method in (("find", "GET"), ("nothing", "POST"), ("find/x", "POST")):
                url = f"https://localhost:{server.port}/v1/{path}"
                answer = await session.request(method, url, ssl=office.context(BOARD))
                assert answer.status == (405 if method == "GET" else 404)
                assert code(await answer.text()) == "audit.http"


# ---- who is let in


async def test_without_a_certificate_of_this_authority_there_is_no_connection(office: Office, tmp_path: Path) -> None:
    """None, one of another authority under the same name, one that is over, one that is not valid yet."""
    other = DevelopmentCA(tmp_path / "other")
    other.prepare()
    contexts = [
        office.context(None), office.context(BOARD, other), certificate(office.ca, tmp_path, [BOARD], (-2, -1)),
        certificate(office.ca, tmp_path, [BOARD], (1, 2)),
    ]  # fmt: skip
    async with office.open() as server:
        for context in contexts:
            with pytest.raises(NO_WAY_IN):
                await office.post(server, context, "find")
        assert office.recorded.leaves == []
        assert (await office.post(server, certificate(office.ca, tmp_path, [BOARD]), "find"))[0] == 200


async def test_plain_http_and_old_tls_are_not_spoken(office: Office) -> None:
    """There is no way to have it listen without TLS."""
    context = office.listening().context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert (context.num_tickets, bool(context.options & ssl.OP_NO_TICKET)) == (0, True), "no session is taken up again"
    async with office.open() as server, aiohttp.ClientSession() as session:
        with pytest.raises(NO_WAY_IN):
            await session.post(f"http://localhost:{server.port}/v1/find", json={})


async def test_a_certificate_that_ends_while_connected_is_not_answered(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection may last for long; each request looks at it anew."""
    context = certificate(office.ca, tmp_path, [BOARD])
    async with office.open() as server, aiohttp.ClientSession() as session:
        url = f"https://localhost:{server.port}/v1/find"
        async with session.post(url, json={}, ssl=context) as answer:
            assert answer.status == 200
        real = ssl.cert_time_to_seconds
        monkeypatch.setattr(server_module.ssl, "cert_time_to_seconds", lambda text: real(text) - 3 * 86_400)
        async with session.post(url, json={}, ssl=context) as answer:
            assert (answer.status, code(await answer.text())) == (403, "audit.who")


async def test_a_certificate_that_was_revoked_is_not_let_in(office: Office, tmp_path: Path) -> None:
    """Once its authority's list stands in the file, and is said to count."""
    lost, kept = office.context(BOARD), office.context(OTHER_BOARD)
    number = x509.load_pem_x509_certificate((office.ca.folder / f"party-{BOARD}.pem").read_bytes()).serial_number
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(office.ca.ca_file.read_bytes() + revocation_list(office.ca, number))
    for crl in (False, True):
        listening = replace(office.listening(crl=crl), client_ca_file=authorities)
        async with AuditServer(office.desk, listening) as server:
            assert (await office.post(server, kept, "find"))[0] == 200
            if crl:
                with pytest.raises(NO_WAY_IN):
                    await office.post(server, lost, "find")
            else:
                assert (await office.post(server, lost, "find"))[0] == 200


async def test_a_name_that_the_registry_does_not_have_is_nobody(office: Office, tmp_path: Path) -> None:
    """Also two names in one certificate, none, and a certificate of the broker itself."""
    broker = ssl.create_default_context(cafile=office.ca.ca_file)
    broker.load_cert_chain(office.ca.folder / "broker-0.pem", office.ca.folder / "broker-0.key")
    contexts = [
        office.context("stranger"), office.context("99pa"), broker,
        certificate(office.ca, tmp_path, [BOARD, OTHER_BOARD]), certificate(office.ca, tmp_path, []),
    ]  # fmt: skip
    async with office.open() as server:
        for context in contexts:
            status, _, text = await office.post(server, context, "find")
            assert (status, code(text)) == (403, "audit.who")
    assert office.recorded.leaves == []


@pytest.mark.parametrize(
    ("who", "question", "body", "expected"),
    [
        (BOARD, "find", {"school": "99VA"}, (403, "audit.scope")),
        (BOARD, "find", {"school": "00AA"}, (403, "audit.scope")),
        (SIS, "people", PUPIL, (403, "audit.denied")),
        (DELTA, "find", {"party": "portaal-plein"}, (403, "audit.scope")),
        (BOARD, "people", PUPIL | {"value": OTHER_LOCAL}, (404, "audit.person")),
        (BOARD, "people", {"school": "99VA", "sector": "VO", "type": "ECK_ID", "value": NOAH}, (404, "audit.person")),
        (BOARD, "explain", {"event": "00000000-0000-4000-8000-000000000000"}, (404, "audit.event")),
    ],
    ids=["another-school", "no-school", "party-people", "party-other", "unknown", "other-board", "no-event"],
)  # fmt: skip
async def test_each_refusal_has_its_status(
    office: Office, who: str, question: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    """And is in the audit."""
    async with office.open() as server:
        status, _, text = await office.post(server, office.context(who), question, body)
    assert (status, code(text)) == expected
    assert [leaf["by"] for leaf in office.recorded.said] == [who]


async def test_unknown_and_anothers_pupil_are_the_same_bytes(office: Office) -> None:
    """Status, headers and body, but for the clock."""
    asked = [
        PUPIL | {"value": "L9999"}, PUPIL | {"value": OTHER_LOCAL},
        {"school": "99VA", "sector": "VO", "type": "ECK_ID", "value": NOAH}, PUPIL | {"school": "00AA"},
    ]  # fmt: skip
    async with office.open() as server:
        answers = [await office.post(server, office.context(BOARD), "people", body) for body in asked]
    assert (
        len({(status, tuple(sorted((headers | {"Date": ""}).items())), text) for status, headers, text in answers}) == 1
    )


# ---- how much, how often


async def test_a_body_that_is_too_large_is_not_taken(office: Office) -> None:
    """Whether its length is told before or not."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b" " * MOST_BODY_BYTES

    async with office.open() as server, aiohttp.ClientSession() as session:
        for body in (b" " * (MOST_BODY_BYTES + 1), chunks()):
            url = f"https://localhost:{server.port}/v1/find"
            async with session.post(url, data=body, ssl=office.context(BOARD)) as answer:
                assert (answer.status, code(await answer.text())) == (413, "audit.http")
    assert office.recorded.leaves == []


async def test_a_body_that_is_packed_is_not_unpacked(office: Office) -> None:
    """A few bytes can become very many; and no question is so long that it would have to be packed."""
    async with office.open() as server:
        body, headers = gzip.compress(json.dumps(PUPIL).encode()), {"Content-Encoding": "gzip"}
        status, _, text = await office.post(server, office.context(BOARD), "people", body, headers=headers)
    assert (status, code(text)) == (400, "audit.question")


async def test_a_body_that_does_not_come_is_not_waited_for(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends byte by byte holds no place."""
    monkeypatch.setattr(server_module, "BODY_S", 0.05)
    never = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    async with office.open() as server, aiohttp.ClientSession() as session:
        url = f"https://localhost:{server.port}/v1/find"
        async with session.post(url, data=chunks(), ssl=office.context(BOARD)) as answer:
            assert (answer.status, code(await answer.text())) == (408, "audit.http")


async def test_each_certificate_may_ask_only_so_often(office: Office) -> None:
    """It is told when to come back; another one is not concerned."""
    async with office.open(per_s=0.01, burst=2) as server:
        ours = office.context(BOARD)
        assert [(await office.post(server, ours, "find"))[0] for _ in range(2)] == [200, 200]
        status, headers, text = await office.post(server, ours, "find")
        assert (status, code(text)) == (429, "audit.rate")
        assert 50 <= int(headers["Retry-After"]) <= 100
        assert (await office.post(server, office.context(OTHER_BOARD), "find"))[0] == 200
    assert len(office.recorded.leaves) == 3


async def test_who_asks_too_often_writes_no_lines_into_the_log(office: Office) -> None:
    """Whatever path he asks for: it would fill the disk. The metric has them all."""
    async with office.open(per_s=0.01, burst=1) as server:
        ours = office.context(BOARD)
        with capture_logs() as lines:
            said = [await office.post(server, ours, path) for path in ("find", "find", "nothing", "/x", "/lezen/x")]
    assert [status for status, _, _ in said] == [200, 429, 429, 429, 429]
    assert [line["code"] for line in lines if line["event"] == "audit.answered"] == ["200"]
    told = office.metrics.text().decode()
    assert 'broker_audit_service_answers_total{question="find",status="429"} 1.0' in told
    assert 'broker_audit_service_answers_total{question="other",status="429"} 3.0' in told


async def held(server: AuditServer, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that is kept open; it may be at its end already."""
    reader, writer = await asyncio.open_connection("localhost", server.port, ssl=context)
    return reader, writer


async def at_its_end(reader: asyncio.StreamReader) -> None:
    """Wait until the service closes a connection; that nothing came on it."""
    with suppress(ConnectionError, ssl.SSLError):
        async with asyncio.timeout(10):
            assert await reader.read() == b""


async def test_each_certificate_may_hold_only_so_many_connections(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One beyond is closed at once, other certificates are not concerned; one that ended makes place."""
    monkeypatch.setattr(server_module, "MOST_CONNECTIONS", 2)
    async with office.open() as server:
        ours = office.context(BOARD)
        kept = [await held(server, ours) for _ in range(2)]
        reader, writer = await held(server, ours)
        await at_its_end(reader)
        writer.close()
        assert (await office.post(server, office.context(OTHER_BOARD), "find"))[0] == 200
        with pytest.raises(NO_WAY_IN):
            await office.post(server, ours, "find")
        kept[0][1].close()
        async with asyncio.timeout(10):
            while server.connections.total() > 1:  # noqa: ASYNC110 - the service hears of it some time later
                await asyncio.sleep(0.01)
        assert (await office.post(server, ours, "find"))[0] == 200
        kept[1][1].close()
        async with asyncio.timeout(10):
            while server.connections:  # noqa: ASYNC110 - and keeps no name of who is gone
                await asyncio.sleep(0.01)


async def test_a_connection_has_an_end(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends slowly, or never reads his answer, holds neither a place nor the answer for ever."""
    monkeypatch.setattr(server_module, "CONNECTION_S", 0.1)
    async with office.open() as server:
        reader, writer = await held(server, office.context(BOARD))
        writer.write(b"POST /v1/find HTTP/1.1\r\n")
        await at_its_end(reader)
        writer.close()


# ---- failures


async def test_without_the_audit_there_is_503_and_no_data(office: Office) -> None:
    """Kafka is away: no row leaves, nor whether somebody is known."""
    office.recorded.away = True
    async with office.open() as server:
        for body in (PUPIL, PUPIL | {"value": "L9999"}):
            status, headers, text = await office.post(server, office.context(BOARD), "people", body)
            assert (status, code(text)) == (503, "audit.unrecorded")
            assert "Retry-After" in headers
            assert "entry" not in text


async def test_a_service_that_fails_says_no_more_than_that(office: Office) -> None:
    """Its operator reads which file it is; who asked does not."""
    (office.folder / "store").write_bytes(b"damaged")
    async with office.open() as server:
        with capture_logs() as lines:
            status, _, text = await office.post(server, office.context(BOARD), "find")
    assert (status, code(text)) == (500, "audit.failed")
    assert str(office.folder) not in text
    assert [line.get("code") for line in lines if line["log_level"] == "error"] == ["audit.store"]
    assert office.recorded.leaves == []


async def test_what_nobody_thought_of_says_no_more_either(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of any kind, whose text may be a pupil's id."""

    async def fails(*_: object) -> None:
        raise RuntimeError(LOCAL)

    monkeypatch.setattr(office.desk, "answer", fails)
    async with office.open() as server:
        with capture_logs() as lines:
            status, _, text = await office.post(server, office.context(BOARD), "find")
    assert (status, code(text)) == (500, "audit.failed")
    assert LOCAL not in text + str(lines)


async def test_a_damaged_log_is_told_row_by_row(office: Office) -> None:
    """The rows come, each with why it is not proven."""
    (office.log.folder / bundle_path(0, office.log.builder.edge.size)).unlink()
    async with office.open() as server:
        answer = await office.service(server, BOARD).ask(Question.FIND, {})
    assert answer.found
    assert all(one.status.startswith("signed, not proven: the service says: ") for one in answer.found)


@pytest.mark.parametrize("broken", ["cert", "key", "ca", "no-ca"])
def test_files_that_are_not_what_they_must_be_are_named(office: Office, tmp_path: Path, broken: str) -> None:
    """Before anything listens; also an authority file without an authority, which would let nobody in."""
    folder, nothing = office.ca.folder, tmp_path / "nothing"
    nothing.write_bytes(b"" if broken == "no-ca" else b"nothing")
    files = {"cert": folder / "broker-0.pem", "key": folder / "broker-0.key", "ca": office.ca.ca_file}
    files[broken.removeprefix("no-")] = nothing
    with pytest.raises(ConfigError) as caught:
        Listening(files["cert"], files["key"], files["ca"]).context()
    assert caught.value.code == "audit.tls"


# ---- what stays


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the service's logs say, in the form that they have in production; libraries' lines of every level too."""
    with logs_of_production() as stream:
        logging.getLogger().setLevel(logging.DEBUG)
        yield stream


async def test_no_id_of_a_pupil_stays_anywhere(office: Office, written: io.StringIO) -> None:
    """In no log line, no metric, no leaf and no error: whatever member, path, header or broken request it stands in."""
    canaries = (LOCAL, EMMA, OTHER_LOCAL, NOAH, EMMA.rpartition("/")[2])
    context = office.context(BOARD)
    errors = ""
    async with office.open(burst=1_000) as server:
        for value in canaries[:4]:
            for id_type in ("LAS_KEY", "ECK_ID"):
                await office.post(server, context, "people", PUPIL | {"type": id_type, "value": value})
            everywhere = [
                "school",
                "party",
                "process",
                "event",
                "decision",
                "code",
                "since",
                "until",
                "before",
                "most",
                value,
            ]
            bodies: list[Any] = [{name: value} for name in everywhere] + [
                value,
                [value],
                value.encode(),
                {value: value},
            ]
            for question in Question:
                for body in bodies:
                    status, _, text = await office.post(server, context, question, body, headers={"X-Trace": value})
                    assert status != 200
                    errors += text
            name = value.rpartition("/")[2]
            errors += (await office.post(server, context, name))[2]
            errors += (await office.post(server, context, f"find?value={name}", b"["))[2]
            errors += await raw(server.port, context, f"POST /v1/people/{name} HTTP/9.{name}\r\n\r\n")
            errors += await raw(server.port, context, f"{name}\r\n\r\n")
        async with aiohttp.ClientSession() as session:
            metrics = await (await session.get(f"http://127.0.0.1:{server.http_port}/metrics")).text()
    assert 'broker_audit_service_answers_total{question="people",status="200"}' in metrics
    told = written.getvalue() + metrics + errors + b"".join(office.recorded.leaves).decode()
    assert "audit.answered" in told
    assert "audit-query" in told
    assert [canary for canary in canaries if canary in told] == []


async def raw(port: int, context: ssl.SSLContext, text: str) -> str:
    """What comes back for bytes that are no good request."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.write(text.encode())
    await writer.drain()
    async with asyncio.timeout(10):
        answer = (await reader.read()).decode()
    writer.close()
    assert answer.startswith("HTTP/1.")
    return answer

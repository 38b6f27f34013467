"""Attacks on open ports by bytes that are no request: ours, and Kafka's."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from broker.app import health
from broker.app.health import HealthServer
from broker.kafka.diagnosis import check
from tests.kafka.conftest import DEADLINE_S, Cluster

JUNK = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, where none is spoken
    b"\x00\x00\x00\x0f\x00\x12\x00\x00",  # Kafka
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20_000)) + b"\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nffffffffffffffff\r\n",
    b"GET /\x00\r\n\x1b[31m%s HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    b"\xff" * 5_000,
)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Of probes and metrics."""
    server = HealthServer(lambda: True, lambda: True, lambda: b"a 1\n")
    await server.start("127.0.0.1", 0)
    yield server.port
    await server.stop()


async def answers(port: int) -> bool:
    """Whether a probe comes through."""
    async with (
        asyncio.timeout(DEADLINE_S),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/readyz") as answer,
    ):
        return answer.status == 200


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
async def test_bytes_that_are_no_request_get_an_error_that_repeats_nothing(
    port: int, junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A status of 4xx or the end, no byte of it in answer or log; and the next probe is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with suppress(ConnectionError):
        writer.write(junk)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(DEADLINE_S):
            answer = await reader.read(100_000)
    writer.close()
    assert answer == b"" or answer.split(b" ", 2)[1][:1] == b"4"
    assert not any(piece in answer for piece in (b"aaaa", b"X-1", b"\x1b", b"\xff", b"HTTP/9.9"))
    assert "aaaa" not in caplog.text
    assert "X-1" not in caplog.text
    assert await answers(port)


async def test_connections_that_say_nothing_do_not_keep_a_probe_out(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more than there are places for: each new one is let in, the oldest give way, so descriptors stay bounded."""
    monkeypatch.setattr(health, "MOST_CONNECTIONS", 8)
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
    assert await answers(port)
    ended = 0
    async with asyncio.timeout(DEADLINE_S):
        for reader, _ in silent[:32]:
            with suppress(ConnectionError):
                assert await reader.read(1) == b""
            ended += 1
    assert ended == 32
    for _, writer in silent:
        writer.close()


async def test_a_request_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then would hold a place for ever (slow loris)."""
    monkeypatch.setattr(health, "CONNECTION_S", 0.2)
    server = HealthServer(lambda: True, lambda: True, lambda: b"")
    await server.start("127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /readyz HTTP/1.1\r\nX: ")
        async with asyncio.timeout(DEADLINE_S):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
    finally:
        await server.stop()


@pytest.mark.kafka
@pytest.mark.parametrize(
    "frame",
    [
        b"\x7f\xff\xff\xff" + b"x" * 100,
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x04\xff\xff\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["2 GiB", "negative", "no such request", "HTTP"],
)
async def test_kafka_ends_a_connection_with_frames_that_are_none_and_serves_the_others(
    cluster: Cluster, frame: bytes
) -> None:
    """Through TLS, before any login: no memory is set aside for what a length claims (`socket.request.max.bytes`)."""
    context = ssl.create_default_context(cafile=cluster.kafka.pki.ca_file)
    host, port = "127.0.0.1", cluster.kafka.layout.ports(1)[0]
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")
    async with asyncio.timeout(DEADLINE_S):
        with suppress(ConnectionError):
            writer.write(frame)
            await writer.drain()
            assert await reader.read(64) == b""
    writer.close()
    await check(cluster.connection("pub"))

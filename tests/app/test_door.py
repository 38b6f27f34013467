"""The doors of the compose file: bytes pass, and nothing else is reached."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from broker.app import door
from broker.app.door import Place, stand
from broker.errors import ConfigError
from broker.kafka.machine import free_ports

DEADLINE_S = 20.0


@asynccontextmanager
async def standing(listen: str, to: str) -> AsyncIterator[None]:
    """A door, from when somebody can come in."""
    task = asyncio.create_task(stand(Place.parse(listen), Place.parse(to)))
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                with suppress(OSError):
                    _, writer = await Place.parse(listen).connect()
                    await closed(writer)
                    break
                await asyncio.sleep(0.01)
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def asked(port: int, question: bytes) -> bytes:
    """What comes back through the outer door, until it closes."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(question)
        answer = await reader.read()
        await closed(writer)
        return answer


async def closed(writer: asyncio.StreamWriter) -> None:
    """Leaves nothing behind for the end of the loop."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def test_what_comes_to_the_outer_door_comes_to_the_one_port_inside(tmp_path: Path) -> None:
    """Through both doors and the socket file, in both directions, with more than one buffer full."""
    port = free_ports(2)
    body = b"x" * (3 * door.CHUNK_BYTES)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline() + body)
        await closed(writer)

    socket = f"unix:{tmp_path / 'door.sock'}"
    (tmp_path / "door.sock").touch()  # what a killed door left behind
    async with (
        await asyncio.start_server(answer, "127.0.0.1", port + 1),
        standing(socket, f"127.0.0.1:{port + 1}"),
        standing(f"127.0.0.1:{port}", socket),
    ):
        assert await asked(port, b"question\n") == b"question\n" + body


async def test_a_door_that_leads_to_nobody_closes_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever comes is not left waiting, who comes later gets through, and nobody is told of an error in the door."""
    port = free_ports(1)
    inside = tmp_path / "inside.sock"

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        await closed(writer)

    async with standing(f"127.0.0.1:{port}", f"unix:{inside}"):
        assert await asked(port, b"") == b""
        async with await asyncio.start_unix_server(answer, inside):
            assert await asked(port, b"") == b"here"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_one_visitor_too_many_is_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as a browser needs, and no more: each takes memory and files."""
    monkeypatch.setattr(door, "MOST_CONNECTIONS", 1)
    port, inside, came = free_ports(1), tmp_path / "inside.sock", asyncio.Event()

    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"come in")
        if await reader.read(1):
            came.set()
        await reader.read()
        await closed(writer)

    async with await asyncio.start_unix_server(stay, inside), standing(f"127.0.0.1:{port}", f"unix:{inside}"):
        async with asyncio.timeout(DEADLINE_S):
            while True:  # until the one that looked whether the door stands has left
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                if await reader.read(7):
                    break
                await closed(writer)
            writer.write(b"1")
            await came.wait()
        assert await asked(port, b"") == b""
        await closed(writer)


@pytest.mark.parametrize("text", ["3000", "unix:", "host:", "host:0", "host:70000", ":3000"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    """With what it should look like."""
    with pytest.raises(ConfigError, match="neither unix:/path nor host:port"):
        Place.parse(text)

"""The ways to Kafka that the hostile run hinders: open, slow, silent, cut, and open again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from chaos import proxy
from chaos.proxy import Way


@pytest.fixture
async def way() -> AsyncIterator[tuple[Way, int]]:
    """A way to a server that sends back what it gets, and its port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    made = Way(server.sockets[0].getsockname()[:2])
    yield made, await made.start()
    await made.stop()
    server.close()


async def answer(port: int, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None) -> bytes:
    """What comes back within a moment, over a new connection or one that is there; b"" when it is closed."""
    reader, writer = streams or await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"here")
    try:
        return await asyncio.wait_for(reader.read(100), 1.0)
    except ConnectionError:
        return b""
    finally:
        if streams is None:
            writer.close()
            await asyncio.sleep(proxy.CLOSE_S)


async def test_a_way_that_is_cut_closes_what_is_there_and_what_comes(way: tuple[Way, int]) -> None:
    """Until it is open again."""
    made, port = way
    streams = await asyncio.open_connection("127.0.0.1", port)
    assert await answer(port, streams) == b"here"
    await made.be("cut")
    assert await answer(port, streams) == b""
    assert await answer(port) == b""
    await made.be("open")
    assert await answer(port) == b"here"


async def test_a_silent_way_stands_and_passes_on_afterwards_what_it_held_back(way: tuple[Way, int]) -> None:
    """The connection is the same one."""
    made, port = way
    streams = await asyncio.open_connection("127.0.0.1", port)
    await made.be("silent")
    with pytest.raises(TimeoutError):
        await answer(port, streams)
    await made.be("open")
    assert await asyncio.wait_for(streams[0].read(100), 1.0) == b"here"
    streams[1].close()


async def test_a_slow_way_takes_its_time(way: tuple[Way, int]) -> None:
    """In both directions."""
    made, port = way
    await made.be("slow")
    began = time.monotonic()
    assert await answer(port) == b"here"
    assert time.monotonic() - began >= 2 * proxy.SLOW_S


async def test_a_way_to_a_server_that_is_away_closes(unused_tcp_port: int) -> None:
    """As the server's own port would refuse."""
    made = Way(("127.0.0.1", unused_tcp_port))
    assert await answer(await made.start()) == b""
    await made.stop()

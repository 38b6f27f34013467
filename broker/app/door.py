"""A door: passes what comes to one place on to another, byte for byte.

The compose file keeps everything in a network namespace that has no way out but its own loopback. A browser is outside.
Two of these doors and a socket file between them let it come to one port inside, and to nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from broker.errors import ConfigError

UNIX: Final = "unix:"
CHUNK_BYTES: Final = 1 << 16
CONNECT_S: Final = 5.0
MOST_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where connections come to or go to: a socket file, or a port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Place:
        """Reads `unix:/path/of.sock` or `host:port`.

        Raises:
            ConfigError: it is neither.
        """
        if text.startswith(UNIX) and len(text) > len(UNIX):
            return cls(path=Path(text.removeprefix(UNIX)))
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"{text!r} is neither unix:/path nor host:port. Correct it.", code="door.place")
        return cls(host=host, port=int(port))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to it."""
        async with asyncio.timeout(CONNECT_S):
            if self.path is not None:
                return await asyncio.open_unix_connection(self.path)
            return await asyncio.open_connection(self.host, self.port)

    async def listen(
        self, come: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    ) -> asyncio.AbstractServer:
        """Let connections come."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)  # what a killed one left behind
            return await asyncio.start_unix_server(come, self.path)
        return await asyncio.start_server(come, self.host, self.port)


async def stand(listen: Place, to: Place) -> None:
    """Pass connections on until cancelled; one that finds nobody there is closed, and so is one too many."""
    free, visitors = asyncio.Semaphore(MOST_CONNECTIONS), set[asyncio.Task[None]]()

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.add(visit := cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            if not free.locked():
                async with free:
                    await _through(reader, writer, to)
        except asyncio.CancelledError:
            pass  # the door goes; asyncio of Python 3.11 would log the end of this task as an error
        finally:
            await _close(writer)
            visitors.discard(visit)

    try:
        async with await listen.listen(come) as server:
            await server.serve_forever()
    finally:
        left = tuple(visitors)
        for visit in left:
            visit.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: Place) -> None:
    """Both directions, until either side ends."""
    try:
        there, back = await to.connect()
    except (OSError, TimeoutError):
        return
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pass(reader, back))
            both.create_task(_pass(there, writer))
    finally:
        await _close(back)


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(CHUNK_BYTES):
            target.write(chunk)
            await target.drain()
    except OSError:
        pass  # that side went away: the other learns of it by the end of its own
    finally:
        target.close()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()

"""A way to one broker that can be cut, silenced and slowed: TCP, passed on byte by byte."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Literal

Mode = Literal["open", "cut", "silent", "slow"]
CHUNK_BYTES: Final = 1 << 16
CLOSE_S: Final = 0.01  # sockets close a step of the loop later
SLOW_S: Final = 0.08  # of each chunk
SLOW_BYTES_PER_S: Final = 300_000


class Way:
    """Listens on a port of its own, and passes everything on to a server.

    Modes: `open`; `cut`: connections are closed, and new ones too; `silent`: they stay, and nothing comes through;
    `slow`.

    Args:
        to: host and port of the server.
    """

    def __init__(self, to: tuple[str, int]) -> None:
        self._to, self._mode = to, "open"
        self._changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.sleep(CLOSE_S)

    async def be(self, mode: Mode) -> None:
        """Behave like this from now on."""
        async with self._changed:
            self._mode = mode
            self._changed.notify_all()
        if mode == "cut":
            for writer in self._writers:
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._mode == "cut":
                return
            far_reader, far_writer = await asyncio.open_connection(*self._to)
        except OSError:  # that broker is away
            return
        else:
            await self._both(reader, writer, far_reader, far_writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        self._writers.add(far_writer)
        ways = [asyncio.create_task(self._pass(*way)) for way in ((reader, far_writer), (far_reader, writer))]
        self._tasks.update(ways)
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ways:
                task.cancel()
            self._tasks.difference_update(ways)
            self._writers.discard(far_writer)
            far_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                if self._mode == "silent":
                    async with self._changed:
                        await self._changed.wait_for(lambda: self._mode != "silent")
                if self._mode == "slow":
                    await asyncio.sleep(SLOW_S + len(data) / SLOW_BYTES_PER_S)
                writer.write(data)
                await writer.drain()

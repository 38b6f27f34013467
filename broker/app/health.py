"""A small HTTP endpoint for probes and Prometheus: /livez, /readyz, /metrics. Loopback unless set otherwise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

MOST_CONNECTIONS: Final = 64  # at once; the oldest gives way, so that a probe always comes through
CONNECTION_S: Final = 10.0  # of one connection, whatever goes on


class _Handler(web.RequestHandler):
    """One connection of a few, which ends in time: aiohttp itself would wait for a request without end.

    Each is a file descriptor of the process, whose lanes need theirs. Says nothing of a request that it can not read:
    aiohttp would quote it, in its answer and in its log.
    """

    def __init__(self, server: web.Server, open_now: dict[asyncio.Transport, None], **settings: Any) -> None:
        super().__init__(server, **settings)
        self._open_now = open_now
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        connection = cast("asyncio.Transport", transport)
        while len(self._open_now) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open_now))
            del self._open_now[oldest]
            oldest.abort()
        self._open_now[connection] = None
        self._end = asyncio.get_running_loop().call_later(CONNECTION_S, connection.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._end is not None:
            self._end.cancel()
        self._open_now.pop(cast("asyncio.Transport", self.transport), None)
        super().connection_lost(exc)

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        del request, exc, message
        response = web.Response(text="not a request that can be read\n", status=status)
        response.force_close()
        return response


class HealthServer:
    """Serves fixed paths; takes no input. `/healthz` is the older name of `/livez`.

    Args:
        alive: whether the process should go on living: it gets on with its work, or has none.
        ready: whether it serves.
        metrics: the exposition text.
    """

    def __init__(self, alive: Callable[[], bool], ready: Callable[[], bool], metrics: Callable[[], bytes]) -> None:
        async def livez(_: web.Request) -> web.Response:
            return _answer(alive())

        async def readyz(_: web.Request) -> web.Response:
            return _answer(ready())

        async def text(_: web.Request) -> web.Response:
            return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.router.add_get("/livez", livez)
        app.router.add_get("/healthz", livez)
        app.router.add_get("/readyz", readyz)
        app.router.add_get("/metrics", text)
        self._runner = web.AppRunner(app, access_log=None)
        self._listening: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` 0 takes a free one, which is then in `self.port`."""
        await self._runner.setup()
        loop, open_now = asyncio.get_running_loop(), dict[asyncio.Transport, None]()

        def handler() -> _Handler:
            return _Handler(cast("web.Server", self._runner.server), open_now, loop=loop, access_log=None)

        self._listening = await loop.create_server(handler, host, port)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()


def _answer(good: bool) -> web.Response:
    return web.Response(text="ok\n" if good else "not ok\n", status=200 if good else 503)


@contextmanager
def answering(host: str, port: int, metrics: Callable[[], bytes]) -> Iterator[None]:
    """Answer probes while a start waits, alive and not ready: else what waits is ended for it, again and again.

    Args:
        port: 0 for none. metrics: the exposition text meanwhile; is called in another thread.

    Raises:
        OSError: it can not listen there.
    """
    if not port:
        yield
        return
    loop = asyncio.new_event_loop()
    server = HealthServer(lambda: True, lambda: False, metrics)
    loop.run_until_complete(server.start(host, port))
    thread = threading.Thread(target=loop.run_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(server.stop())
        loop.close()

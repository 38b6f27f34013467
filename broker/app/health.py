"""A small HTTP endpoint for probes and Prometheus: /livez, /readyz, /metrics. Loopback unless set otherwise."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


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
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` 0 takes a free one, which is then in `self.port`."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()


def _answer(good: bool) -> web.Response:
    return web.Response(text="ok\n" if good else "not ok\n", status=200 if good else 503)

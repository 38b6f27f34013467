"""A small HTTP endpoint for probes and Prometheus: /healthz, /readyz, /metrics. Loopback unless set otherwise."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST


class HealthServer:
    """Serves three fixed paths; takes no input.

    Args:
        healthy: whether the process should go on living.
        ready: whether it serves.
        metrics: the exposition text.
    """

    def __init__(self, healthy: Callable[[], bool], ready: Callable[[], bool], metrics: Callable[[], bytes]) -> None:
        async def healthz(_: web.Request) -> web.Response:
            return _answer(healthy())

        async def readyz(_: web.Request) -> web.Response:
            return _answer(ready())

        async def text(_: web.Request) -> web.Response:
            return web.Response(body=metrics(), headers={"Content-Type": CONTENT_TYPE_LATEST})

        app = web.Application()
        app.router.add_get("/healthz", healthz)
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

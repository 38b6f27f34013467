"""The loop of a service that looks at what is new, again and again, until it is told to end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, generate_latest

from broker.app.health import HealthServer
from broker.errors import BrokerError, told

log = structlog.get_logger("broker.auditlog")

_EXPECTED: Final = (BrokerError, OSError, sqlite3.Error)


async def keep_looking(
    look: Callable[[], object],
    *,
    event: str,
    look_s: float,
    failures: Counter,
    registry: CollectorRegistry,
    http: tuple[str, int] | None,
) -> None:
    """Look until cancelled. A look that fails is told and tried again: a log may just be moved, a disk be full.

    Args:
        look: runs in a thread, so that probes are answered meanwhile. look_s: pause between two looks.
        event: under which failures are logged. failures: counts them, by the label `kind`.
        registry: of the metrics that are served. http: where, with probes: host and port; None: nowhere. Ready means
            that the last look went well.
    """
    good = False
    health = HealthServer(lambda: True, lambda: good, lambda: generate_latest(registry))
    if http is not None:
        await health.start(*http)
    try:
        while True:
            try:
                await asyncio.to_thread(look)
                good = True
            except _EXPECTED as error:
                good = False
                failures.labels(type(error).__name__).inc()
                log.warning(event, error=told(error), retry_s=look_s)
            await asyncio.sleep(look_s)
    finally:
        await health.stop()

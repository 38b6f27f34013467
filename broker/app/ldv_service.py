"""`broker ldv export` as a process: signals, the registry's view, the endpoint of its metrics."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import structlog

from broker.app.health import HealthServer
from broker.app.ldv_collector import Collector, Endpoint
from broker.app.ldv_export import Exporter, ExportLimits, ExportMetrics, LiveRegistry
from broker.app.ldv_leaves import KafkaLeaves
from broker.audit.otlp import require_messages
from broker.engine import KafkaClients, RegistryView
from broker.errors import ConfigError, TransientError
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import check

log = structlog.get_logger("broker.ldv")

REGISTRY_S = 60.0


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What one process exports.

    Args:
        board: whose lines; None: those of the broker's own register.
        idle_s: end when no leaf came for so long; None: run until SIGTERM.
        http_port: of /healthz, /readyz and /metrics; 0: none.
    """

    connection: KafkaConnection
    board: str | None
    endpoint: Endpoint
    idle_s: float | None = None
    http_host: str = "127.0.0.1"
    http_port: int = 0
    limits: ExportLimits = field(default_factory=ExportLimits)


async def serve(job: ExportJob) -> ExportMetrics:
    """Export until SIGTERM, SIGINT or idleness; gives what was counted.

    Raises:
        ConfigError: as `Exporter.run`, and `ldv.board`, `ldv.extra`, `topic.missing`, `kafka.*`.
        TransientError: `registry.absent`, the registry could not be read within a minute.
    """
    require_messages()
    await check(job.connection)
    metrics = ExportMetrics()
    async with AsyncExitStack() as stack:
        view = RegistryView(KafkaClients(job.connection))
        following = asyncio.create_task(view.run())
        stack.push_async_callback(_ended, following)
        await _known(view, job.board)
        leaves = await stack.enter_async_context(KafkaLeaves(job.connection, job.board))
        collector = await stack.enter_async_context(Collector(job.endpoint))
        exporter = Exporter(leaves, collector, LiveRegistry(view), job.board, metrics, job.limits)
        metrics.watch(exporter)
        if job.http_port:
            http = HealthServer(lambda: True, lambda: bool(exporter.lag()), metrics.text)
            await http.start(job.http_host, job.http_port)
            stack.push_async_callback(http.stop)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, exporter.stop)
            stack.callback(loop.remove_signal_handler, number)
        log.info("ldv.ready", group=leaves.group)
        exporting = asyncio.create_task(exporter.run(job.idle_s))
        stack.push_async_callback(_ended, exporting)
        await asyncio.wait((following, exporting), return_when=asyncio.FIRST_COMPLETED)
        if not exporting.done():
            await following  # it never ends but by an error
        await exporting
    return metrics


async def _known(view: RegistryView, board: str | None) -> None:
    try:
        async with asyncio.timeout(REGISTRY_S):
            await view.loaded()
    except TimeoutError:
        raise TransientError(
            f"The registry could not be read within {REGISTRY_S:g} seconds. Check that the topic is there and that "
            "this user may read it: `broker topics apply --registry` sets both.",
            code="registry.absent",
        ) from None
    if board is not None and board not in view.current.boards:
        raise ConfigError(
            f"The registry has no board {board!r}. Take the id of a board in it, or --own for what belongs to none.",
            code="ldv.board",
        )


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

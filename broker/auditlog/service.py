"""The process behind `broker auditlog run`: one builder for each audit partition, witnesses, metrics and probes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

import structlog
from aiokafka import TopicPartition
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from broker.app.health import HealthServer
from broker.app.scrape import new_registry, watch_disk
from broker.auditlog.book import TOPIC, SigningKeys
from broker.auditlog.builder import BuilderConfig, LogBuilder, Sealed, Watcher
from broker.auditlog.witnessing import Witnessing, WitnessingConfig
from broker.engine import Clients, CompactedTail, TopicCounts
from broker.exchange.model import AUDIT_CONTROL, AUDIT_EVENTS

log = structlog.get_logger("broker.auditlog")

SECONDS: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0, 60.0, 600.0)


class LogMetrics(Watcher):
    """What is counted of all logs."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self._size = Gauge("broker_auditlog_leaves", "Leaves that are signed.", ("log",), registry=registry)
        self._at = Gauge(
            "broker_auditlog_checkpoint_timestamp_seconds", "When the last checkpoint was signed.", ("log",),
            registry=registry,
        )  # fmt: skip
        self._current = Gauge(
            "broker_auditlog_current_timestamp_seconds",
            "All committed records of a partition before then are signed; 0: this process did not come so far.",
            ("topic", "partition"), registry=registry,
        )  # fmt: skip
        self._stopped = Gauge(
            "broker_auditlog_stopped", "1: the history does not fit, nothing is signed.", ("topic", "partition"),
            registry=registry,
        )  # fmt: skip
        self._failures = Counter(
            "broker_auditlog_failures_total", "Times that a builder began again, by type of error.", ("kind",),
            registry=registry,
        )  # fmt: skip
        self._delay = Histogram(
            "broker_auditlog_evidence_seconds",
            "From the timestamp of the oldest record in a checkpoint until that is shown.",
            buckets=SECONDS,
            registry=registry,
        )
        self.stopped: dict[TopicPartition, bool] = {}

    def sealed(self, sealed: Sealed) -> None:
        """See Watcher."""
        now = time.time()
        self._size.labels(sealed.name.id).set(sealed.size)
        self._at.labels(sealed.name.id).set(now)
        self._delay.observe(max(0.0, now - sealed.oldest_ms / 1000))
        self._stop(sealed.name.place, stopped=False)

    def begins(self, place: TopicPartition) -> None:
        """A partition is to be signed: from now on it is missed, also if its builder never comes so far."""
        self._current.labels(place.topic, place.partition).set(0)

    def current(self, place: TopicPartition, at_s: float) -> None:
        """See Watcher."""
        self._current.labels(place.topic, place.partition).set(at_s)

    def failed(self, place: TopicPartition, error: BaseException, *, stopped: bool) -> None:
        """See Watcher."""
        self._failures.labels(type(error).__name__).inc()
        self._stop(place, stopped=stopped)

    def _stop(self, place: TopicPartition, *, stopped: bool) -> None:
        self.stopped[place] = stopped
        self._stopped.labels(place.topic, place.partition).set(stopped)

    def text(self) -> bytes:
        """For Prometheus."""
        return generate_latest(self.registry)


class LogService:
    """All logs of an installation.

    Args:
        base: of the names of all logs. root: their folder.
        http: host and port of probes and metrics; None: none.
        witnesses: who cosigns the logs; None: nobody is asked.
    """

    def __init__(
        self,
        base: str,
        clients: Clients,
        keys: SigningKeys,
        root: Path,
        *,
        config: BuilderConfig | None = None,
        http: tuple[str, int] | None = None,
        witnesses: WitnessingConfig | None = None,
    ) -> None:
        self._base, self._clients, self._keys, self._root = base, clients, keys, root
        self._config, self._http = config or BuilderConfig(), http
        self.metrics = LogMetrics()
        watch_disk(self.metrics.registry, root)
        self._tail = CompactedTail(clients, TOPIC)
        self._witnessing = None if witnesses is None else Witnessing(root, witnesses, self.metrics.registry)

    async def run(self) -> None:
        """Build until cancelled; what it began is ended then."""
        health = HealthServer(lambda: True, self._ready, self.metrics.text)
        async with asyncio.TaskGroup() as group:
            if self._http is not None:
                await health.start(*self._http)
            try:
                group.create_task(self._tail.run())
                if self._witnessing is not None:
                    group.create_task(self._witnessing.run())
                for topic, count in (await self._partitions()).items():
                    for number in range(count):
                        group.create_task(self._builder(TopicPartition(topic, number)).run())
                await asyncio.Event().wait()
            finally:
                await health.stop()

    def _builder(self, place: TopicPartition) -> LogBuilder:
        self.metrics.begins(place)
        return LogBuilder(
            self._base, place, self._clients, self._keys, self._root, self._tail, self._config, self.metrics
        )  # fmt: skip

    async def _partitions(self) -> Mapping[str, int]:
        counts = TopicCounts(self._clients)
        try:
            await counts.require([AUDIT_EVENTS, AUDIT_CONTROL, TOPIC])
            return {topic: counts.partitions(topic) for topic in (AUDIT_EVENTS, AUDIT_CONTROL)}
        finally:
            await counts.close()

    def _ready(self) -> bool:
        return self._tail.caught_up() and not any(self.metrics.stopped.values())


async def run_until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or SIGINT, then end in order."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("auditlog.ended")

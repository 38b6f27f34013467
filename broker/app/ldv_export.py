"""Brings the lines of one controller to its Logboek Dataverwerkingen.

Every line arrives, some twice: Kafka's position moves only behind lines that the collector has taken, so after a
failure the last request comes again, and a `span_id` tells that it is the same line. A line that the collector does
not take ends the export; none is passed over. That a line is *kept* does not depend on any of this: it was
acknowledged by Kafka in the transaction of its decision, before the first exporter saw it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeVar

import structlog
from prometheus_client import Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector as MetricSource

from broker.app.ldv_boards import Boards
from broker.app.ldv_collector import Busy, Pauses, Rejected
from broker.app.ldv_leaves import Leaf, Leaves, Place
from broker.app.scrape import new_registry
from broker.audit.ldv import LdvLine, entry_of
from broker.audit.otlp import request_of
from broker.engine import RegistryView
from broker.errors import ConfigError, ContractError
from broker.registry import Registry

log = structlog.get_logger("broker.ldv")

T = TypeVar("T")
REGISTRY_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class ExportLimits:
    """Bounds of an export.

    Args:
        lines: in one request.
        stop_s: how long a request may still run after `stop`.
        pauses: between attempts.
    """

    lines: int = 500
    stop_s: float = 5.0
    pauses: Pauses = field(default_factory=Pauses)


class Sender(Protocol):
    """The exporter's seam to the Logboek: `broker.app.ldv_collector.Collector`, or anything that takes OTLP."""

    async def send(self, body: bytes) -> None:
        """Return once all lines of the request are taken.

        Raises:
            Busy, Rejected, ConfigError: see Collector.
        """


class Directory(Protocol):
    """The registry, as it is when it is asked."""

    async def current(self) -> Registry:
        """At least as new as everything that was read before the call."""


class LiveRegistry:
    """Follows the registry's topic (`RegistryView`)."""

    def __init__(self, view: RegistryView) -> None:
        self._view = view

    async def current(self) -> Registry:
        """See Directory. Waits as long as the newest registry can not be read: it may say that a line is another's."""
        await self._view.confirmed_after(time.monotonic())
        while self._view.invalid is not None:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(REGISTRY_LOOK_S)
        return self._view.current


class Stopped(Exception):
    """`Exporter.stop` was called."""


class _Line(NamedTuple):
    leaf: Leaf
    line: LdvLine


class ExportMetrics:
    """What is counted, in a registry of its own; no label comes from a line."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.leaves = Counter("broker_ldv_leaves_total", "Leaves read and done, of all boards.", registry=self.registry)
        self.lines = Counter("broker_ldv_lines_total", "Lines that the Logboek took.", registry=self.registry)
        self.requests = Counter(
            "broker_ldv_requests_total", "Requests, by what came of them.", ("result",), registry=self.registry
        )
        self._lag = _Lag()
        self.registry.register(self._lag)

    def watch(self, exporter: Exporter) -> None:
        """Read an exporter's lag at every scrape."""
        self._lag.exporter = exporter

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class _Lag(MetricSource):
    exporter: Exporter | None = None

    def collect(self) -> Iterator[Metric]:
        lag = GaugeMetricFamily(
            "broker_ldv_lag_records", "Leaves that were not looked at yet.", labels=("topic", "partition")
        )
        for place, records in (self.exporter.lag() if self.exporter is not None else {}).items():
            lag.add_metric((place.topic, str(place.partition)), records)
        yield lag


class Exporter:
    """Exports the lines of one controller.

    Args:
        board: whose; None: those of the broker's own register.
    """

    def __init__(
        self,
        leaves: Leaves,
        sender: Sender,
        directory: Directory,
        board: str | None,
        metrics: ExportMetrics,
        limits: ExportLimits | None = None,
    ) -> None:
        self._leaves, self._sender, self._directory, self._board = leaves, sender, directory, board
        self._metrics, self._limits = metrics, limits or ExportLimits()
        self._done: dict[Place, int] = {}
        self._seen: Mapping[Place, int] = {}  # ends at a moment when nothing more came: markers are no leaves
        self._stopping = asyncio.Event()
        self._boards: tuple[Registry, Boards] | None = None

    def stop(self) -> None:
        """End soon: a request that is under way may still be answered, and what was taken is committed."""
        self._stopping.set()

    def lag(self) -> Mapping[Place, int]:
        """How many records of each partition were not looked at yet, where that is known."""
        found = {}
        for place, end in self._leaves.ends().items():
            known = [at[place] for at in (self._done, self._seen) if place in at]
            if known:
                found[place] = max(0, end - max(known))
        return found

    async def run(self, idle_s: float | None = None) -> None:
        """Export until `stop`.

        Args:
            idle_s: end when no leaf came for so long; None: never.

        Raises:
            ConfigError: `ldv.rejected` or `ldv.line`, with topic, partition and offset of the line that is the reason;
                `ldv.endpoint`; `ldv.lost`. What was taken before is committed.
        """
        last = time.monotonic()
        while not self._stopping.is_set() and (idle_s is None or time.monotonic() - last < idle_s):
            batch = await self._leaves.fetch()
            if batch:
                try:
                    await self._export(batch)
                except Stopped:
                    return
                last = time.monotonic()
            else:
                self._seen = self._leaves.ends()

    # ---- one batch

    async def _export(self, batch: Sequence[Leaf]) -> None:
        """Send what is ours, and commit up to the first line that is not taken.

        Raises:
            Stopped, ConfigError.
        """
        registry = await self._unless_stopped(self._directory.current())
        mine, good, bad = self._mine(batch, self._boards_of(registry))
        taken: list[_Line] = []
        try:
            for begin in range(0, len(mine), self._limits.lines):
                await self._deliver(mine[begin : begin + self._limits.lines], taken)
        finally:
            # The lines go out in their order, so what was taken is a beginning of them.
            await self._commit(good, mine[len(taken) :])
        if bad is not None:
            raise bad

    def _mine(self, batch: Sequence[Leaf], boards: Boards) -> tuple[list[_Line], Sequence[Leaf], ConfigError | None]:
        """Lines of this controller, the leaves they were found among, and what ended the search before its end."""
        found: list[_Line] = []
        for number, leaf in enumerate(batch):
            try:
                entry = entry_of(leaf.value)
            except ContractError as error:
                return found, batch[:number], _ending(str(error), "ldv.line", leaf)
            if entry.line is not None and boards.of(entry) == self._board:
                found.append(_Line(leaf, entry.line))
        return found, batch, None

    def _boards_of(self, registry: Registry) -> Boards:
        if self._boards is None or self._boards[0] is not registry:
            self._boards = registry, Boards(registry)
        return self._boards[1]

    async def _deliver(self, lines: Sequence[_Line], taken: list[_Line]) -> None:
        """Send lines in their order; of a request that is not taken one half, then the other.

        Two more requests for each halving find the first guilty one: at most 18 among 500. Of a request that was taken
        in part they hold lines that the collector has already.

        Raises:
            ConfigError: `ldv.rejected`, with the place of the first line that is not taken even alone.
        """
        try:
            await self._send(request_of(line for _, line in lines))
        except Rejected as error:
            if len(lines) == 1:
                text = f"{error} It is one line, sent alone. The position stays before it; see docs/ldv.md."
                raise _ending(text, "ldv.rejected", lines[0].leaf) from error
            half = len(lines) // 2
            await self._deliver(lines[:half], taken)
            await self._deliver(lines[half:], taken)
        else:
            taken += lines
            self._metrics.lines.inc(len(lines))

    async def _send(self, body: bytes) -> None:
        """One request, as often as it takes."""
        attempt = 0
        while True:
            if self._stopping.is_set():
                raise Stopped
            try:
                await self._unless_stopped(self._sender.send(body), self._limits.stop_s)
            except Busy as busy:
                attempt += 1
                self._metrics.requests.labels("busy").inc()
                pause = self._limits.pauses.before(attempt, busy.after_s)
                log.warning("ldv.busy", code=busy.code, text=str(busy), failures=attempt, retry_s=round(pause, 1))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
            except Rejected:
                self._metrics.requests.labels("rejected").inc()
                raise
            else:
                self._metrics.requests.labels("taken").inc()
                return

    async def _commit(self, batch: Sequence[Leaf], left: Sequence[_Line]) -> None:
        """Move the position of each partition behind the batch, or to the first line in it that is left."""
        positions = {leaf.place: leaf.offset + 1 for leaf in batch}
        for leaf, _ in reversed(left):
            positions[leaf.place] = leaf.offset
        self._metrics.leaves.inc(sum(leaf.offset < positions[leaf.place] for leaf in batch))
        self._done |= positions
        if positions:
            await self._leaves.commit(positions)

    async def _unless_stopped(self, work: Awaitable[T], grace_s: float = 0.0) -> T:
        """What the work gives; after `stop` it has some seconds left.

        Raises:
            Stopped: they are over.
        """
        task, stop = asyncio.ensure_future(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait((task,), timeout=grace_s)
            if not task.done():
                raise Stopped
            return task.result()
        finally:
            for one in (task, stop):
                one.cancel()
            await asyncio.gather(task, stop, return_exceptions=True)


def _ending(text: str, code: str, leaf: Leaf) -> ConfigError:
    """The error that ends an export, also on the log: where the line stands, and nothing of what it says."""
    topic, partition = leaf.place
    log.critical(code, code=code, topic=topic, partition=partition, offset=leaf.offset)
    return ConfigError(text, code=code, topic=topic, partition=partition, offset=leaf.offset)

"""Makes leaves of what parties counted: reads `audit.counts`, and writes what is good to `audit.control`, once.

    take over -> read where it stands -> [read -> verify -> one transaction: leaves, last counts, position]*
    any failure -> drop the producer, back off, begin again at "take over"

Every party may write to `audit.counts`; a note proves by its signature whose it is. What is not good is passed over,
counted and told by its reason: its content is nobody's word, so it is shown nowhere.

Where it stands is on `counts.state` (compacted), written in the transaction that writes the leaves, under one
transactional id: who takes over shuts an older one out, ends what that left open, and reads his own last state back.
So a count becomes one leaf whenever the process is killed. What a consumer group remembers is not asked (ADR 12).

    @audit.counts/0    {"next": <offset>}                                   where to go on
    <flow>             {"last": <number>, "text": <SHA-256 of the text>}    the last count of a flow that is a leaf
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from prometheus_client import Counter as Total
from prometheus_client import Gauge, generate_latest

from broker.app.health import HealthServer
from broker.app.scrape import new_registry
from broker.auditlog.judging import Budget, Kept, Last, judge
from broker.engine import Clients, CompactedTail, EngineConfig, RegistryView, TopicCounts
from broker.engine.ending import end_within
from broker.engine.failures import pause_s
from broker.engine.transaction import LaneProducer, pack, settle, stop_producer, write
from broker.errors import ConfigError, told
from broker.exchange.model import AUDIT_CONTROL, Outgoing
from broker.kafka.access import COUNT_KEEPER
from broker.kafka.closing import told_to_end

log = structlog.get_logger("broker.auditlog")

TOPIC: Final = "audit.counts"
STATE_TOPIC: Final = "counts.state"


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """How long the keeper waits.

    Attributes:
        idle_s: of one look, while nothing comes. batch: notes of one transaction, at most.
        backoff_s: first and longest pause after a failure.
        takeover_s: time-out of taking over, and of waiting until the registry is current. stop_s: of ending.
    """

    idle_s: float = 1.0
    batch: int = 500
    backoff_s: tuple[float, float] = (0.5, 10.0)
    takeover_s: float = 30.0
    stop_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Places:
    """The partitions that it reads and writes."""

    source: TopicPartition
    control: TopicPartition
    state: TopicPartition

    @property
    def position_key(self) -> str:
        """On the state's topic; no flow begins like that."""
        return f"@{self.source.topic}/{self.source.partition}"


PLACES: Final = Places(*(TopicPartition(topic, 0) for topic in (TOPIC, AUDIT_CONTROL, STATE_TOPIC)))


class KeeperMetrics:
    """What is counted of counts."""

    def __init__(self) -> None:
        self.registry = registry = new_registry()
        self.leaves = Total("broker_counts_leaves_total", "Counts that became leaves.", registry=registry)
        self.refused = Total(
            "broker_counts_refused_total", "Notes that were passed over, by reason.", ("reason",), registry=registry
        )
        self.lost = Total(
            "broker_counts_lost_total", "Records that were removed before they were read.", registry=registry
        )
        self.failures = Total(
            "broker_counts_failures_total", "Times that it began again, by type of error.", ("kind",),
            registry=registry,
        )  # fmt: skip
        self.behind = Gauge("broker_counts_behind_records", "Records that are not read yet.", registry=registry)

    def text(self) -> bytes:
        """For Prometheus."""
        return generate_latest(self.registry)


class CountKeeper:
    """See the module.

    Args:
        origin: of the installation's logs. registry: has the parties' keys. tail: follows the state's topic.
    """

    def __init__(
        self,
        origin: str,
        clients: Clients,
        registry: RegistryView,
        tail: CompactedTail,
        metrics: KeeperMetrics,
        config: KeeperConfig | None = None,
        places: Places = PLACES,
        transactional_id: str = COUNT_KEEPER,
    ) -> None:
        self._origin, self._clients, self._registry, self._tail = origin, clients, registry, tail
        self._metrics, self._config, self._places = metrics, config or KeeperConfig(), places
        self._id = transactional_id
        self._engine = EngineConfig(backoff_s=self._config.backoff_s, fenced_backoff_s=self._config.backoff_s[0])
        self._failures = 0
        self._budget = Budget()
        self.stands = False

    async def run(self) -> None:
        """Make leaves until cancelled."""
        while True:
            producer, consumer = self._clients.producer(self._id, self._engine), self._consumer()
            try:
                flows = await self._take_over(producer, consumer)
                self.stands = True
                while True:
                    await self._step(producer, consumer, flows)
            except (Exception, asyncio.CancelledError) as error:
                self.stands = False
                if told_to_end():
                    raise
                await asyncio.sleep(self._tell(error))
            finally:
                await asyncio.gather(
                    end_within(consumer.stop(), self._config.stop_s),
                    end_within(stop_producer(producer), self._config.stop_s),
                )

    def _tell(self, error: BaseException) -> float:
        """Say what is wrong; for how many seconds to pause."""
        pause = pause_s(self._engine, self._failures, error)
        self._failures += 1
        self._metrics.failures.labels(type(error).__name__).inc()
        log.warning("counts.retry", error=told(error), retry_s=pause)
        return pause

    def _consumer(self) -> AIOKafkaConsumer:
        return self._clients.consumer(
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=4 << 20,
        )

    async def _take_over(self, producer: LaneProducer, consumer: AIOKafkaConsumer) -> dict[str, Last]:
        """Shut out whoever else does this, and stand where the last transaction ended; gives the last counts."""
        places = self._places
        async with asyncio.timeout(self._config.takeover_s):
            await producer.start()
            written = await settle(producer, [places.state, places.control])
            await self._tail.passed({places.state.partition: written[places.state]})
            flows, position = read_state(self._tail.values, places.position_key)
            await consumer.start()
            consumer.assign([places.source])
            first = (await consumer.beginning_offsets([places.source]))[places.source]
            end = (await consumer.end_offsets([places.source]))[places.source]
        if position > end:  # the topic was made anew; who is in `flows` gets no second leaf by reading all of it
            log.warning("counts.anew", topic=places.source.topic, position=position, end=end)
            position = first
        elif 0 < position < first:
            log.error("counts.lost", topic=places.source.topic, first=position, last=first - 1)
            self._metrics.lost.inc(first - position)
        consumer.seek(places.source, max(position, first))
        self._budget = Budget()  # what a transaction spent that failed is not spent
        log.info("counts.took_over", position=max(position, first), flows=len(flows))
        return flows

    async def _step(self, producer: LaneProducer, consumer: AIOKafkaConsumer, flows: dict[str, Last]) -> None:
        source = self._places.source
        idle_ms = int(self._config.idle_s * 1000)
        fetched = await consumer.getmany(source, timeout_ms=idle_ms, max_records=self._config.batch)
        records: list[ConsumerRecord] = fetched.get(source, [])
        end = consumer.highwater(source)
        if records:
            async with asyncio.timeout(self._config.takeover_s):  # a key that was there before the note counts
                await self._registry.confirmed_after(time.monotonic())
            parties = self._registry.current.parties.values()
            keys = {party.id: party.count_verifiers() for party in parties}
            notes = [(record.value, record.timestamp) for record in records]
            kept = judge(notes, keys, self._origin, flows, self._budget)
            await write_kept(producer, self._places, kept, records[-1].offset + 1)
            flows |= kept.flows
            tell(kept, self._metrics, records[0].offset, records[-1].offset)
            self._failures = 0
        if end is not None:
            self._metrics.behind.set(max(0, end - (await consumer.position(source))))


def tell(kept: Kept, metrics: KeeperMetrics, first: int, last: int) -> None:
    """Count and tell what came of the notes at these offsets."""
    metrics.leaves.inc(len(kept.leaves))
    for reason, number in kept.refused.items():
        metrics.refused.labels(reason).inc(number)
        log.warning("counts.refused", reason=reason, number=number, first=first, last=last)
    if kept.often:
        log.warning("counts.often", parties=sorted(kept.often))


async def write_kept(producer: LaneProducer, places: Places, kept: Kept, position: int) -> None:
    """Write leaves, last counts and position in one transaction; who was shut out fails here."""
    state: dict[str, dict[str, Any]] = {flow: {"last": its.last, "text": its.text} for flow, its in kept.flows.items()}
    state[places.position_key] = {"next": position}
    control, where = places.control, places.state
    outgoing = [Outgoing(control.topic, control.partition, None, leaf) for leaf in kept.leaves]
    for key, value in state.items():
        data = json.dumps(value, separators=(",", ":")).encode()
        outgoing.append(Outgoing(where.topic, where.partition, key.encode(), data))
    await producer.begin_transaction()
    await write(producer, pack(producer, outgoing))
    await producer.commit_transaction()


def read_state(records: Mapping[str, bytes], position_key: str) -> tuple[dict[str, Last], int]:
    """The last counts by flow, and the next offset to read; 0 if there is none.

    Raises:
        ConfigError: `counts.state`: a record is something else.
    """
    flows, position = dict[str, Last](), 0
    try:
        for key, data in records.items():
            value = json.loads(data)
            if key == position_key:
                position = int(value["next"])
            elif not key.startswith("@"):
                flows[key] = Last(int(value["last"]), str(value["text"]))
    except (ValueError, TypeError, LookupError):
        raise ConfigError(
            f"{STATE_TOPIC} has a record that can not be read, so no count becomes a leaf. Restore the topic from a "
            f"backup.",
            code="counts.state",
        ) from None
    return flows, position


class CountService:
    """The process behind `broker auditlog counts`.

    Args:
        origin: of the installation's logs. http: host and port of probes and metrics; None: none.
    """

    def __init__(self, origin: str, clients: Clients, *, http: tuple[str, int] | None = None) -> None:
        self._clients, self._http = clients, http
        self.metrics = KeeperMetrics()
        self._view, self._tail = RegistryView(clients), CompactedTail(clients, STATE_TOPIC)
        self._keeper = CountKeeper(origin, clients, self._view, self._tail, self.metrics)

    async def run(self) -> None:
        """Make leaves until cancelled; what it began is ended then."""
        health = HealthServer(lambda: True, lambda: self._keeper.stands, self.metrics.text)
        topics = TopicCounts(self._clients)
        try:
            await topics.require([TOPIC, STATE_TOPIC, AUDIT_CONTROL, self._view.topic])
        finally:
            await topics.close()
        async with asyncio.TaskGroup() as group:
            try:
                if self._http is not None:
                    await health.start(*self._http)
                for work in (self._view.run(), self._tail.run(), self._keeper.run()):
                    group.create_task(work)
                await asyncio.Event().wait()
            finally:
                await health.stop()

"""How a lane writes: one transaction per batch, and the aborted one that settles what its last owner left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaError, NodeNotReadyError
from aiokafka.protocol.transaction import EndTxnRequest

from broker.engine.config import EngineConfig
from broker.exchange.model import (
    AUDIT_CONTROL,
    AUDIT_EVENTS,
    AUDIT_INDEX,
    LANE_STATE,
    PARKED,
    REGISTRY,
    VAULT,
    Outgoing,
)
from broker.exchange.state import lane_partition

log = structlog.get_logger()

OWN_TOPICS = (AUDIT_EVENTS, AUDIT_CONTROL, AUDIT_INDEX, LANE_STATE, PARKED)


class LaneProducer(AIOKafkaProducer):  # type: ignore[misc] # aiokafka publishes no types
    """A producer that looks once more in the very moment when a commit goes out.

    `commit_transaction` only asks aiokafka's sender for it. Until the request is written others may hold up the event
    loop, the process may be stopped and go on seconds later (SIGSTOP, a machine without a core for it), and a request
    that failed is sent again and again, even after the lane gave up. What permitted the commit may be gone by then.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._look: Callable[[], object] = lambda: None
        self._forbidden: Exception | None = None
        self._send = self.client.send
        self.client.send = self._send_if_permitted

    def include(self, places: Iterable[TopicPartition]) -> None:
        """Have the end of the open transaction marked in these partitions too, though nothing is written there."""
        for place in places:
            self._txn_manager.maybe_add_partition_to_txn(place)

    async def commit(self, look: Callable[[], object]) -> None:
        """Commit the open transaction.

        Args:
            look: called each time right before the request is written; what it raises keeps it from being sent.

        Raises:
            Exception: what `look` raised; the transaction stays open, and this producer can do nothing any more.
        """
        self._look = look
        try:
            await self.commit_transaction()
        except KafkaError:
            if self._forbidden is not None:
                raise self._forbidden from None
            raise

    async def _send_if_permitted(self, node: int, request: Any, *, group: int = ConnectionGroup.DEFAULT) -> Any:
        if isinstance(request, EndTxnRequest) and request._transaction_result:
            if not await self.client.ready(node, group=group):  # to connect takes time, so not after the look
                raise NodeNotReadyError
            try:
                self._look()
            except Exception as reason:
                self._forbidden = reason
                raise _Forbidden from reason
        return await self._send(node, request, group=group)  # connected: written before anything else can run


class _Forbidden(Exception):
    """Ends aiokafka's sender, and with it the wait for the commit; on a KafkaError it would try again."""


def lane_producer(client: Mapping[str, Any], lane: str, config: EngineConfig) -> LaneProducer:
    """A producer under the lane's transactional id; starting it shuts every older one out."""
    return LaneProducer(
        **sending(client, config),
        transactional_id=lane,
        transaction_timeout_ms=int(config.transaction_timeout_s * 1000),
    )


def sending(client: Mapping[str, Any], config: EngineConfig) -> dict[str, Any]:
    """How a lane's producer sends, transactions or not; settings as aiokafka's."""
    return {
        **client,
        "acks": "all",
        "linger_ms": 0,
        "max_batch_size": config.send_bytes,
        "max_request_size": 4 << 20,
        "compression_type": config.compression,
        "retry_backoff_ms": 20,
    }


def settle_partitions(
    lane: str, party: str, outputs: Iterable[str], flows: Iterable[str], count: Callable[[str], int]
) -> set[TopicPartition]:
    """All partitions that a lane may have written to, as far as they exist.

    Args:
        outputs: names of output topics; those that do not exist are left out.
        flows: `topic/partition`, as the lane's state counts them.
        count: partitions of a topic; 0 if there is none.
    """
    found = {TopicPartition(topic, lane_partition(lane, count(topic))) for topic in OWN_TOPICS}
    for topic in (VAULT, REGISTRY, f"status.{party}", f"quarantine.{party}", f"out.{party}.control", *outputs):
        found.update(TopicPartition(topic, number) for number in range(count(topic)))
    for flow in flows:
        topic, _, number = flow.rpartition("/")
        if int(number) < count(topic):
            found.add(TopicPartition(topic, int(number)))
    return found


async def settle(producer: AIOKafkaProducer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """Abort an empty transaction over these partitions; the offsets of its records.

    When a partition has no leader for a moment, Kafka 4.3 "completes" transactions without writing their markers
    there (KAFKA-20734). Such a transaction is neither visible nor gone: our next commit would make it visible, after
    we repeated it. Our abort marker ends it for good.
    """
    places = list(partitions)
    await producer.begin_transaction()
    # At once, since a new producer asks for the metadata of each topic.
    sent = await asyncio.gather(*(producer.send(p.topic, b"", key=b"settle", partition=p.partition) for p in places))
    written = await asyncio.gather(*sent)
    await producer.abort_transaction()
    return {place: record.offset for place, record in zip(places, written, strict=True)}


@dataclass(frozen=True, slots=True)
class Packed:
    """Records of one partition in the form in which they are sent."""

    topic: str
    partition: int
    builder: Any
    count: int


def pack(producer: AIOKafkaProducer, outgoing: Sequence[Outgoing]) -> list[Packed]:
    """Put records into batches, in order within each partition. Asks nobody."""
    # Stable sort: the order within a partition stays.
    ordered = sorted(outgoing, key=lambda record: record[:2])
    packed = []
    for (topic, partition), records in groupby(ordered, key=lambda record: record[:2]):
        builder = producer.create_batch()
        for record in records:
            item = {"key": record.key, "value": record.value, "timestamp": None, "headers": list(record.headers)}
            if builder.append(**item) is None:  # full; the first record of a batch always fits
                packed.append(Packed(topic, partition, builder, builder.record_count()))
                builder = producer.create_batch()
                builder.append(**item)
        packed.append(Packed(topic, partition, builder, builder.record_count()))
    return packed


async def write(producer: AIOKafkaProducer, packed: Sequence[Packed]) -> dict[tuple[str, int], int]:
    """Send batches inside the open transaction and wait until all are written.

    Returns:
        The offset of the last record of each (topic, partition).
    """
    futures = [await producer.send_batch(p.builder, p.topic, partition=p.partition) for p in packed]
    written = await asyncio.gather(*futures)  # commit_transaction does not look at these
    return {(p.topic, p.partition): done.offset + p.count - 1 for p, done in zip(packed, written, strict=True)}


async def stop_producer(producer: LaneProducer) -> None:
    """End one that is not needed any more, with all that it leaves."""
    try:
        await producer.stop()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - raises what its sender died of, and leaks
        log.debug("lane.producer_stop", error=type(error).__name__)
    await producer.client.close()  # sockets and a task stay behind without this

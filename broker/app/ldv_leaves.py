"""Where the exporter gets leaves from: the topic `audit.events`, committed records only, in a group of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from broker.client.published import missing_topic
from broker.errors import ConfigError, TransientError
from broker.exchange.model import AUDIT_EVENTS
from broker.kafka.access import LDV_EXPORTER
from broker.kafka.closing import ClosingConsumer
from broker.kafka.connection import KafkaConnection
from broker.kafka.diagnosis import explain
from broker.kafka.reading import looking, partitions_of

log = structlog.get_logger("broker.ldv")

FETCH_RECORDS: Final = 5_000
FETCH_MS: Final = 500
STALL_S: Final = 30.0


class Place(NamedTuple):
    """A partition."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A record of the audit topic."""

    place: Place
    offset: int
    value: bytes = field(repr=False)


class Leaves(Protocol):
    """The exporter's seam to Kafka."""

    async def fetch(self) -> list[Leaf]:
        """What comes next, each partition in order; empty when nothing came for a moment.

        Raises:
            ConfigError: `ldv.lost`, leaves are gone that were never exported; `kafka.*`.
        """

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """Everything before these offsets is done; after a restart it goes on there."""

    def ends(self) -> Mapping[Place, int]:
        """The end of each partition that is read here, as far as it is known."""


def group_of(board: str | None) -> str:
    """The consumer group of a board's exporter; None: that of the broker's own register."""
    return f"{LDV_EXPORTER}.own" if board is None else f"{LDV_EXPORTER}.board.{board}"


class KafkaLeaves:
    """Leaves of a real cluster. Use `async with`.

    A group that has no position yet begins with the oldest leaf that there is. One whose position is not on the topic
    any more does not go on: what stood there was removed and never exported, or the topic is another one.
    """

    def __init__(self, connection: KafkaConnection, board: str | None) -> None:
        self._connection, self.group = connection, group_of(board)
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        """Connect and join the group.

        Raises:
            ConfigError: what is wrong with the connection, or `topic.missing`.
        """
        consumer = ClosingConsumer(
            **self._connection.aiokafka(), group_id=self.group, isolation_level="read_committed",
            enable_auto_commit=False, auto_offset_reset="none",
        )  # fmt: skip
        try:
            await consumer.start()
            # Kafka shows a topic only to who may read it; subscribing to another one would wait for ever.
            if AUDIT_EVENTS not in await consumer.topics():
                raise missing_topic(AUDIT_EVENTS, self._connection.username)
        except KafkaError as error:
            await consumer.stop()
            raise explain(error, self._connection) from error
        except BaseException:
            await consumer.stop()
            raise
        consumer.subscribe([AUDIT_EVENTS])
        self._consumer = consumer
        await self._joined(consumer)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the group."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def _joined(self, consumer: AIOKafkaConsumer) -> None:
        """Wait for a share of the topic; a member too many has none until another one leaves."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STALL_S):
                while not consumer.assignment():  # noqa: ASYNC110 - there is no event for it
                    await asyncio.sleep(0.05)

    @property
    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise ConfigError("The leaves were not opened; use `async with`.", code="client.not_started")
        return self._consumer

    async def fetch(self) -> list[Leaf]:
        """See Leaves."""
        consumer = self._started
        try:
            got = await consumer.getmany(timeout_ms=FETCH_MS, max_records=FETCH_RECORDS)
        except NoOffsetForPartitionError:
            await self._begin(consumer)
            return []
        except OffsetOutOfRangeError as error:
            where = ", ".join(sorted(f"{p.topic}/{p.partition}" for p in error.args[0])) if error.args else AUDIT_EVENTS
            raise ConfigError(
                f"The position of {self.group} is not on {where} any more: leaves are gone that were not exported, or "
                "the topic was made anew. Find out which; then set the group's position with Kafka's own tool.",
                code="ldv.lost",
            ) from error
        except KafkaError as error:
            raise explain(error, self._connection) from error
        return [
            Leaf(Place(partition.topic, partition.partition), record.offset, record.value or b"")
            for partition, records in got.items()
            for record in records
        ]

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        """Stand at the beginning of those partitions in which nothing was ever exported."""
        for partition in consumer.assignment():
            if await consumer.committed(partition) is None:
                with suppress(IllegalStateError):  # it went to another member meanwhile
                    await consumer.seek_to_beginning(partition)

    async def commit(self, positions: Mapping[Place, int]) -> None:
        """See Leaves. A position that can not be committed is no loss: those lines are sent again."""
        consumer = self._started
        mine = {TopicPartition(*place): offset for place, offset in positions.items()}
        mine = {partition: offset for partition, offset in mine.items() if partition in consumer.assignment()}
        if not mine:
            return
        try:
            await consumer.commit(mine)
        except KafkaError as error:
            if not (error.retriable or isinstance(error, CommitFailedError | IllegalStateError)):
                raise explain(error, self._connection) from error
            log.warning("ldv.commit", code="ldv.commit", error=type(error).__name__, partitions=len(mine))

    def ends(self) -> Mapping[Place, int]:
        """See Leaves."""
        found = {}
        for partition in self._started.assignment():
            with suppress(IllegalStateError):
                end = self._started.last_stable_offset(partition)
                if end is not None and end >= 0:
                    found[Place(partition.topic, partition.partition)] = end
        return found


async def all_leaves(connection: KafkaConnection) -> AsyncIterator[Leaf]:
    """Every committed leaf up to the present end, partition by partition. Commits nothing, joins no group.

    Raises:
        ConfigError: `topic.missing`, `kafka.*`. TransientError: `ldv.unavailable`, Kafka stopped answering.
    """
    consumer = looking(connection)
    try:
        await consumer.start()
        if AUDIT_EVENTS not in await consumer.topics():
            raise missing_topic(AUDIT_EVENTS, connection.username)
        for partition in await partitions_of(consumer, AUDIT_EVENTS, STALL_S):
            async for leaf in _partition(consumer, partition):
                yield leaf
    except TimeoutError as error:
        raise TransientError(
            f"{AUDIT_EVENTS} could not be read to its end: Kafka does not answer in time. Try again later.",
            code="ldv.unavailable",
        ) from error
    except KafkaError as error:
        raise explain(error, connection) from error
    finally:
        await consumer.stop()


async def _partition(consumer: AIOKafkaConsumer, partition: TopicPartition) -> AsyncIterator[Leaf]:
    consumer.assign([partition])
    consumer.seek(partition, (await consumer.beginning_offsets([partition]))[partition])
    end = (await consumer.end_offsets([partition]))[partition]
    place, moved = Place(*partition), time.monotonic()
    while (position := await consumer.position(partition)) < end:
        for records in (await consumer.getmany(timeout_ms=FETCH_MS, max_records=FETCH_RECORDS)).values():
            for record in records:
                yield Leaf(place, record.offset, record.value or b"")
        if await consumer.position(partition) > position:
            moved = time.monotonic()
        elif time.monotonic() - moved > STALL_S:
            raise TimeoutError
